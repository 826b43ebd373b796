"""Ranks of right answers: against a count by hand, with ties, many right answers and equal texts."""

import numpy as np
import pytest

from revtaf.eval import ranks


def by_counting(table, right, gallery, ties):
    """The O(N^2) oracle: one query and one answer at a time."""
    found = []
    for scores, group in zip(table, right, strict=True):
        best = max(score for score, g in zip(scores, gallery, strict=True) if g == group)
        rank = 1.0
        for score, g in zip(scores, gallery, strict=True):
            if g != group and score > best:
                rank += 1
            elif g != group and score == best:
                rank += {"half": 0.5, "pessimistic": 1.0}[ties]
        found.append(rank)
    return np.array(found)


@pytest.mark.parametrize("ties", ["half", "pessimistic"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ranks_are_those_of_an_oracle(seed, ties, monkeypatch):
    """Scores of a few values, so that most are tied; several images of one report; more queries than a chunk."""
    monkeypatch.setattr(ranks, "CHUNK", 7)
    rng = np.random.default_rng(seed)
    gallery = rng.integers(0, 12, 40)
    right = rng.choice(gallery, 30)
    table = rng.integers(0, 5, (30, 40)) / 4
    found = ranks.first_ranks(lambda part: table[part], right, gallery, ties)
    np.testing.assert_array_equal(found, by_counting(table, right, gallery, ties))


def test_a_constant_retriever_gets_the_middle():
    """No order of the gallery makes it good."""
    groups = np.arange(9)
    assert (ranks.first_ranks(lambda part: np.zeros((9, 9))[part], groups, groups) == 5).all()


def test_refusals():
    groups = np.arange(3)
    with pytest.raises(ValueError, match="query 2 has no right answer"):
        ranks.first_ranks(lambda part: np.zeros((3, 2))[part], groups, groups[:2])
    with pytest.raises(ValueError, match="not finite"):
        ranks.first_ranks(lambda part: np.full((3, 3), np.nan)[part], groups, groups)


def test_equal_entries_are_one_in_the_order_they_come():
    codes, first = ranks.collapse(["b", "a", "b", "c", "a"])
    assert codes.tolist() == [0, 1, 0, 2, 1] and first.tolist() == [0, 1, 3]


def test_a_report_of_several_images_is_asked_once():
    """Values by hand: of four samples, two share a report, whose second row does not count."""
    found = ranks.retrieval_metrics({"a": np.array([1.0, 1.0, 7.0, 2.0])}, "t2i", np.array([True, False, True, True]))
    values = {name: metric.corpus for name, metric in found["a"].items()}
    assert values["t2i_recall_at_1"] == pytest.approx(1 / 3) and values["t2i_median_rank"] == 2
    assert values["t2i_mean_rank"] == pytest.approx(10 / 3)
    assert values["t2i_mrr"] == pytest.approx((1 + 1 / 7 + 1 / 2) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_paper_s_table_cannot_be_and_any_ranking_can(seed):
    """Table II: R@1 62.4 % with a median rank of 6."""
    values = np.random.default_rng(seed).geometric(0.3, 51).astype(float)
    ranks.retrieval_metrics({"any": values}, "i2t", np.ones(51, dtype=bool))
    with pytest.raises(ValueError, match="median rank is not"):
        ranks.check_invariants(
            {"recall_at_1": 0.624, "recall_at_5": 0.785, "recall_at_10": 0.837, "median_rank": 6.0, "mrr": 0.7}
        )


def test_what_knowing_the_very_text_is_worth():
    """Two copies: right at once half the time; eleven: among the first ten in ten of eleven orders."""
    sizes = np.array([1, 2, 11])
    found = {name: m.per_sample for name, m in ranks.expected_of_duplicates(sizes, np.ones(3)).items()}
    np.testing.assert_allclose(found["recall_at_1"], [1, 1 / 2, 1 / 11])
    np.testing.assert_allclose(found["recall_at_10"], [1, 1, 10 / 11])
    np.testing.assert_allclose(found["mean_rank"], [1, 1.5, 6])
    np.testing.assert_allclose(found["mrr"][:2], [1, 0.75])


def test_of_several_right_copies_the_first_counts():
    """20 images of ten studies with one text, two of each: against all orders, drawn."""
    found = {n: m.corpus for n, m in ranks.expected_of_duplicates(np.array([20]), np.array([2])).items()}
    draw = np.random.default_rng(0)
    first = np.array([draw.permutation(20)[:2].min() + 1 for _ in range(20_000)])
    assert found["mean_rank"] == pytest.approx(7.0) == pytest.approx(first.mean(), rel=0.02)
    for k in (1, 5, 10):
        assert found[f"recall_at_{k}"] == pytest.approx((first <= k).mean(), abs=0.02)
    assert found["mrr"] == pytest.approx((1 / first).mean(), abs=0.01)
    assert ranks.expected_of_duplicates(np.array([3]), np.array([3]))["mean_rank"].corpus == 1


def test_the_median_of_large_ranks_has_few_levels():
    """Exact up to 100, two digits beyond: 20,000 queries do not need 20,000 columns."""
    values = np.arange(1, 20_001).astype(float)
    metric = ranks.retrieval_metrics({"a": values}, "i2t", np.ones(len(values), dtype=bool))["a"]["i2t_median_rank"]
    assert metric.statistics.shape[1] < 400 and metric.corpus == pytest.approx(10_000, rel=0.01)
