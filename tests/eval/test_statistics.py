"""Intervals and paired tests: against scipy, by enumeration, by hand, and what must not change them."""

import itertools

import numpy as np
import pytest
import scipy.stats

from revtaf.eval import clinical, statistics
from revtaf.eval.metric import Metric, mean_metric


def values(seed: int, n: int = 120) -> np.ndarray:
    """Skewed, so that a bias or a missing acceleration would show."""
    return np.random.default_rng(seed).gamma(1.0, 1.0, n)


def f1_like(seed: int, n: int = 120) -> Metric:
    """A ratio of sums, as BLEU and micro averages are."""
    parts = np.random.default_rng(seed).integers(0, 5, (n, 2)).astype(float)
    parts[:, 1] += parts[:, 0]
    return Metric("ratio", parts, lambda sums: sums[..., 0] / sums[..., 1])


def interval(metric: Metric, codes, **options) -> statistics.Interval:
    return statistics.intervals({"m": metric}, codes, **options)["m"]


def width(found: statistics.Interval) -> float:
    return found.high - found.low


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_rows_as_clusters_agree_with_scipy():
    """BCa of a mean equals scipy.stats.bootstrap within Monte-Carlo error (a hundredth of the width)."""
    sample = values(0, 30)  # few, so that bias and acceleration move the bounds by more than the tolerance
    expected = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="BCa", random_state=np.random.default_rng(1), vectorized=True
    ).confidence_interval
    found = interval(mean_metric("m", sample), np.arange(len(sample)), resamples=20_000)
    assert found.value == pytest.approx(sample.mean())
    tolerance = 0.03 * (expected.high - expected.low)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=tolerance)
    assert found.note == ""


def test_ratio_of_sums_agrees_with_scipy():
    metric = f1_like(3)
    expected = scipy.stats.bootstrap(
        tuple(metric.statistics.T), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, n_resamples=20_000,
        random_state=np.random.default_rng(1), vectorized=True,
    ).confidence_interval  # fmt: skip
    found = interval(metric, np.arange(len(metric.statistics)), resamples=20_000)
    tolerance = 0.03 * (expected.high - expected.low)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=tolerance)


def test_repeated_rows_do_not_shrink_a_clustered_interval():
    """Every row four times in its cluster: the same interval; taken for independent rows, half of it."""
    sample = values(4)
    once = interval(mean_metric("m", sample), np.arange(len(sample)))
    repeated = mean_metric("m", np.repeat(sample, 4))
    clustered = interval(repeated, np.repeat(np.arange(len(sample)), 4))
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high), abs=1e-12)
    by_row = interval(repeated, np.arange(4 * len(sample)))
    assert width(by_row) == pytest.approx(width(once) / 2, rel=0.1)


def test_order_of_rows_changes_nothing():
    """Rows are shuffled with their ids; the codes follow the names and not the rows."""
    rng = np.random.default_rng(5)
    subjects, ids = [f"p{i}" for i in rng.integers(0, 30, 120)], [f"row {i}" for i in range(120)]
    first, second, order = values(6), values(7), rng.permutation(120)
    for given in (subjects, None):
        results = []
        for rows in (np.arange(120), order):
            codes, _ = statistics.clusters([ids[i] for i in rows], subjects=given and [given[i] for i in rows])
            a, b = ({"m": mean_metric("m", v[rows])} for v in (first, second))
            pair = statistics.compare(a, b, codes, 500, resamples=500)["m"]
            one = interval(a["m"], codes, resamples=500)
            results.append([one.value, one.low, one.high, pair.difference, pair.low, pair.high, pair.p])
        assert results[0] == pytest.approx(results[1], abs=1e-12)


def test_seed_decides_and_other_metrics_do_not():
    metric, codes = f1_like(8), np.repeat(np.arange(40), 3)
    first = interval(metric, codes, seed=3)
    assert interval(metric, codes, seed=3) == first != interval(metric, codes, seed=4)
    many = statistics.intervals({"x": mean_metric("x", values(1)), "m": metric, "y": f1_like(9)}, codes, seed=3)
    assert many["m"] == first


