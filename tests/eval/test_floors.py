"""The constant rows: chosen as defined, and worth what was measured on IU X-Ray."""

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from revtaf.eval import clinical, floors, nlg
from revtaf.eval.protocol import reference_text
from revtaf.labels import CHEXPERT_CATEGORIES, NO_FINDING, POSITIVE, UNCERTAIN

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


def test_nearest_is_the_brute_force_choice_with_repeated_reports_and_references():
    train = [*REPORTS, *REPORTS[:2], "Small left effusion.", "."]
    references = ["Left effusion is small.", "Lungs are clear.", "Nothing known.", "Left effusion is small."]
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True)
    vectors = vectorizer.fit_transform([reference_text(r) for r in train])
    similarity = (vectorizer.transform([reference_text(r) for r in references]) @ vectors.T).toarray()
    expected = [reference_text(train[i]) for i in similarity.argmax(axis=1)]
    assert floors.nearest_reports(train, references) == expected


def test_rows_are_four_and_aligned_with_the_references():
    references = ["Heart enlarged. Lungs clear.", "Heart normal."]
    rows = floors.rows(REPORTS, references, seed=2)
    assert list(rows) == [floors.MOST_FREQUENT, floors.MEDOID, floors.RANDOM, floors.NEAREST]
    assert all(len(texts) == 2 for texts in rows.values())
    assert rows[floors.NEAREST] == [reference_text(REPORTS[2]), reference_text(REPORTS[0])]
    assert floors.rows(["", ""], ["", "a."], clean=str)[floors.NEAREST] == ["", ""]


def test_the_order_of_the_samples_changes_no_row():
    """Each reference keeps its texts, the random one too; equal references share theirs as a multiset."""
    references = [f"Finding {i}." for i in range(8)] + ["Finding 3."] * 3
    train = [f"Report {i}." for i in range(30)]
    order = np.random.default_rng(0).permutation(len(references))
    first = floors.rows(train, references)
    second = floors.rows(train, [references[i] for i in order])
    for name in first:
        pairs = sorted(zip(references, first[name], strict=True))
        assert pairs == sorted(zip([references[i] for i in order], second[name], strict=True)), name


def test_the_rows_follow_the_cleaning_of_the_protocol():
    rows = floors.rows(REPORTS, ["Lungs clear."], clean=str)
    assert {text for texts in rows.values() for text in texts} <= set(REPORTS)


def test_clinical_floors_are_constant_and_nested():
    statuses = np.random.default_rng(0).integers(0, 4, (40, 18))
    rows = floors.clinical_floors(statuses)
    assert list(rows) == [floors.ALWAYS_NO_FINDING, *(f"always the top {k} (references, oracle)" for k in range(1, 6))]
    for k, answer in enumerate(rows.values()):
        assert answer.shape == (40, 14) and (answer == answer[0]).all()
        assert (answer[0] == POSITIVE).sum() == max(k, 1)
    answers = list(rows.values())
    assert (answers[0][0] == POSITIVE).nonzero()[0].tolist() == [NO_FINDING]
    for smaller, larger in zip(answers[1:], answers[2:], strict=False):
        assert (larger[smaller == POSITIVE] == POSITIVE).all()


def test_the_top_findings_come_from_the_training_set_where_there_is_one():
    """Uncertain is not positive; "no finding" is a row of its own, however frequent."""
    train = np.zeros((10, 18), dtype=np.uint8)
    train[:, NO_FINDING] = POSITIVE
    train[:, 0] = UNCERTAIN
    train[:4, 4] = train[:3, 9] = train[:, 17] = POSITIVE
    rows = floors.clinical_floors(np.full((3, 14), POSITIVE), train)
    top = rows["always the top 2 (training)"]
    assert {CHEXPERT_CATEGORIES[c] for c in (top[0] == POSITIVE).nonzero()[0]} == {"edema", "pleural effusion"}


def test_the_constant_answer_is_worth_what_a_hand_computation_says():
    """Two of four reports are normal: always "no finding" scores .5 by example, 1/14 of its F1 by macro."""
    statuses = np.zeros((4, 14), dtype=np.uint8)
    statuses[:2, NO_FINDING] = statuses[2:, 4] = POSITIVE
    scores = clinical.compute(statuses, floors.clinical_floors(statuses)[floors.ALWAYS_NO_FINDING])
    assert scores["example_f1"] == pytest.approx(0.5)
    assert scores["macro_f1"] == pytest.approx((2 / 3) / 14)


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


def test_measured_ceiling_and_chance_on_iu_xray(shared_data):
    """The oracle as measured once; the random row within what a draw of 294 reports can do."""
    annotation = json.loads((shared_data / "iu_xray" / "annotation.json").read_text())
    raw = [s["report"] for s in annotation["val"]]
    rows = floors.rows([s["report"] for s in annotation["train"]], raw)
    references = [reference_text(r) for r in raw]
    oracle = nlg.compute(references, rows[floors.NEAREST], meteor=False)
    expected = {"BLEU_1": 0.704, "BLEU_4": 0.563, "ROUGE_L": 0.715, "CIDEr": 4.181}
    assert {key: oracle[key] for key in expected} == pytest.approx(expected, abs=1e-3)
    chance = nlg.compute(references, rows[floors.RANDOM], meteor=False)
    assert chance["BLEU_1"] == pytest.approx(0.388, abs=0.03) and chance["BLEU_4"] == pytest.approx(0.094, abs=0.03)
