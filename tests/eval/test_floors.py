"""The constant rows: chosen as defined, and worth what was measured on IU X-Ray."""

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from revtaf.eval import floors, nlg
from revtaf.eval.protocol import reference_text

REPORTS = ["Heart normal.", "Lungs clear. Heart normal.", "Lungs clear. Heart enlarged.", "Lungs clear. Heart normal."]


def test_most_frequent_is_counted_after_cleaning_and_ties_go_to_the_first():
    rows = floors.constant_rows(["Lungs clear.", "LUNGS, clear", "Heart normal."])
    assert rows[floors.MOST_FREQUENT] == "lungs clear ."
    tied = floors.constant_rows(["b b.", "a a.", "a a.", "b b."])
    assert tied[floors.MOST_FREQUENT] == "b b ."


def test_medoid_has_the_largest_mean_similarity_to_the_others():
    """Against the full matrix of similarities, which the implementation never builds."""
    reports = [*REPORTS, "Small left effusion.", "Lungs clear. No effusion. Heart normal in size."]
    cleaned = [reference_text(r) for r in reports]
    vectors = TfidfVectorizer().fit_transform(cleaned).toarray()
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 0)
    assert floors.constant_rows(reports)[floors.MEDOID] == cleaned[int(similarity.sum(1).argmax())]


def test_reports_without_a_word_do_not_break_the_choice():
    assert floors.constant_rows([".", "a."]) == {floors.MOST_FREQUENT: " .", floors.MEDOID: " ."}
    with pytest.raises(ValueError, match="no training reports"):
        floors.constant_rows([])


def test_limit_draws_a_reproducible_subset_for_the_medoid_alone():
    reports = [f"word{i} shared." for i in range(50)] + ["frequent."] * 3
    first = floors.constant_rows(reports, seed=1, limit=10)
    assert first == floors.constant_rows(reports, seed=1, limit=10)
    assert first[floors.MOST_FREQUENT] == "frequent ."


def test_random_reports_are_reproducible_training_reports():
    drawn = floors.random_reports(REPORTS, 20, seed=3)
    assert len(drawn) == 20 and drawn == floors.random_reports(REPORTS, 20, seed=3)
    assert set(drawn) <= {reference_text(r) for r in REPORTS}
    assert drawn != floors.random_reports(REPORTS, 20, seed=4)


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_nearest_report_of_a_training_report_is_itself(chunk):
    assert floors.nearest_reports(REPORTS, REPORTS[:3], chunk) == [reference_text(r) for r in REPORTS[:3]]


def test_measured_values_on_iu_xray(shared_data, meteor):
    annotation = json.loads((shared_data / "iu_xray" / "annotation.json").read_text())
    references = [reference_text(s["report"]) for s in annotation["val"]]
    rows = floors.constant_rows([s["report"] for s in annotation["train"]])
    expected = {
        floors.MOST_FREQUENT: {"BLEU_1": 0.191, "BLEU_4": 0.062, "METEOR": 0.106, "ROUGE_L": 0.295, "CIDEr": 0.335},
        floors.MEDOID: {"BLEU_1": 0.524, "BLEU_4": 0.180, "METEOR": 0.217, "ROUGE_L": 0.348, "CIDEr": 0.335},
    }  # fmt: skip
    for name, values in expected.items():
        scores = nlg.compute(references, [rows[name]] * len(references), meteor=meteor)
        assert {key: scores[key] for key in values} == pytest.approx(values, abs=1e-3), name
