"""Text metrics: published values, invariances, and what they refuse."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from revtaf.eval import nlg
from revtaf.eval.protocol import PROTOCOLS
from revtaf.files import read_json

REFERENCES = [
    "the heart is normal in size . the lungs are clear .",
    "no pleural effusion or pneumothorax . the mediastinum is unremarkable .",
    "there is a small left pleural effusion . mild cardiomegaly .",
]
HYPOTHESES = [
    "the heart size is normal . the lungs are clear . ",
    "the lungs are clear . no pneumothorax . ",
    "mild cardiomegaly with a small left effusion . ",
]
# Published by Maluuba/nlg-eval for its two example files.
PUBLISHED = {
    "BLEU_1": 0.55,
    "BLEU_2": 0.428174,
    "BLEU_3": 0.284043,
    "BLEU_4": 0.201143,
    "METEOR": 0.295797,
    "ROUGE_L": 0.522104,
    "CIDEr": 1.242192,
}


def published_example(folder):
    hypotheses, first, second = (
        (folder / "nlg_expected" / f"{name}.txt").read_text().splitlines() for name in ("hyp", "ref1", "ref2")
    )
    return [list(pair) for pair in zip(first, second, strict=True)], hypotheses


def test_published_values_with_two_references_without_meteor(shared_data):
    scores = nlg.compute(*published_example(shared_data), meteor=False)
    assert scores.pop("METEOR") is None
    assert scores == pytest.approx({k: v for k, v in PUBLISHED.items() if k != "METEOR"}, abs=1e-6)


def test_published_value_of_meteor(shared_data, meteor):
    scores = nlg.compute(*published_example(shared_data), meteor=meteor)
    assert list(scores) == list(nlg.METRICS)
    assert scores == pytest.approx(PUBLISHED, abs=1e-6)


@pytest.mark.parametrize("name", ["revtaf", "raw"])
def test_iu_reports_score_as_in_coco(shared_data, name):
    """Every corpus figure and every sample to 1e-9, under two tokenisations; the hypotheses are other reports."""
    annotation, protocol = read_json(shared_data / "iu_xray" / "annotation.json"), PROTOCOLS[name]
    references = [protocol.reference(s["report"]) for s in annotation["val"]]
    hypotheses = [protocol.hypothesis(s["report"]) for s in annotation["train"][: len(references)]]
    gts, res = ({i: [t] for i, t in enumerate(texts)} for texts in (references, hypotheses))
    (bleu, bleus), (rouge, rouges), (cider, ciders) = (
        scorer.compute_score(gts, res, **options)
        for scorer, options in ((Bleu(4), {"verbose": 0}), (Rouge(), {}), (Cider(), {}))
    )
    corpus, samples = [*bleu, rouge, cider], [*bleus, rouges, ciders]
    metrics = nlg.metrics(references, hypotheses)
    assert list(metrics) == [m for m in nlg.METRICS if m != "METEOR"]
    assert [m.corpus for m in metrics.values()] == pytest.approx(corpus, abs=1e-9)
    for metric, expected in zip(metrics.values(), samples, strict=True):
        assert metric.per_sample == pytest.approx(expected, abs=1e-9), metric.name


def test_metrics_and_values_agree_and_meteor_needs_a_client(meteor):
    metrics = nlg.metrics(REFERENCES, HYPOTHESES, meteor)
    assert {name: m.corpus for name, m in metrics.items()} == nlg.compute(REFERENCES, HYPOTHESES, meteor=meteor)
    assert list(metrics) == list(nlg.METRICS) and all(m.name == name for name, m in metrics.items())
    assert {len(m.statistics) for m in metrics.values()} == {3}


def test_a_part_of_the_statistics_is_worth_what_the_part_scores():
    """What intervals rest on. CIDEr with a fixed idf, since its own references would change with the part."""
    metrics = nlg.metrics(REFERENCES, HYPOTHESES, cider_references=REFERENCES)
    part = nlg.metrics(REFERENCES[1:], HYPOTHESES[1:], cider_references=REFERENCES)
    for name, metric in metrics.items():
        assert float(metric.value(metric.statistics[1:].sum(axis=0))) == pytest.approx(part[name].corpus), name


def test_no_texts_for_the_idf_are_refused():
    with pytest.raises(ValueError, match="document frequencies"):
        nlg.metrics(REFERENCES, HYPOTHESES, cider_references=[])


def test_a_very_long_prediction_is_scored():
    metrics = nlg.metrics(REFERENCES, [*HYPOTHESES[:2], "the lungs are clear . " * 10_000])
    assert all(np.isfinite(m.per_sample).all() for m in metrics.values())


def test_order_of_samples_does_not_matter(meteor):
    order = [2, 0, 1]
    straight = nlg.compute(REFERENCES, HYPOTHESES, meteor=meteor)
    shuffled = nlg.compute([REFERENCES[i] for i in order], [HYPOTHESES[i] for i in order], meteor=meteor)
    assert shuffled == pytest.approx(straight, rel=1e-12)


def test_one_text_and_a_list_of_one_text_are_the_same():
    plain = nlg.compute(REFERENCES, HYPOTHESES, meteor=False)
    assert nlg.compute([[r] for r in REFERENCES], HYPOTHESES, meteor=False) == plain


def test_perfect_hypotheses():
    scores = nlg.compute(REFERENCES, REFERENCES, meteor=False)
    assert [scores[f"BLEU_{n}"] for n in range(1, 5)] == pytest.approx([1.0] * 4)
    assert scores["ROUGE_L"] == pytest.approx(1.0) and scores["CIDEr"] == pytest.approx(10.0)


def test_bleu_by_hand_with_brevity_penalty():
    """2 of 2 words match, one pair of two; 3 reference words: exp(1 - 3/2)."""
    scores = nlg.compute(["a b c"], ["a b"], meteor=False)
    assert scores["BLEU_1"] == pytest.approx(0.60653, abs=1e-5)
    assert scores["BLEU_2"] == pytest.approx(0.60653, abs=1e-5)


def test_rouge_by_hand_and_the_empty_word_of_a_final_blank():
    """LCS 2 of 2 and of 3 words, beta 1.2; a final blank adds a word to the hypothesis: 2 of 3."""
    beta = 1.2**2
    scores = nlg.compute(["a b c"], ["a b"], meteor=False)
    assert scores["ROUGE_L"] == pytest.approx((1 + beta) * (2 / 3) / (2 / 3 + beta))
    assert nlg.compute(["a b c"], ["a b "], meteor=False)["ROUGE_L"] == pytest.approx(2 / 3)


def test_empty_hypotheses_score_zero():
    scores = nlg.compute(REFERENCES, ["", " ", ""], meteor=False)
    assert all(value < 1e-6 for name, value in scores.items() if name != "METEOR")


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ([], [], "nothing to score"),
        (["a"], ["a", "b"], "1 references and 2 hypotheses"),
        ([[]], ["a"], "sample 0 has no reference"),
        (["", ""], ["a", "b"], "no reference holds a word"),
    ],
)
def test_refusals(references, hypotheses, message):
    with pytest.raises(ValueError, match=message):
        nlg.compute(references, hypotheses, meteor=False)
