"""One function scores a list of texts; what is known already is not asked for again."""

import numpy as np
import pytest

from revtaf.eval import clinical, nlg
from revtaf.eval.meteor import MeteorError
from revtaf.eval.protocol import postprocess, reference_text
from revtaf.eval.texts import VALIDATED, score_texts, validation_scores

REPORTS = ["Cardiomegaly is seen.\nNo edema.", "Lungs are clear. Heart normal.", "Pleural effusion. Fracture."]
WRITTEN = ["cardiomegaly. no edema.", "lungs clear. heart normal.", "lungs clear. heart normal."]
REFERENCES, HYPOTHESES = [reference_text(r) for r in REPORTS], [postprocess(h) for h in WRITTEN]


class Broken:
    def statistics(self, references, hypotheses):
        raise MeteorError("METEOR ended unexpectedly")


def test_the_metrics_are_those_of_the_two_families(labeler):
    """Every value is that of `nlg.compute` and `clinical.compute`, to the last bit."""
    found = score_texts(REFERENCES, HYPOTHESES, labeler)
    text = nlg.compute(REFERENCES, HYPOTHESES, meteor=False)
    ce = clinical.compute(labeler.label(REFERENCES), labeler.label(HYPOTHESES))
    for name, metric in found.metrics.items():
        category = name.removeprefix("f1/")
        expected = (text | ce).get(name, ce["per_class"].get(category, {}).get("f1"))
        assert metric.corpus == expected, name
    assert "METEOR" not in found.metrics and found.failed == ""


def test_known_statuses_are_not_labelled_again(labeler):
    """With the statuses of both sides nobody is asked; with those of one side, the other alone."""
    both = score_texts(REFERENCES, HYPOTHESES, labeler)
    labeler.labelled.clear()
    again = score_texts(REFERENCES, HYPOTHESES, labeler, truth=both.truth)
    assert labeler.labelled == list(dict.fromkeys(HYPOTHESES))
    labeler.labelled.clear()
    without = score_texts(REFERENCES, HYPOTHESES, truth=both.truth, statuses=both.statuses)
    assert labeler.labelled == []
    for found in (again, without):
        assert {k: m.corpus for k, m in found.metrics.items()} == {k: m.corpus for k, m in both.metrics.items()}


def test_without_statuses_of_a_side_there_are_no_clinical_scores():
    truth = np.zeros((3, 14), dtype=np.uint8)
    assert set(score_texts(REFERENCES, HYPOTHESES, truth=truth).metrics) <= set(nlg.METRICS)


def test_a_meteor_that_fails_is_said_and_costs_that_value_alone(labeler):
    found = score_texts(REFERENCES, HYPOTHESES, labeler, meteor=Broken())
    assert found.failed == "METEOR ended unexpectedly" and "METEOR" not in found.metrics
    assert {"BLEU_4", "CIDEr", "example_f1"} <= set(found.metrics)


def test_a_validation_scores_raw_texts_as_a_test_does(labeler):
    """The numbers of an epoch are those of the processed texts, and texts that differ are counted as they were."""
    statuses = labeler.label(REFERENCES)
    found = score_texts(REFERENCES, HYPOTHESES, labeler).metrics
    for scores in (
        validation_scores(REPORTS, WRITTEN, labeler),
        validation_scores(REPORTS, WRITTEN, labeler, statuses),
    ):
        assert scores == {name: found[name].corpus for name in VALIDATED} | {"distinct_reports": 2}
    with pytest.raises(ValueError):
        validation_scores([], [], labeler)


@pytest.mark.parametrize("texts", [["lungs clear ."], ["lungs clear ."] * 3, ["lungs clear .", "lungs  clear . "]])
def test_cider_is_left_out_where_no_word_has_a_weight(texts):
    """One reference, or one said again and again: 0 by the formula, and no figure; 0 for every checkpoint."""
    assert "CIDEr" not in score_texts(texts, texts).metrics
    assert "CIDEr" in score_texts(texts, texts, cider_references=REFERENCES).metrics
    assert "CIDEr" not in score_texts(REFERENCES, HYPOTHESES, cider_references=texts).metrics


def test_a_validation_on_one_report_has_a_cider_of_0(labeler):
    assert validation_scores(REPORTS[:1], WRITTEN[:1], labeler)["CIDEr"] == 0
