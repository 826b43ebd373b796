"""RadCliQ in closed form, its BLEU-2, and the rule that the mean is inverted, not the samples."""

import math

import numpy as np
import pytest

from revtaf.eval.radcliq import metrics, radcliq, sentence_bleu2


def test_v1_at_its_ends():
    """The published ends of the scale: a perfect report, and one that scores nothing."""
    assert radcliq(1, 1, 1, 1) == pytest.approx(-1.4407, abs=5e-5)
    assert radcliq(0, 0, 0, 0) == pytest.approx(2.4501430833, abs=1e-9)
    assert 1 / radcliq(1, 1, 1, 1) == pytest.approx(-0.694, abs=5e-4)


def test_v1_slopes():
    """The slopes of the expanded formula; BLEU-2 does not matter."""
    slopes = [radcliq(*row) - radcliq(0, 0, 0, 0) for row in np.eye(4)]
    assert slopes == pytest.approx([-1.2452163, -1.6508453, -0.9947717, 0.0], abs=1e-7)


def test_v0_at_the_mean_of_its_scores_is_its_intercept():
    assert radcliq(0.5398376, 0.6312550, 0.7716798, 0.4607372, "v0") == pytest.approx(1.6416667)


def test_v0_falls_with_all_but_bleu2():
    slopes = [radcliq(*row, "v0") - radcliq(0, 0, 0, 0, "v0") for row in np.eye(4)]
    expected = [-0.4796253 / 0.3018344, -0.6762171 / 0.2246695, -0.4636658 / 0.2475033, 0.2165862 / 0.3033667]
    assert slopes == pytest.approx(expected)


def test_arrays_are_scored_as_their_elements():
    rows = np.random.default_rng(0).random((4, 7))
    for version in ("v0", "v1"):
        assert radcliq(*rows, version) == pytest.approx([radcliq(*column, version) for column in rows.T])
    assert isinstance(radcliq(0, 0, 0, 0), float)


def test_unknown_version_is_refused():
    with pytest.raises(ValueError, match="unknown RadCliQ version 'v2'"):
        radcliq(0, 0, 0, 0, version="v2")


def test_inverse_is_of_the_mean():
    """Two samples on either side of the pole: the mean of inverses would be far off, and of the other sign."""
    scores = np.array([[0.2, 0.95], [0.1, 0.9], [0.3, 0.9], [0.1, 0.8]])
    found = metrics(*scores)
    values = radcliq(*scores)
    assert values[0] > 0 > values[1]
    assert found["RadCliQ_v1"].corpus == pytest.approx(values.mean())
    assert found["1/RadCliQ_v1"].corpus == pytest.approx(1 / values.mean())
    assert found["1/RadCliQ_v1"].corpus != pytest.approx((1 / values).mean(), abs=0.1)


def test_inverse_of_resamples_inverts_each_resampled_mean():
    scores = np.random.default_rng(1).random((4, 5)) / 2
    metric = metrics(*scores)["1/RadCliQ_v1"]
    counts = np.array([[1, 1, 1, 1, 1], [2, 0, 3, 0, 0]])
    expected = 1 / (counts @ radcliq(*scores) / 5)
    assert metric.value(counts @ metric.statistics) == pytest.approx(expected)


def test_direction_of_the_metrics():
    found = metrics(*np.zeros((4, 2)))
    assert [found[n].higher_is_better for n in ("RadCliQ_v0", "RadCliQ_v1", "1/RadCliQ_v1")] == [False, False, True]


@pytest.mark.parametrize(
    "reference, hypothesis, expected",
    [
        ("The heart is normal.", "the heart is big.", math.sqrt(4 / 5 * 2 / 4)),
        ("No edema.", "no EDEMA .", 1.0),
        ("heart", "heart", math.sqrt(1 * 0.1)),  # no pair of words at all: a tenth of a match
        ("a b c d", "a b", math.exp(1 - 4 / 2)),
        ("a b", "b a", math.sqrt(1 * 0.1)),
        ("heart", "lung", 0.0),
        ("heart", "", 0.0),
        ("", "heart", 0.0),
        ("", "", 0.0),
    ],
)
def test_bleu2_by_hand(reference, hypothesis, expected):
    assert sentence_bleu2([reference], [hypothesis])[0] == pytest.approx(expected, abs=1e-15)
