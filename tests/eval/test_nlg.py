"""Text metrics: published values, invariances, and what they refuse."""

import pytest

from revtaf.eval import nlg

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
