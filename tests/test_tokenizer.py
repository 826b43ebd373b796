import pytest

from revtaf.errors import UserError
from revtaf.tokenizer import BERT_TOKENS, PROMPT_TOKENS, ReportTokenizer

REPORTS = ["the heart is normal . no effusion .", "the lungs are well-expanded . no effusion .", "the heart is large ."]


def test_the_same_reports_give_the_same_vocabulary():
    """Fitting is repeatable: ties between equally frequent words are not broken at random."""
    vocabularies = [ReportTokenizer.fit(REPORTS, 50).tokenizer.get_vocab() for _ in range(3)]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]


def test_a_report_comes_back_with_punctuation_attached():
    """Decoding gives the text that the protocol's post-processing expects, special tokens gone."""
    t = ReportTokenizer.fit(REPORTS, 50)
    ids = t.encode(["the heart is normal . no effusion ."])[0]
    assert t.decode([t.start, *ids, t.end, *ids]) == "the heart is normal. no effusion."
    assert t.decode(t.encode(["zebra heart"])[0]) in ("heart", "[UNK] heart", "zebra heart")


def test_a_rare_word_is_spelled():
    """A word seen once is not lost: it is written in characters and decoded whole."""
    t = ReportTokenizer.fit(REPORTS, 50)
    ids = t.encode(["lungs"])[0]
    assert len(ids) == 5
    assert t.decode(ids) == "lungs"


def test_prompt_tokens_come_behind_a_given_vocabulary(tmp_path):
    """Rows of pretrained word embeddings keep their places."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*BERT_TOKENS, "heart", "normal"]))
    t = ReportTokenizer.from_vocabulary(path)
    assert t.encode(["Heart normal"]) == [[5, 6]]
    assert [t.start, *t.statuses] == [7, 8, 9, 10, 11] and t.size == 7 + len(PROMPT_TOKENS)
    t.save(tmp_path / "t.json")
    assert ReportTokenizer.load(tmp_path / "t.json").tokenizer.get_vocab() == t.tokenizer.get_vocab()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_line_of_a_vocabulary_ends_where_bert_ends_it(tmp_path, ending):
    """bert-base-chinese has U+2028 as a token, at which `str.splitlines` cuts: all later rows would be shifted."""
    path = tmp_path / "vocab.txt"
    path.write_bytes("".join(f"{token}{ending}" for token in [*BERT_TOKENS, "\u2028", "heart"]).encode())
    t = ReportTokenizer.from_vocabulary(path)
    assert t.encode(["heart"]) == [[6]] and t.start == 7


@pytest.mark.parametrize("content", [None, "heart\nnormal\n"])
def test_a_vocabulary_that_is_none_is_refused(tmp_path, content):
    """A missing file and one without BERT's tokens are errors that name the file."""
    path = tmp_path / "vocab.txt"
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match="vocab.txt"):
        ReportTokenizer.from_vocabulary(path)


@pytest.mark.parametrize("language", ["en", "other"])
def test_a_fitted_vocabulary_keeps_accents(language, tmp_path):
    """Whatever is set, and whether a letter and its accent are one character or two."""
    t = ReportTokenizer.fit(["größe und épanchement"] * 2, 100, language)
    assert {"größe", "épanchement"} <= t.tokenizer.get_vocab().keys()
    t.save(tmp_path / "t.json")
    again = ReportTokenizer.load(tmp_path / "t.json")
    assert again.language == language
    assert again.decode(again.encode(["GRÖSSE größe"])[0]) == t.decode(t.encode(["GRÖSSE größe"])[0]) != "grosse grosse"


def test_chinese_is_read_and_written_by_characters():
    t = ReportTokenizer.fit(["双 肺 清 晰 。"], 100, "other")
    ids = t.encode(["双肺清晰。"])[0]
    assert len(ids) == 5 and t.decode(ids) == "双肺清晰。"


def test_words_of_other_languages_are_not_joined_as_english_ones():
    """BERT's decoder makes "don't" of "do not", also where it stands in "do notável"."""
    text = "sinais do notável ' s"
    t = ReportTokenizer.fit([text] * 2, 100, "other")
    assert t.decode(t.encode([text])[0]) == text
