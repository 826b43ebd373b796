"""Clinical efficacy against scikit-learn and by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from revtaf.eval import clinical
from revtaf.labels import CHEXPERT_CATEGORIES, FIVE_CATEGORIES, HEAD_CATEGORIES, NO_FINDING

FIVE = [CHEXPERT_CATEGORIES.index(c) for c in FIVE_CATEGORIES]


def statuses(seed: int, rows: int = 80, columns: int = 18) -> np.ndarray:
    return np.random.default_rng(seed).choice(4, (rows, columns), p=[0.6, 0.2, 0.15, 0.05]).astype(np.uint8)


def assert_equal(result, name, expected):
    got = [result[f"{name}_{key}"] for key in ("precision", "recall", "f1")]
    assert got == pytest.approx(list(expected[:3]), abs=1e-12), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_scikit_learn(seed):
    reference, predicted = statuses(seed), statuses(seed + 100)
    reference[:, 3] = 0  # a category without support
    predicted[:, 8] = 2  # one that is never predicted
    reference[5], predicted[5] = 0, 0  # a report without positives on both sides
    result = clinical.compute(reference, predicted)
    y, p = reference[:, :14] == 1, predicted[:, :14] == 1

    for name, average in (("example", "samples"), ("micro", "micro"), ("macro", "macro")):
        assert_equal(result, name, precision_recall_fscore_support(y, p, average=average, zero_division=0))
    supported = [i for i in range(14) if i != 3]
    for name, average, labels in (
        ("macro_supported", "macro", supported),
        ("micro5", "micro", FIVE),
        ("macro5", "macro", FIVE),
    ):
        expected = precision_recall_fscore_support(y, p, average=average, labels=labels, zero_division=0)
        assert_equal(result, name, expected)
    per_class = np.array([list(row.values()) for row in result["per_class"].values()])
    expected = precision_recall_fscore_support(y, p, average=None, zero_division=0)
    np.testing.assert_allclose(per_class[:, :4], np.array(expected).T, atol=1e-12)
    assert per_class[:, 4].tolist() == p.sum(0).tolist()


def test_hand_case():
    """Report 1: {edema, effusion} against {edema}; report 2: {edema} against {fracture}."""
    reference, predicted = np.zeros((2, 14)), np.zeros((2, 14))
    edema, effusion, fracture = (CHEXPERT_CATEGORIES.index(c) for c in ("edema", "pleural effusion", "fracture"))
    reference[0, [edema, effusion]], predicted[0, edema] = 1, 1
    reference[1, edema], predicted[1, fracture] = 1, 1
    result = clinical.compute(reference, predicted)
    assert_equal(result, "example", ((1 + 0) / 2, (1 / 2 + 0) / 2, (2 / 3 + 0) / 2))
    assert_equal(result, "micro", (1 / 2, 1 / 3, 2 / 5))
    assert_equal(result, "macro", (1 / 14, 0.5 / 14, (2 / 3) / 14))
    assert_equal(result, "macro_supported", (1 / 2, 0.5 / 2, (2 / 3) / 2))
    assert result["per_class"]["edema"] == {
        "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2, "predicted": 1,
    }  # fmt: skip
    assert result["head_f1"] == pytest.approx((2 / 3) / 7) and result["tail_f1"] == 0
    assert result["zero_support"] == [c for c in CHEXPERT_CATEGORIES if c not in ("edema", "pleural effusion")]


def test_always_no_finding_scores_nothing_over_the_findings():
    """micro_f1_positive is scikit-learn's over the 13 others, and 0 for what the other averages reward."""
    reference, predicted = statuses(0), statuses(1)
    result = clinical.compute(reference, predicted)
    others = [i for i in range(14) if i != NO_FINDING]
    y, p = reference[:, others] == 1, predicted[:, others] == 1
    expected = precision_recall_fscore_support(y, p, average="micro", zero_division=0)[:3]
    found = [result[f"micro_{score}_positive"] for score in ("precision", "recall", "f1")]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    always = np.zeros_like(reference)
    always[:, NO_FINDING] = 1
    constant = clinical.compute(reference, always)
    assert constant["micro_f1_positive"] == 0 < constant["micro_f1"]
    assert constant["no_finding_share"] == 1 and result["no_finding_share"] == (predicted[:, NO_FINDING] == 1).mean()
    assert constant["references"]["no_finding_share"] == (reference[:, NO_FINDING] == 1).mean()


def test_the_ceiling_of_the_example_average_is_reached_by_the_references_themselves():
    """A report without a positive on either side scores 0, so that perfect answers do not reach 1."""
    reference = statuses(2, rows=20)
    reference[:7] = 0
    perfect = clinical.compute(reference, reference)
    assert perfect["example_f1"] == perfect["references"]["example_f1_ceiling"] < 1 == perfect["micro_f1"]


def test_only_positive_counts():
    """All scores are those of a labelling without uncertain and negative; the status confusion alone differs."""
    reference = statuses(0)
    relabelled = np.where(reference == 1, 1, 0)
    predicted = statuses(1)
    found, expected = clinical.compute(reference, predicted), clinical.compute(relabelled, predicted)
    assert found.pop("confusion") != expected.pop("confusion")
    assert found == expected


