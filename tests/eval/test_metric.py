"""Metrics as sums: means and medians of samples and of resamples."""

import numpy as np
import pytest

from revtaf.eval import statistics
from revtaf.eval.metric import median_metric


@pytest.mark.parametrize("n", [1, 2, 5, 8, 101])
def test_a_median_of_sums_is_numpy_s(n):
    """Of all samples, of each alone, and of any resample."""
    rng = np.random.default_rng(n)
    values = rng.integers(1, 20, n).astype(float)
    metric = median_metric("rank", values, higher_is_better=False)
    assert metric.corpus == np.median(values)
    assert np.array_equal(metric.per_sample, values)
    drawn = rng.integers(n, size=(30, n))
    sums = np.stack([metric.statistics[rows].sum(axis=0) for rows in drawn])
    assert np.array_equal(metric.value(sums), np.median(values[drawn], axis=1))
    assert np.isnan(metric.value(np.zeros_like(sums[0])))


def test_medians_of_two_systems_are_compared_on_the_same_levels():
    """A system that ranks everything one lower: the median differs by one, and swapping both is what is tested."""
    rng = np.random.default_rng(0)
    better = rng.integers(1, 12, 60).astype(float)
    levels = np.arange(1, 14)
    one, other = (median_metric("rank", values, False, levels) for values in (better, better + 1))
    found = statistics.compare({"rank": one}, {"rank": other}, np.arange(60), 300, resamples=300)["rank"]
    assert found.difference == -1 and found.high <= 0
    with pytest.raises(ValueError, match="do not fit"):
        statistics.compare(
            {"rank": median_metric("rank", better)},
            {"rank": median_metric("rank", np.full(60, 3.0))},
            np.arange(60),
            10,
            resamples=10,
        )


def test_a_value_that_is_none_of_the_levels_is_refused():
    with pytest.raises(ValueError, match=r"rank: the value 2\.5 is none of the 3 levels"):
        median_metric("rank", np.array([1.0, 2.5]), levels=[1, 2, 3])
