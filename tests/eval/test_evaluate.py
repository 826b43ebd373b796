"""One evaluation: rows, labelling, diagnostics and notes."""

import json
from contextlib import nullcontext

import numpy as np
import pytest

from revtaf.eval import clinical, nlg
from revtaf.eval.evaluate import evaluate, quick_clinical
from revtaf.eval.meteor import MeteorError
from revtaf.eval.protocol import postprocess, reference_text

TRAIN = ["Lungs clear. Heart normal.", "Cardiomegaly. No edema.", "Lungs clear. Heart normal."]
REFERENCES = ["Cardiomegaly is seen.\nNo edema.", "Lungs are clear. Heart normal.", "Pleural effusion. Fracture."]
HYPOTHESES = ["cardiomegaly. no edema.", "lungs clear. heart normal.", ""]
NO_JAVA = "/no/such/java"


@pytest.fixture
def evaluation(labeler):
    return evaluate(REFERENCES, HYPOTHESES, labeler, TRAIN, java=NO_JAVA)


def test_model_row_is_that_of_the_processed_texts(evaluation, labeler):
    cleaned = [reference_text(r) for r in REFERENCES]
    processed = [postprocess(h) for h in HYPOTHESES]
    assert evaluation.model["nlg"] == nlg.compute(cleaned, processed, meteor=False)
    expected = clinical.compute(labeler.label(cleaned), labeler.label(processed))
    assert evaluation.model["clinical"] == expected
    assert evaluation.model["clinical"]["per_class"]["cardiomegaly"]["f1"] == 1.0


def test_constant_rows_come_after_the_model_and_are_labelled_once(evaluation, labeler):
    assert list(evaluation.rows) == ["REVTAF", "most frequent report", "medoid report"]
    texts = [reference_text(r) for r in REFERENCES] + [postprocess(h) for h in HYPOTHESES]
    assert len(labeler.labelled) == len(texts) + 2
    constant = reference_text(TRAIN[0])
    expected = nlg.compute([reference_text(r) for r in REFERENCES], [constant] * 3, meteor=False)
    assert evaluation.rows["most frequent report"]["nlg"] == expected


def test_given_statuses_replace_the_labelling_of_references(labeler):
    statuses = np.zeros((3, 14), dtype=np.uint8)
    statuses[:, 1] = 1
    result = evaluate(REFERENCES, HYPOTHESES, labeler, [], statuses, java=NO_JAVA)
    assert result.model["clinical"]["per_class"]["cardiomegaly"]["support"] == 3
    assert len(labeler.labelled) == 3
    assert list(result.rows) == ["REVTAF"] and "no training reports" in " ".join(result.notes)


def test_notes_say_what_the_numbers_are_not(evaluation):
    notes = " ".join(evaluation.notes)
    assert "METEOR skipped" in notes and notes.count("METEOR skipped") == 1
    assert "toy-v1, not CheXbert" in notes and "No reference is positive for" in notes
    assert "|meteor:none|" in evaluation.signature and "|ce:toy-v1," in evaluation.signature


def test_chexbert_needs_no_such_note(labeler):
    labeler.name = "chexbert-1a2b"
    result = evaluate(REFERENCES, HYPOTHESES, labeler, TRAIN, java=NO_JAVA, floors=False)
    assert list(result.rows) == ["REVTAF"] and "not CheXbert" not in " ".join(result.notes)


def test_a_meteor_that_fails_once_costs_one_value_and_a_note(labeler, monkeypatch):
    class Fails:
        calls = 0

        def score(self, references, hypotheses):
            self.calls += 1
            if self.calls == 2:
                raise MeteorError("METEOR ended unexpectedly")
            return 0.5

    monkeypatch.setattr("revtaf.eval.evaluate.Meteor", lambda java: nullcontext(Fails()))
    monkeypatch.setattr(nlg, "meteor_status", lambda java: None)
    result = evaluate(REFERENCES, HYPOTHESES, labeler, TRAIN)
    assert [row["nlg"]["METEOR"] for row in result.rows.values()] == [0.5, None, 0.5]
    assert "most frequent report: METEOR ended unexpectedly" in result.notes


def test_meteor_is_in_every_row_where_java_is(labeler, meteor, monkeypatch):
    monkeypatch.setattr("revtaf.eval.evaluate.Meteor", lambda java: nullcontext(meteor))  # no second start
    result = evaluate(REFERENCES, HYPOTHESES, labeler, TRAIN)
    processed = [postprocess(h) for h in HYPOTHESES]
    expected = nlg.compute([reference_text(r) for r in REFERENCES], processed, meteor=meteor)
    assert result.model["nlg"] == expected
    assert all(row["nlg"]["METEOR"] is not None for row in result.rows.values())
    assert "|meteor:1.5jar,java" in result.signature


def test_length_diagnostics_by_hand(evaluation):
    lengths = evaluation.lengths
    assert lengths["mean_words_hypothesis"] == pytest.approx((5 + 6 + 0) / 3)
    assert lengths["mean_words_reference"] == pytest.approx((7 + 7 + 5) / 3)
    assert lengths["distinct_hypotheses"] == 3
    assert lengths["share_identical_to_training"] == pytest.approx(2 / 3)
    assert lengths["share_empty"] == pytest.approx(1 / 3)


def test_order_of_samples_does_not_matter(evaluation, labeler):
    order = [2, 0, 1]
    shuffled = evaluate([REFERENCES[i] for i in order], [HYPOTHESES[i] for i in order], labeler, TRAIN, java=NO_JAVA)
    for name, row in evaluation.rows.items():
        for key, value in row["nlg"].items():
            assert shuffled.rows[name]["nlg"][key] == pytest.approx(value), (name, key)
    assert shuffled.lengths == pytest.approx(evaluation.lengths)


def test_validation_after_an_epoch_gives_the_same_clinical_scores(evaluation, labeler):
    assert quick_clinical(REFERENCES, HYPOTHESES, labeler) == evaluation.model["clinical"]
    statuses = labeler.label([reference_text(r) for r in REFERENCES])
    assert quick_clinical(REFERENCES, HYPOTHESES, labeler, statuses) == evaluation.model["clinical"]


def test_evaluation_is_json(evaluation):
    assert json.loads(json.dumps(evaluation.to_dict()))["rows"].keys() == evaluation.rows.keys()


def test_refusals(labeler):
    with pytest.raises(ValueError, match="got 3 and 2"):
        evaluate(REFERENCES, HYPOTHESES[:2], labeler, TRAIN)
    with pytest.raises(ValueError, match="at least one"):
        quick_clinical([], [], labeler)
