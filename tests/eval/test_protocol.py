"""Protocols: what each does to a text, exactly once, and a signature that says so."""

import re
import unicodedata

import numpy as np
import pytest
from languages import LANGUAGES
from pycocoevalcap.rouge.rouge import Rouge

from revtaf.data.text import clean_report, clean_words, closed_up
from revtaf.errors import UserError
from revtaf.eval import nlg, rouge
from revtaf.eval.protocol import PROTOCOL, PROTOCOLS, UNKNOWN, Processed, form_notes, postprocess, reference_text
from revtaf.tokenizer import ReportTokenizer

RAW = "1. The heart is well-expanded.  No 2.5 cm mass (___); patient's T1 is   intact.\n2. Clear."
DECODED = "1. the heart is well - expanded. no 2. 5 cm mass ( ) ; patient ' s t1 is intact. 2. clear."
every = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def test_decoder_text_gets_the_spacing_of_the_references():
    assert postprocess("well - expanded. no effusions.") == "well-expanded . no effusions . "
    assert postprocess("") == " " and postprocess("2.5 cm") == "2.5 cm "


def test_a_second_pass_would_change_rouge():
    """Why it is applied exactly once: doubled blanks are words to ROUGE-L, and nothing to BLEU."""
    reference, once = "the lungs are clear . no effusion .", postprocess("the lungs are clear. no effusion.")
    unmarked = str(once)  # as read back from a file
    first, second = (nlg.compute([reference], [h], meteor=False) for h in (once, postprocess(unmarked)))
    assert second["ROUGE_L"] < first["ROUGE_L"] and second["BLEU_4"] == first["BLEU_4"]


@every
def test_no_protocol_takes_a_processed_text(protocol):
    """Neither its own nor another protocol's, on either side."""
    processed = [protocol.reference(RAW), PROTOCOL.hypothesis(DECODED), Processed("no effusion .")]
    for text in processed:
        for process in (protocol.reference, protocol.hypothesis):
            with pytest.raises(TypeError, match="processed already"):
                process(text)


@every
@pytest.mark.parametrize("text", ["", " ", ".", "a", "\n\n", "1. ", "___", "-", "µm é 肺", "||| \x00", RAW])
def test_odd_texts_become_one_line(protocol, text):
    for processed in (protocol.reference(text), protocol.hypothesis(text)):
        assert isinstance(processed, str)
    assert "\n" not in protocol.reference(text)


def test_references_are_cut_at_100_words():
    text = reference_text("word " * 150)
    assert len(text.split(" ")) == 100


@pytest.mark.parametrize("text", ["", RAW, "word " * 150, "a.b. " * 60, "Clear.  Two  blanks. "])
def test_references_of_the_papers_protocol_are_the_cleaned_reports(text):
    assert reference_text(text) == clean_report(text, max_words=100)


def test_names_and_choices():
    assert list(PROTOCOLS) == ["revtaf", "r2gen", "r2gen-iu", "cvt2distilgpt2", "raw", "clean", "unicode"]
    assert PROTOCOLS["revtaf"] is PROTOCOL
    assert all(name == p.name and p.description and p.choices for name, p in PROTOCOLS.items())
    signatures = [p.signature(1, "x", "no-java").split("|", 1)[1] for p in PROTOCOLS.values()]
    assert len(set(signatures)) == len(signatures), "protocols that differ must differ in more than their names"


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("The lungs  are clear.", "The lungs are clear."),
        ("No  effusion.  No edema.", "no effusion.  No edema."),
        ("Heart size is normal. ", "heart size is normal."),
        (" Stable.", "Stable."),
        ("A   widened mediastinum", "a  widened mediastinum"),
        ("Clear. \n No effusion", "clear. no effusion"),
    ],
)
def test_raw_keeps_doubled_blanks_as_pycocoevalcap_counts_them(reference, hypothesis):
    """The other implementation, on the texts in lower case: each further blank is a word of ROUGE-L. It is signed."""
    raw = PROTOCOLS["raw"]
    assert raw.reference(reference) == reference.lower().replace("\n", " ") and "ref:lower+blanks" in raw.signature(
        1, "x", "no-java"
    )
    ours = rouge.metric([[raw.reference(reference)]], [raw.hypothesis(hypothesis)]).corpus
    assert ours == pytest.approx(Rouge().calc_score([hypothesis.lower()], [reference.lower().replace("\n", " ")]))
    assert ours < 1