def test_chunks_do_not_change_the_resamples(monkeypatch):
    """Memory is bounded by chunks of resamples; the draws are those of one chunk."""
    metric, codes = f1_like(8), np.repeat(np.arange(40), 3)
    whole = interval(metric, codes)
    monkeypatch.setattr(statistics, "_CELLS", 1000 * 40)
    assert interval(metric, codes) == whole
    chunks = list(statistics._multiplicities(40, 2500, seed=0))
    assert [c.shape for c in chunks] == [(1000, 40), (1000, 40), (500, 40)]
    assert all((c.sum(axis=1) == 40).all() for c in chunks)


def test_coverage_on_clustered_data_is_near_its_level():
    """300 sets of 60 patients of unequal size: about 95 % of clustered intervals hold the truth, far fewer by row."""
    rng, hits, by_row = np.random.default_rng(0), 0, 0
    for _ in range(300):
        codes = np.repeat(np.arange(60), rng.integers(1, 9, 60))
        metric = mean_metric("m", rng.normal(size=60)[codes] + 0.5 * rng.normal(size=len(codes)))
        clustered = interval(metric, codes, resamples=400)
        rows = interval(metric, np.arange(len(codes)), resamples=200)
        hits += clustered.low <= 0 <= clustered.high
        by_row += rows.low <= 0 <= rows.high
    assert 0.91 <= hits / 300 <= 0.98
    assert by_row / 300 < 0.75


def test_inverse_of_a_mean_has_the_inverted_interval():
    """1 / RadCliQ is printed of the mean: its interval is that of the mean, turned round."""
    mean = mean_metric("RadCliQ", 1 + values(2))
    inverse = Metric("1/RadCliQ", mean.statistics, lambda s: s[..., 1] / s[..., 0])
    codes = np.arange(120)
    found = statistics.intervals({"mean": mean, "inverse": inverse}, codes)
    assert found["inverse"].value == pytest.approx(1 / found["mean"].value)
    expected = (1 / found["mean"].high, 1 / found["mean"].low)
    assert (found["inverse"].low, found["inverse"].high) == pytest.approx(expected, rel=0.005)


def test_level_widens():
    metric, codes = mean_metric("m", values(0)), np.arange(120)
    assert width(interval(metric, codes, level=0.99)) > 1.2 * width(interval(metric, codes))


def test_degenerate_intervals_are_named():
    sample, codes = values(0, 12), np.repeat(np.arange(4), 3)
    constant = interval(mean_metric("m", np.full(12, 0.1)), codes)
    assert constant.low == constant.high == pytest.approx(0.1) and constant.note == "the same in every resample"
    alone = interval(mean_metric("m", sample), np.zeros(12, int))
    assert alone.value == pytest.approx(sample.mean()) and np.isnan([alone.low, alone.high]).all()
    assert alone.note.startswith("one cluster")

    support = np.zeros(12)
    undefined = interval(Metric("m", np.stack([sample, support], 1), lambda s: s[..., 0] / s[..., 1]), codes)
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()
    assert undefined.note == "undefined over all samples"
    support[:3] = 1  # one of four clusters: absent from (3/4)^4 of the resamples
    partly = interval(Metric("m", np.stack([sample * support, support], 1), lambda s: s[..., 0] / s[..., 1]), codes)
    left_out = int(partly.note.split()[2])
    assert partly.note == f"undefined in {left_out} of 10000 resamples" and left_out == pytest.approx(3164, abs=200)
    assert partly.low == partly.high == pytest.approx(sample[:3].mean())


