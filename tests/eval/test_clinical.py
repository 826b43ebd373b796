"""Clinical efficacy against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from revtaf.eval import clinical
from revtaf.labels import CHEXPERT_CATEGORIES, FIVE_CATEGORIES, HEAD_CATEGORIES

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


def test_only_positive_counts():
    reference = statuses(0)
    relabelled = reference.copy()
    relabelled[reference == 3] = 2
    relabelled[reference == 2] = 0
    predicted = statuses(1)
    assert clinical.compute(reference, predicted) == clinical.compute(relabelled, predicted)


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