def test_uncertain_as_positive_equals_relabelling():
    """On both sides, and in every score."""
    reference, predicted = statuses(0), statuses(1)
    found = clinical.compute(reference, predicted, uncertain="positive")
    expected = clinical.compute(np.where(reference == 3, 1, reference), np.where(predicted == 3, 1, predicted))
    assert found.pop("confusion") != expected.pop("confusion")
    assert found == expected
    assert found["micro_f1"] != clinical.compute(reference, predicted)["micro_f1"]
    with pytest.raises(ValueError, match="'negative' or 'positive', got 'blank'"):
        clinical.compute(reference, predicted, uncertain="blank")


def test_metrics_are_the_numbers_of_compute():
    """Averages by name and classes by f1/<category>; each value also holds for a subset taken by its statistics."""
    reference, predicted = statuses(6), statuses(7)
    metrics, expected = clinical.metrics(reference, predicted), clinical.compute(reference, predicted)
    numbers = {k: v for k, v in expected.items() if isinstance(v, float)}
    numbers |= {f"f1/{category}": row["f1"] for category, row in expected["per_class"].items()}
    assert len(metrics) == 6 * 3 + 3 + 1 + 2 + 14
    assert {name: m.corpus for name, m in metrics.items()} == pytest.approx(numbers, abs=1e-12)
    assert all(name == m.name for name, m in metrics.items())

    part = clinical.compute(reference[:30], predicted[:30])
    for name in ("example_f1", "micro_recall", "macro_precision", "macro5_f1", "tail_f1"):
        assert metrics[name].value(metrics[name].statistics[:30].sum(0)) == pytest.approx(part[name], abs=1e-12)
    many = np.random.default_rng(0).integers(0, 3, (5, 80)) @ metrics["macro_f1"].statistics
    assert metrics["macro_f1"].value(many).shape == (5,)
    one = metrics["macro_f1"].value(many[2])
    assert metrics["macro_f1"].value(many)[2] == pytest.approx(one, abs=1e-15)


def test_supported_categories_are_fixed_by_the_full_set():
    """A resample without fracture still averages over the same categories; one without support at all counts 0."""
    reference, predicted = np.zeros((4, 14), int), np.zeros((4, 14), int)
    edema, fracture = (CHEXPERT_CATEGORIES.index(c) for c in ("edema", "fracture"))
    reference[:3, edema] = predicted[:3, edema] = 1
    reference[3, fracture] = predicted[3, fracture] = 1
    metric = clinical.metrics(reference, predicted)["macro_supported_f1"]
    assert metric.corpus == 1.0
    assert metric.value(metric.statistics[:3].sum(0)) == 0.5


def test_confusion_by_hand_and_against_scikit_learn():
    reference, predicted = statuses(8), statuses(9)
    result = clinical.compute(reference, predicted)
    for i, category in enumerate(CHEXPERT_CATEGORIES):
        expected = confusion_matrix(reference[:, i], predicted[:, i], labels=range(4))
        assert result["confusion"][category] == expected.tolist()
        (tn, fp), (fn, tp) = confusion_matrix(reference[:, i] == 1, predicted[:, i] == 1, labels=(False, True))
        assert result["per_class_confusion"][category] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    one, other = np.zeros((1, 14), int), np.full((1, 14), 2)
    one[0, 1] = 3
    assert clinical.confusion(one, other)[1].tolist() == [[0] * 4, [0] * 4, [0] * 4, [0, 0, 1, 0]]


def test_result_is_json():
    result = clinical.compute(statuses(0), statuses(1))
    assert json.loads(json.dumps(result)) == result


def test_head_and_tail_halve_the_macro_average():
    result = clinical.compute(statuses(2), statuses(3))
    assert len(HEAD_CATEGORIES) == 7
    assert result["macro_f1"] == pytest.approx((result["head_f1"] + result["tail_f1"]) / 2)


def test_auxiliary_categories_and_the_container_change_nothing():
    reference, predicted = statuses(4), statuses(5)
    expected = clinical.compute(reference, predicted)
    assert clinical.compute(reference[:, :14], predicted) == expected
    assert clinical.compute(torch.tensor(reference), predicted.tolist()) == expected


def test_no_positive_anywhere_scores_zero_without_a_warning():
    result = clinical.compute(np.zeros((3, 14)), np.zeros((3, 14)))
    assert result["example_f1"] == result["micro_f1"] == result["macro_supported_f1"] == 0.0
    assert len(result["zero_support"]) == 14


@pytest.mark.parametrize(
    ("reference", "predicted", "message"),
    [
        (np.zeros((2, 13)), np.zeros((2, 14)), r"reference statuses.*\(2, 13\)"),
        (np.zeros((2, 14)), np.zeros(14), r"predicted statuses.*\(14,\)"),
        (np.zeros((0, 14)), np.zeros((0, 14)), "S > 0"),
        (np.zeros((2, 14)), np.zeros((3, 14)), "2 reference and 3 predicted"),
        (np.zeros((2, 14)), np.full((2, 14), 4), "unknown status 4 for 'enlarged cardiomediastinum' in row 0"),
        (np.full((2, 14), -1), np.zeros((2, 14)), "unknown status -1"),
        (np.full((2, 14), np.nan), np.zeros((2, 14)), "unknown status nan"),
        (np.full((2, 14), 0.5), np.zeros((2, 14)), "unknown status 0.5"),
    ],
)
def test_refusals(reference, predicted, message):
    with pytest.raises(ValueError, match=message):
        clinical.compute(reference, predicted)