def test_extreme_skew_keeps_finite_ordered_bounds():
    """One sample carries everything: the correction is large, the bounds still belong to resamples."""
    sample = np.zeros(50)
    sample[0] = 1.0
    found = interval(mean_metric("m", sample), np.arange(50), level=0.999)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_clinical_metrics_have_intervals_around_their_values():
    rng = np.random.default_rng(0)
    reference = rng.choice(4, (150, 14), p=[0.6, 0.25, 0.1, 0.05])
    predicted = np.where(rng.random((150, 14)) < 0.7, reference, rng.choice(4, (150, 14)))
    reference[:, 3] = 0
    metrics = clinical.metrics(reference, predicted)
    found = statistics.intervals(metrics, np.repeat(np.arange(50), 3), resamples=1000)
    assert found.keys() == metrics.keys()
    for name, row in found.items():
        assert row.low <= row.value <= row.high, name
        assert row.value == metrics[name].corpus
    assert found["f1/lung lesion"].note == "the same in every resample"
    assert found["example_f1"].low < found["example_f1"].value < found["example_f1"].high


# -- comparison --------------------------------------------------------------------------------------------------------


def first_to_second(v: np.ndarray) -> Metric:
    return Metric("m", np.stack([v, 1 + v**2], axis=1), lambda s: s[..., 0] / s[..., 1])


@pytest.mark.parametrize("make", [lambda v: mean_metric("m", v), first_to_second])
def test_p_equals_that_of_all_swaps(make):
    """9 clusters have 512 swaps: the sampled p is the share of them at least as far apart, within Monte-Carlo error."""
    codes = np.repeat(np.arange(9), 2)
    first, second = values(1, 18), values(2, 18)
    a, b = make(first + 0.4), make(second)
    observed, extreme = abs(a.corpus - b.corpus), 0
    for coins in itertools.product((False, True), repeat=9):
        swapped = np.array(coins)[codes, None]
        left = a.value(np.where(swapped, b.statistics, a.statistics).sum(0))
        right = a.value(np.where(swapped, a.statistics, b.statistics).sum(0))
        extreme += abs(left - right) >= observed - 1e-12
    exact = extreme / 512
    assert 0.01 < exact < 0.99
    found = statistics.compare({"m": a}, {"m": b}, codes, permutations=40_000)["m"]
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_a_system_against_itself_has_no_difference():
    metrics = {"mean": mean_metric("mean", values(1)), "ratio": f1_like(1)}
    copies = {name: Metric(m.name, m.statistics.copy(), m.value) for name, m in metrics.items()}
    for row in statistics.compare(metrics, copies, np.repeat(np.arange(40), 3)).values():
        assert row == statistics.Comparison(0.0, 0.0, 0.0, 1.0, 1.0, "the same in every resample")


def test_a_clear_difference_has_the_smallest_p_and_either_order_agrees():
    """k = 0 gives 1 / (1 + N), never 0; swapping the systems turns the sign alone."""
    noise = values(1)
    a, b = ({"m": mean_metric("m", v)} for v in (noise + 1, noise + 0.01 * values(2)))
    codes = np.arange(120)
    forth, back = statistics.compare(a, b, codes)["m"], statistics.compare(b, a, codes)["m"]
    assert forth.p == back.p == 1 / 10_001
    assert forth.low <= forth.difference <= forth.high and forth.low > 0.9
    assert forth.difference == -back.difference
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-3)


def test_difference_is_on_the_resamples_of_the_intervals():
    """b is a constant: the interval of the difference is that of a, shifted."""
    a, codes = f1_like(4), np.repeat(np.arange(30), 4)
    b = Metric("ratio", np.tile([1.0, 2.0], (120, 1)), a.value)
    alone, pair = interval(a, codes), statistics.compare({"m": a}, {"m": b}, codes)["m"]
    expected = (alone.low - 0.5, alone.high - 0.5)
    assert (pair.low, pair.high) == pytest.approx(expected, abs=1e-12)


def test_p_is_uniform_where_systems_are_alike():
    """Two systems of equal quality on clustered data: p below .05 in about 5 % of trials, by row far more often."""
    rng, small, by_row = np.random.default_rng(0), 0, 0
    codes = np.repeat(np.arange(40), 5)
    for _ in range(300):
        a, b = ({"m": mean_metric("m", rng.normal(size=40)[codes] + 0.3 * rng.normal(size=200))} for _ in range(2))
        small += statistics.compare(a, b, codes, 200, resamples=1)["m"].p <= 0.05
        by_row += statistics.compare(a, b, np.arange(200), 200, resamples=1)["m"].p <= 0.05
    assert 0.02 <= small / 300 <= 0.085
    assert by_row / 300 > 0.25