def test_clean_by_hand_and_alike_for_raw_and_decoder_text():
    clean = PROTOCOLS["clean"]
    expected = "1 . the heart is well-expanded . no 2 . 5 cm mass ( ) ; patient ' s t1 is intact . 2 . clear ."
    assert clean.reference(RAW) == clean.hypothesis(DECODED) == expected


@pytest.mark.parametrize("seed", range(10))
def test_clean_twice_is_clean_once_and_cuts_no_word(seed):
    """On random strings of letters, digits, hyphens, marks and blanks of all kinds."""
    rng = np.random.default_rng(seed)
    clean = PROTOCOLS["clean"]
    for _ in range(300):
        text = "".join(rng.choice(list("aB1é肺İ-.,_'(\n\t  "), rng.integers(0, 40)))
        once = clean.reference(text)
        assert clean.reference(str(once)) == clean.hypothesis(text) == once
        assert "  " not in once and once == once.strip()
        letters = re.sub(r"[\W_]", "", text.lower())
        assert re.sub(r"[\W_]", "", once) == letters


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_language_can_score_one(language):
    """Under `unicode` what a model has learned and written is its reference, however either is spelled."""
    reports, unicode = LANGUAGES[language], PROTOCOLS["unicode"]
    cleaned = [clean_words(report) for report in reports]
    tokenizer = ReportTokenizer.fit(cleaned, 1000, "other")
    written = [tokenizer.decode(ids) for ids in tokenizer.encode(cleaned)]
    references = [unicode.reference(unicodedata.normalize("NFD", report)) for report in reports]
    assert references == [unicode.hypothesis(text) for text in written]
    scores = nlg.metrics(references, references)
    assert all(scores[name].corpus == pytest.approx(1) for name in ("BLEU_1", "BLEU_4", "ROUGE_L"))
    assert scores["CIDEr"].corpus == pytest.approx(10)
    assert unicode.unmatchable(references) == 0


def test_meteor_in_its_english_setting_gives_equal_texts_one(meteor):
    """Of any language, by the very text that a decoder writes."""
    reports = [report for language in LANGUAGES.values() for report in language]
    references = [PROTOCOLS["unicode"].reference(report) for report in reports]
    found = nlg.meteor_metric(references, references, meteor)
    assert found.corpus == pytest.approx(1) and found.per_sample == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_unicode_twice_is_unicode_once_and_loses_no_letter(seed):
    """On random strings of letters, accents in two characters, marks, Thai vowels, Chinese and what cannot be seen."""
    rng = np.random.default_rng(seed)
    unicode = PROTOCOLS["unicode"]
    for _ in range(300):
        text = "".join(rng.choice(list("aB1éßü\u0308肺。ガหั่İ³-.,_'(\n\t \u200b\u00ad"), rng.integers(0, 40)))
        once = unicode.reference(text)
        assert unicode.reference(str(once)) == unicode.hypothesis(closed_up(once)) == once
        assert "  " not in once and once == once.strip()
        expected = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
        seen = [c for c in expected if not c.isspace() and c not in "_\u200b\u00ad"]
        assert unicodedata.normalize("NFC", once.replace(" ", "")) == unicodedata.normalize("NFC", "".join(seen))


def test_unicode_by_hand():
    unicode = PROTOCOLS["unicode"]
    assert unicode.reference("Größe 2,5 cm, L’aorte; « ÉTAT » cardio-médiastinal. ___") == (
        "größe 2 , 5 cm , l ’ aorte ; « état » cardio - médiastinal ."
    )
    assert unicode.reference("左肺３厘米。") == "左 肺 3 厘 米 。" and unicode.reference("หัวใจ") == "หั ว ใ จ"


