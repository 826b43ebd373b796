"""One evaluation: rows, labelling, diagnostics and notes."""

from contextlib import nullcontext

import numpy as np
import pytest

from revtaf.eval import clinical, floors, nlg
from revtaf.eval.evaluate import AVERAGED, Statuses, evaluate
from revtaf.eval.meteor import MeteorError
from revtaf.eval.metric import mean_metric
from revtaf.eval.protocol import PROTOCOLS, postprocess, reference_text
from revtaf.eval.records import Samples

TRAIN = ["Lungs clear. Heart normal.", "Cardiomegaly. No edema.", "Lungs clear. Heart normal."]
REFERENCES = ["Cardiomegaly is seen.\nNo edema.", "Lungs are clear. Heart normal.", "Pleural effusion. Fracture."]
HYPOTHESES = ["cardiomegaly. no edema.", "lungs clear. heart normal.", ""]
NO_JAVA = "/no/such/java"


def make(references=REFERENCES, hypotheses=HYPOTHESES, **groups) -> Samples:
    """Samples "0", "1", ... of these texts."""
    return Samples([str(i) for i in range(len(references))], list(references), list(hypotheses), **groups)


@pytest.fixture
def evaluation(labeler):
    return evaluate(make(), labeler, TRAIN, java=NO_JAVA, resamples=0)


def test_model_row_is_that_of_the_processed_texts(evaluation, labeler):
    cleaned = [reference_text(r) for r in REFERENCES]
    processed = [postprocess(h) for h in HYPOTHESES]
    assert evaluation.model["nlg"] == nlg.compute(cleaned, processed, meteor=False)
    assert evaluation.model["average"] is None  # METEOR is missing, and a mean of eight is another number
    expected = clinical.compute(labeler.label(cleaned), labeler.label(processed))
    assert {k: evaluation.model["clinical"][k] for k in expected} == expected
    other = clinical.compute(labeler.label(cleaned), labeler.label(processed), uncertain="positive")
    assert evaluation.model["clinical"]["uncertain_positive"]["example_f1"] == other["example_f1"]
    assert evaluation.model["clinical"]["per_class"]["cardiomegaly"]["f1"] == 1.0


def test_rows_without_an_image_come_after_the_model_and_each_text_is_labelled_once(evaluation, labeler):
    """Constant, random and oracle reports, then constant statuses, which have no text to score."""
    texts = ["REVTAF", "most frequent report", "medoid report", floors.RANDOM, floors.NEAREST]
    assert list(evaluation.rows)[:5] == texts
    constants = list(evaluation.rows.values())[5:]
    assert len(constants) == 2 and all(set(row["nlg"].values()) == {None} for row in constants)
    assert len(labeler.labelled) <= 3 + 3 + 1 + 1 + 2 + 2
    constant = reference_text(TRAIN[0])
    expected = nlg.compute([reference_text(r) for r in REFERENCES], [constant] * 3, meteor=False)
    assert evaluation.rows["most frequent report"]["nlg"] == expected


def test_given_statuses_replace_the_labelling_of_references(labeler):
    statuses = np.zeros((3, 14), dtype=np.uint8)
    statuses[:, 1] = 1
    result = evaluate(make(), labeler, given=Statuses(references=statuses), java=NO_JAVA, resamples=0)
    assert result.model["clinical"]["per_class"]["cardiomegaly"]["support"] == 3
    assert len(labeler.labelled) == 3
    assert next(iter(result.rows)) == "REVTAF" and "no training reports" in " ".join(result.notes)
    both = evaluate(make(), labeler, given=Statuses(statuses, statuses, "file x"), java=NO_JAVA, resamples=0)
    assert both.model["clinical"]["example_f1"] == 1.0 and "|ce:file x," in both.signature


def test_notes_say_what_the_numbers_are_not(evaluation):
    notes = " ".join(evaluation.notes)
    assert "METEOR skipped" in notes and notes.count("METEOR skipped") == 1
    assert "toy-v1, not CheXbert" in notes and "No reference is positive for" in notes
    assert "|meteor:none|" in evaluation.signature and "|ce:toy-v1," in evaluation.signature


def test_chexbert_needs_no_such_note(labeler):
    labeler.name = "chexbert-1a2b"
    result = evaluate(make(), labeler, TRAIN, java=NO_JAVA, floors=False, resamples=0)
    assert list(result.rows) == ["REVTAF"] and "not CheXbert" not in " ".join(result.notes)


def test_a_meteor_that_fails_once_costs_one_value_and_a_note(labeler, monkeypatch):
    calls = []

    def fails_once(references, hypotheses, client):
        calls.append(1)
        if len(calls) == 2:
            raise MeteorError("METEOR ended unexpectedly")
        return mean_metric("METEOR", np.full(len(hypotheses), 0.5))

    monkeypatch.setattr(nlg, "meteor_metric", fails_once)
    monkeypatch.setattr(nlg, "meteor_status", lambda java: None)
    result = evaluate(make(), labeler, TRAIN, resamples=0)
    assert [row["nlg"]["METEOR"] for row in result.rows.values()][:3] == [0.5, None, 0.5]
    assert "most frequent report: METEOR ended unexpectedly" in result.notes


def test_meteor_is_in_every_row_where_java_is(labeler, meteor, monkeypatch):
    monkeypatch.setattr("revtaf.eval.evaluate.Meteor", lambda java: nullcontext(meteor))  # no second start
    result = evaluate(make(), labeler, TRAIN, resamples=0)
    processed = [postprocess(h) for h in HYPOTHESES]
    expected = nlg.compute([reference_text(r) for r in REFERENCES], processed, meteor=meteor)
    assert result.model["nlg"] == expected
    assert all(row["nlg"]["METEOR"] is not None for row in list(result.rows.values())[:5])
    assert "|meteor:1.5jar" in result.signature
    nine = [{**result.model["nlg"], **result.model["clinical"]}[key] for key in AVERAGED]
    assert result.model["average"] == pytest.approx(sum(nine) / 9)