def test_undefined_and_single_cluster_comparisons():
    empty = Metric("m", np.zeros((6, 2)), lambda s: s[..., 0] / s[..., 1])
    full = mean_metric("n", values(0, 6))
    other = mean_metric("n", values(1, 6))
    rows = statistics.compare({"m": empty, "n": full}, {"m": empty, "n": other}, np.arange(6))
    assert np.isnan([rows["m"].difference, rows["m"].p, rows["m"].p_holm]).all()
    assert rows["m"].note == "undefined over all samples"
    assert rows["n"].p_holm == rows["n"].p  # the undefined one is not counted
    for seed in range(30):  # the one swap only turns the sign, which rounding must not hide
        other = {"n": mean_metric("n", values(seed + 1, 6))}
        single = statistics.compare({"n": full}, other, np.zeros(6, int), 50, resamples=10)["n"]
        assert single.p == 1.0 and np.isnan(single.low) and single.note.startswith("one cluster")


def test_holm_by_hand():
    """.01 x 4, .02 x 3, .04 x 2 and .03 x 2 (the larger of two stays below none before it), 1 at most."""
    assert statistics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.6, 0.5]) == [1.0, 1.0]
    assert statistics.holm([np.nan, 0.02, 0.03])[1:] == pytest.approx([0.04, 0.04])
    assert np.isnan(statistics.holm([np.nan, 0.02]))[0]
    assert statistics.holm([]) == []


# -- clusters and refusals ---------------------------------------------------------------------------------------------


def test_clusters_name_what_they_are_and_why():
    ids, studies, subjects = ["c", "a", "b"], [20, 10, 10], ["p2", "p1", "p1"]
    for arguments, codes, name in (
        ((ids, studies, subjects), [1, 0, 0], "2 patients"),
        ((ids, studies), [1, 0, 0], "2 studies"),
        ((ids,), [2, 0, 1], "3 rows"),
        ((ids, studies, ["p2", None, "p1"]), [1, 0, 0], "2 studies (no patient in 1 of 3 rows)"),
        ((ids, ["", 1, 1], [float("nan"), " ", None]), [2, 0, 1],
         "3 rows (no patient in 3 of 3 rows, no study in 1 of 3 rows)"),
        ((ids, None, ["p", "p", "p"]), [0, 0, 0], "1 patient"),
    ):  # fmt: skip
        found, label = statistics.clusters(*arguments)
        assert found.tolist() == codes and label == name


def test_small_sample_note():
    assert statistics.small_sample_note(100) == ""
    assert statistics.small_sample_note(16).startswith("16 samples: fewer than 100")


def test_refusals():
    three, four = mean_metric("m", np.ones(3)), mean_metric("m", np.ones(4))
    with pytest.raises(ValueError, match=r"m: statistics \[\(3, 2\)\] do not fit 4 samples"):
        statistics.intervals({"m": three}, np.arange(4))
    with pytest.raises(ValueError, match="do not fit"):
        statistics.compare({"m": three}, {"m": four}, np.arange(3))
    with pytest.raises(ValueError, match="only one of the two systems has BLEU, METEOR"):
        statistics.compare({"m": three, "METEOR": three}, {"m": three, "BLEU": three}, np.arange(3))
    with pytest.raises(ValueError, match="at least 1 resample"):
        statistics.intervals({"m": three}, np.arange(3), resamples=0)
    with pytest.raises(ValueError, match="no samples"):
        statistics.intervals({"m": mean_metric("m", np.ones(0))}, np.arange(0))
    with pytest.raises(ValueError, match="one patient a row, got 2 for 3"):
        statistics.clusters(["a", "b", "c"], subjects=["p", "q"])