def test_rare_words_become_unknown_once_the_training_reports_are_given():
    """Under `r2gen` on both sides; CvT2DistilGPT2's decoder has no such word."""
    train = ["The lungs are clear."] * 9 + ["The lungs are hazy. Clear."]
    fitted = {name: PROTOCOLS[name].fit(train) for name in ("r2gen", "cvt2distilgpt2", "raw")}
    assert fitted["r2gen"].vocabulary == {"the", "lungs", "are", "clear", "."}
    assert fitted["r2gen"].reference("Lungs hazy.") == fitted["r2gen"].hypothesis("lungs hazy.") == "lungs <unk> ."
    assert fitted["cvt2distilgpt2"].reference("Lungs hazy.") == "lungs <unk> ."
    assert fitted["cvt2distilgpt2"].hypothesis("lungs hazy.") == "lungs hazy ."
    assert fitted["raw"] is PROTOCOLS["raw"]
    assert UNKNOWN not in PROTOCOLS["r2gen"].reference("Lungs hazy."), "the protocol itself is unchanged"
    with pytest.raises(UserError, match="no word occurs 10 times"):
        PROTOCOLS["r2gen"].fit(train[:3])


@pytest.mark.parametrize(("name", "reference", "hypothesis"), [
    ("r2gen", 100, 100), ("r2gen-iu", 60, 60), ("cvt2distilgpt2", 100, 151), ("clean", 150, 150),
])  # fmt: skip
def test_lengths(name, reference, hypothesis):
    text = "word " * 150
    assert len(PROTOCOLS[name].reference(text).split()) == reference
    assert len(PROTOCOLS[name].hypothesis(text).split()) == hypothesis


def test_signature():
    assert PROTOCOL.signature(294, "rules-v3", "java17") == (
        "revtaf|n:294|unit:image|ref:mimic-clean+100w|hyp:r2gen-post|bleu:coco-closest|"
        "meteor:1.5jar(1e57b4c7),java17|rouge:coco-b1.2|ce:rules-v3,pos-only,example|v0.1.0"
    )
    assert "|meteor:none|" in PROTOCOL.signature(3, "chexbert", "no-java", unit="study")
    assert "|unit:study|clusters:2subj|ref:" in PROTOCOL.signature(3, "x", "no-java", unit="study", clusters="2subj")


def test_signature_says_which_words_are_unknown():
    r2gen = PROTOCOLS["r2gen"]
    assert "|ref:r2gen-clean+100w+no-unk|" in r2gen.signature(3, "x", "no-java")
    first, second = (r2gen.fit([f"{word} lungs"] * 10).signature(3, "x", "no-java") for word in ("clear", "hazy"))
    assert re.search(r"\|ref:r2gen-clean\+100w\+unk<10\(3w,\w{8}\)\|hyp:r2gen-clean\+100w\+unk<10\(", first)
    assert first != second


PAPER = {
    "plain": "lungs clear . no edema . ",
    "commas": "lungs clear, no edema . ",
    "cased": "Lungs clear . No edema . ",
}


@pytest.mark.parametrize(
    ("rows", "mixed"),
    [
        (["plain"], ""),
        (["cased"], ""),
        (["cased", "commas"], ""),
        (["cased", "plain"], "cased is written with capitals and punctuation, plain is not"),
        (["plain", "commas"], "commas is written with capitals and punctuation, plain is not"),
        (["plain", "commas", "cased"], "commas, cased are written with capitals and punctuation, plain is not"),
    ],
)
def test_what_can_never_match_and_forms_that_meet(rows, mixed):
    shares = {row: PROTOCOL.unmatchable([PAPER[row]]) for row in rows}
    notes = form_notes(shares, shares, PROTOCOL)
    assert [n.split(":")[0] for n in notes if "never match" in n] == [row for row in rows if row != "plain"]
    assert [n.split(":")[0] for n in notes if "never match" not in n] == ([mixed] if mixed else [])
    assert all("--protocol clean" in note for note in notes)


def test_no_token_of_a_protocols_own_references_is_called_unmatchable():
    for protocol in PROTOCOLS.values():
        assert protocol.unmatchable([protocol.reference(RAW)]) == 0, protocol.name


def test_punctuation_alone_may_tell_systems_apart_where_both_sides_keep_it():
    """`clean` keeps commas as words: a system that writes none can never match them."""
    notes = form_notes({"a": 0.0, "b": 0.0}, {"a": 0.2, "b": 0.0}, PROTOCOLS["clean"])
    assert len(notes) == 1 and "a is written with punctuation, b is not" in notes[0] and "--protocol r2gen" in notes[0]