def test_length_diagnostics_by_hand(evaluation):
    lengths = evaluation.lengths
    assert lengths["hypothesis_words"]["mean"] == pytest.approx((5 + 6 + 0) / 3)
    assert lengths["reference_words"]["mean"] == pytest.approx((7 + 7 + 5) / 3)
    assert lengths["distinct_hypotheses"] == 3
    assert lengths["share_copied_from_training"] == pytest.approx(2 / 3)
    assert lengths["share_empty_hypotheses"] == pytest.approx(1 / 3)


def test_intervals_hold_their_value_and_repeat(labeler):
    """Every text row has them for every headline metric; the seed makes them the same again."""
    samples = make(REFERENCES * 20, HYPOTHESES * 20)
    first, again = (evaluate(samples, labeler, TRAIN, java=NO_JAVA, resamples=200, seed=3) for _ in range(2))
    for row in ("REVTAF", "medoid report"):
        for key in ("BLEU_4", "ROUGE_L", "CIDEr", "example_f1", "micro_f1"):
            interval = first.intervals[row][key]
            assert interval.low <= interval.value <= interval.high or interval.note, (row, key)
            assert interval == again.intervals[row][key]
    assert first.comparisons["medoid report"]["CIDEr"].p <= 1
    assert "clusters:60" in first.signature


def test_another_system_is_a_row_and_is_tested_against(labeler):
    """The same texts differ in nothing (p 1); the references themselves are better than the hypotheses."""
    samples = make(REFERENCES * 20, HYPOTHESES * 20)
    same, perfect = samples, make(REFERENCES * 20, [r.lower().replace("\n", " ") for r in REFERENCES] * 20)
    others = {"same": same, "perfect": perfect}
    result = evaluate(samples, labeler, others=others, java=NO_JAVA, resamples=300)
    assert result.rows["same"]["nlg"] == result.model["nlg"]
    assert all(c.difference == 0 and c.p == 1 for c in result.comparisons["same"].values())
    worse = result.comparisons["perfect"]["BLEU_4"]
    assert worse.difference < 0 and worse.high < 0 and worse.p < 0.05


@pytest.mark.parametrize("protocol", ["revtaf", "unicode"])
def test_a_study_whose_first_view_has_no_reference_is_scored_by_the_next(labeler, protocol):
    """Of one study with an empty reference first nothing would be left to score at study level."""
    options = {"protocol": PROTOCOLS[protocol], "java": NO_JAVA, "resamples": 0}
    result = evaluate(make(["", *REFERENCES[:1]], ["", *HYPOTHESES[:1]], studies=list("aa")), labeler, **options)
    alone = evaluate(make(REFERENCES[:1], HYPOTHESES[:1]), labeler, **options)
    assert result.study_level["n"] == 1
    assert result.study_level["nlg"]["BLEU_1"] == pytest.approx(alone.model["nlg"]["BLEU_1"])


def test_a_report_with_three_views_counts_once_at_study_level(labeler):
    samples = make(REFERENCES[:1] * 3 + REFERENCES[1:], HYPOTHESES[:1] * 3 + HYPOTHESES[1:], studies=list("aaabc"))
    result = evaluate(samples, labeler, java=NO_JAVA, resamples=0)
    alone = evaluate(make(), labeler, java=NO_JAVA, resamples=0)
    assert result.study_level["n"] == 3 and alone.study_level is None
    assert result.study_level["nlg"]["BLEU_1"] == pytest.approx(alone.model["nlg"]["BLEU_1"])
    assert result.study_level["clinical"]["example_f1"] == alone.model["clinical"]["example_f1"]


def test_a_text_that_was_processed_before_is_refused(labeler):
    """By construction: a second pass would move ROUGE-L without a trace."""
    with pytest.raises(TypeError, match="processed already"):
        evaluate(make(hypotheses=[postprocess(h) for h in HYPOTHESES]), labeler, java=NO_JAVA)


def test_order_of_samples_does_not_matter(evaluation, labeler):
    order = [2, 0, 1]
    texts = ([REFERENCES[i] for i in order], [HYPOTHESES[i] for i in order])
    shuffled = evaluate(make(*texts), labeler, TRAIN, java=NO_JAVA, resamples=0)
    for name, row in evaluation.rows.items():
        for key, value in row["nlg"].items():
            assert shuffled.rows[name]["nlg"][key] == pytest.approx(value), (name, key)
    assert shuffled.lengths == evaluation.lengths


def test_refusals(labeler):
    with pytest.raises(ValueError, match="3"):
        evaluate(make(hypotheses=HYPOTHESES[:2]), labeler, TRAIN)


def test_it_is_said_whether_the_texts_say_more_than_no_finding(labeler):
    """Shares of both sides, what always saying it scores, different texts, and the most that CE-F1 can be."""
    references = ["cardiomegaly.", "lungs clear.", "pleural effusion.", "lungs clear."]
    result = evaluate(make(references, ["lungs clear."] * 4), labeler, TRAIN, java=NO_JAVA, resamples=0)
    said = " ".join(result.said())
    assert '"No finding" is said in 100.0% of the texts and in 50.0% of the references.' in said
    assert "Always saying it scores CE-F1 0.500, micro-F1 0.500, micro-F1-positive 0.000." in said
    assert "1 different texts, 3 different references" in said and "at most 1.000" in said
    alone = evaluate(make(), labeler, java=NO_JAVA, floors=False, resamples=0)
    assert "Always saying it" not in " ".join(alone.said())
