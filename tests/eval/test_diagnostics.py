"""Diagnostics: worked by hand, and indifferent to the order of the samples."""

import json
import math

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from revtaf.eval.diagnostics import by_length, diagnose, extremes, length_histogram, study_rows

REFERENCES = ["lungs clear .", "heart large . small effusion .", "no edema .", " ."]
HYPOTHESES = ["lungs clear . ", "lungs  Clear . ", "no large edema . ", " "]


def test_worked_by_hand():
    found = diagnose(REFERENCES, HYPOTHESES, train_reports=["no large edema .", "other ."])
    assert found["reference_words"] == {"mean": 13 / 4, "median": 3, "min": 1, "max": 6}
    assert found["hypothesis_words"] == {"mean": 10 / 4, "median": 3, "min": 0, "max": 4}
    assert found["brevity_ratio"] == pytest.approx(10 / 13)
    assert found["brevity_penalty"] == pytest.approx(math.exp(1 - 13 / 10))
    assert found["share_empty_hypotheses"] == 0.25
    assert found["share_repeated_hypotheses"] == found["share_most_frequent_hypothesis"] == 0.5  # blanks, case aside
    assert found["share_copied_from_training"] == 0.25
    assert (found["distinct_hypotheses"], found["distinct_references"]) == (3, 4)
    assert (found["hypothesis_vocabulary"], found["reference_vocabulary"]) == (6, 9)
    assert (found["samples"], found["studies"]) == (4, 4)
    json.dumps(found)  # goes into report.json as it is


def test_brevity_is_bleu_s():
    """BLEU-1 is the precision of words times the penalty: all words of this hypothesis are right."""
    references, hypotheses = ["a b c d e f", "g h i"], ["a b c", "g h"]
    bleu, _ = Bleu(1).compute_score(dict(enumerate([r] for r in references)), {0: ["a b c"], 1: ["g h"]}, verbose=0)
    assert diagnose(references, hypotheses)["brevity_penalty"] == pytest.approx(bleu[0], abs=1e-6)
    assert diagnose(["a"], ["a b"])["brevity_penalty"] == 1 and diagnose(["a"], [""])["brevity_penalty"] == 0


def test_two_views_of_a_study_may_share_a_report():
    same = diagnose(REFERENCES, HYPOTHESES, studies=["s", "s", "t", "u"])
    assert same["share_repeated_hypotheses"] == 0 and same["studies"] == 3
    assert diagnose(REFERENCES, HYPOTHESES, studies=["s", "t", "t", "u"])["share_repeated_hypotheses"] == 0.5


def test_truncation_is_counted_at_the_limit_of_the_protocol():
    texts = ["w " * 100, "w " * 99, "w " * 101]
    found = diagnose([t.strip() for t in texts[:2]], texts[1:], max_words=100)
    assert found["share_truncated_references"] == 0.5 and found["share_long_hypotheses"] == 0.5
    unlimited = diagnose(texts, texts, max_words=None)
    assert unlimited["share_truncated_references"] == unlimited["share_long_hypotheses"] == 0


def test_without_training_reports_copies_are_unknown_and_not_zero():
    assert diagnose(REFERENCES, HYPOTHESES)["share_copied_from_training"] is None
    with pytest.raises(ValueError, match="as many references"):
        diagnose([], [])


def test_the_order_of_the_samples_changes_nothing():
    order = [2, 0, 3, 1]
    studies = ["s", "t", "t", "u"]
    moved = [[values[i] for i in order] for values in (REFERENCES, HYPOTHESES, studies)]
    assert diagnose(moved[0], moved[1], ["no edema ."], moved[2]) == diagnose(
        REFERENCES, HYPOTHESES, ["no edema ."], studies
    )


def test_every_report_is_in_one_bin_of_the_histogram():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 400, 500)
    histogram = length_histogram(lengths, np.array([0, 9, 10, 149, 150, 50_000]))
    assert sum(histogram["reference"]) == 500
    assert histogram["from"] == list(range(0, 151, 10))
    assert histogram["hypothesis"] == [2, 1, *[0] * 12, 1, 2]
    for edge, count in zip(histogram["from"][:-1], histogram["reference"], strict=False):
        assert count == ((lengths >= edge) & (lengths < edge + 10)).sum()


def test_quarters_by_length_hold_every_sample_once():
    references = ["w " * n for n in range(1, 41)]
    scores = np.arange(40) / 40
    rows = by_length(references, scores)
    assert [r["n"] for r in rows] == [10] * 4 and [r["from"] for r in rows] == [1, 11, 21, 31]
    assert sum(r["n"] * r["mean"] for r in rows) == pytest.approx(scores.sum())
    assert by_length(["a b", "c d"], np.array([0.0, 1.0])) == [{"from": 2, "to": 2, "n": 2, "mean": 0.5}]


def test_extremes_do_not_depend_on_the_order_and_know_what_is_better():
    ids, scores = ["d", "a", "c", "b"], np.array([0.5, 0.1, 0.5, 0.9])
    found = extremes(ids, scores, k=2)
    assert found == {"best": [("b", 0.9), ("c", 0.5)], "worst": [("a", 0.1), ("c", 0.5)]}
    assert extremes(ids[::-1], scores[::-1], k=2) == found
    assert extremes(ids, scores, k=2, higher_is_better=False) == {"best": found["worst"], "worst": found["best"]}


def test_one_row_a_study():
    assert study_rows(["s", "t", "s", "u", "t"]).tolist() == [0, 1, 3]
    assert study_rows(["1", "1", "1"], ["p", "q", "p"]).tolist() == [0, 1]  # ids unique within a person only
    texts = ["", " .", ".", "clear .", "edema ."]  # s is silent in both rows, t speaks in its second
    assert study_rows(["s", "t", "s", "t", "t"], references=texts).tolist() == [0, 3]
