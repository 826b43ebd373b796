"""Retrievers judged by labels: by hand, by brute force, and at their limits."""

import json

import numpy as np
import pytest
import torch

from revtaf.eval import clinical, retrieval
from revtaf.eval.retrieval import DEPTH, Database, depth, metrics, overlap, shared
from revtaf.labels import BLANK
from revtaf.lre.labels import status_distance

NDCG = f"nDCG@{DEPTH}"


def statuses(n: int, seed: int, k: int = 18) -> np.ndarray:
    """Mostly blank, as reports are."""
    return np.random.default_rng(seed).choice(4, (n, k), p=[0.6, 0.2, 0.1, 0.1])


def some_rows(n: int, database: int, seed: int = 0) -> np.ndarray:
    """(n, DEPTH) distinct rows each."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(database)[:DEPTH] for _ in range(n)])


def best_rows(table: np.ndarray) -> np.ndarray:
    return np.argsort(-table, axis=1, kind="stable")[:, :DEPTH]


def judge(queries, database, rows, owners=(None, None)) -> dict:
    return Database(database, queries, *owners).judge(rows)


def ndcg(queries, database, rows, owners=(None, None)) -> np.ndarray:
    content = json.loads(json.dumps(judge(queries, database, rows, owners)))
    return metrics(content, queries)[NDCG].per_sample


def test_the_first_neighbour_is_nearest_where_no_other_that_may_be_seen_is_nearer():
    """Two rows tie, the query's own copy does not count; the second query's first neighbour is one category off."""
    queries = np.array([[1, 1, 0, 0], [2, 2, 2, 2]])
    database = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 2], [2, 2, 2, 2], [2, 2, 2, 1]])
    queries, database = (np.pad(part, ((0, 0), (0, 10))) for part in (queries, database))
    owners = (np.array([0, 1, 2, 3, 4]), np.array([0, 9]))
    rows = np.array([[2, 1, 3, 4, 1], [4, 3, 2, 1, 0]])
    content = json.loads(json.dumps(judge(queries, database, rows, owners)))
    assert content["least"] == [1, 0]
    assert metrics(content, queries)["nearest@1"].per_sample.tolist() == [1, 0]


def test_overlap_by_hand():
    """Same category and same status count; blanks do not; two empty reports agree, an empty and another do not."""
    a = np.array([[1, 2, 0, 3], [0, 0, 0, 0]])
    b = np.array([[1, 2, 0, 3], [1, 1, 0, 3], [1, 0, 2, 0], [2, 1, 1, 1], [0, 0, 0, 0]])
    assert overlap(a, b).tolist() == [[1, 2 / 4, 1 / 4, 0, 0], [0, 0, 0, 0, 1]]


def test_overlap_is_jaccard_of_pairs():
    a, b = statuses(20, 0), statuses(30, 1)
    found = overlap(a, b)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            one, other = ({(k, s) for k, s in enumerate(line) if s != BLANK} for line in (x, y))
            assert found[i, j] == pytest.approx(len(one & other) / len(one | other) if one | other else 1)


def test_the_best_rows_have_an_ndcg_of_one():
    queries, database = statuses(25, 0), statuses(80, 1)
    assert ndcg(queries, database, best_rows(overlap(queries, database))) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_no_rows_beat_the_best(seed):
    """Any distinct rows stay at 1 or below, and random ones clearly below."""
    queries, database = statuses(40, 0), statuses(80, 1)
    found = ndcg(queries, database, some_rows(40, 80, seed))
    assert found.max() <= 1 + 1e-9 and found.min() >= 0 and found.mean() < 0.8


def test_ndcg_by_hand():
    """Gains 0, 1, 0, 0, 0 of an ideal 1, .5, 0, 0, 0."""
    queries = np.array([[1, 1, 0, 0] + [0] * 10])
    database = np.array([[1, 1, 0, 0], [1, 0, 0, 0], *[[0, 0, 1, 1]] * 4])
    database = np.pad(database, ((0, 0), (0, 10)))
    expected = (1 / np.log2(3)) / (1 + 0.5 / np.log2(3))
    assert ndcg(queries, database, np.array([[2, 0, 3, 4, 5]])) == pytest.approx(expected)


def test_a_worse_order_lowers_ndcg():
    """The same five rows from the worst to the best, where they differ; the set alone does not decide."""
    queries, database = statuses(40, 0), statuses(80, 1)
    table = overlap(queries, database)
    rows = best_rows(table)
    differ = np.ptp(np.take_along_axis(table, rows, axis=1), axis=1) > 0
    found = ndcg(queries, database, rows[:, ::-1])
    assert differ.sum() > 20
    assert (found[differ] < 1 - 1e-6).all() and found[~differ] == pytest.approx(1)


def test_a_query_that_agrees_with_nobody_is_not_held_against_the_retriever():
    queries, database = np.full((2, 14), 1), np.full((8, 14), 2)
    assert ndcg(queries, database, some_rows(2, 8)).tolist() == [1, 1]


def test_rows_that_may_not_be_seen_do_not_count_in_the_ideal():
    """The query's own copies are in the database: unseen, the best of the others is the best there is."""
    others, queries = statuses(60, 1), statuses(20, 0)
    database = np.concatenate([queries, queries, others])
    owners = np.concatenate([np.arange(20), np.arange(20), np.full(60, -1)])
    allowed = owners[None] != np.arange(20)[:, None]
    rows = best_rows(np.where(allowed, overlap(queries, database), -1))
    assert np.take_along_axis(allowed, rows, axis=1).all()
    assert ndcg(queries, database, rows, (owners, np.arange(20))) == pytest.approx(1)
    assert ndcg(queries, database, rows).mean() < 0.95


def test_a_query_that_sees_few_rows_is_not_scored_above_one():
    """Three of six may be seen; a database of three works, too."""
    query = np.array([[1, 1] + [0] * 12])
    database = np.repeat(query, 6, 0)
    owners = (np.array([0, 0, 0, 1, 1, 1]), np.array([1]))
    assert ndcg(query, database, np.array([[0, 1, 2, 0, 0]]), owners)[0] >= 1
    assert Database(database, query, *owners).ideal == [[1, 1, 1, 0, 0]]
    assert Database(database[:3], query).ideal == [[1, 1, 1, 0, 0]]


def test_chunks_change_nothing(monkeypatch):
    queries, database, rows = statuses(23, 0), statuses(50, 1), some_rows(23, 50)
    owners = (np.random.default_rng(2).integers(8, size=50), np.arange(23) % 8)
    whole = judge(queries, database, rows, owners)
    monkeypatch.setattr(retrieval, "CHUNK", 4)
    assert judge(queries, database, rows, owners) == whole


def test_distance_is_half_of_equation_6():
    queries, database, rows = statuses(12, 0), statuses(30, 1), some_rows(12, 30)
    full = status_distance(torch.from_numpy(queries), torch.from_numpy(database)).numpy() / 2
    content = judge(queries, database, rows)
    expected = np.take_along_axis(full, rows, axis=1)
    assert np.array_equal(content["distance"], expected)
    found = metrics(content, queries)
    assert found["distance@1"].corpus == pytest.approx(expected[:, 0].mean())
    assert found[f"distance@{DEPTH}"].corpus == pytest.approx(expected.mean())
    assert not found["distance@1"].higher_is_better and found[NDCG].higher_is_better
    assert found["overlap@1"].corpus == pytest.approx(
        np.take_along_axis(overlap(queries, database), rows, axis=1)[:, 0].mean(), abs=1e-6
    )


@pytest.mark.parametrize("categories", [14, 18])
def test_clinical_scores_are_those_of_the_first_neighbour(categories):
    queries, database, rows = statuses(30, 0, categories), statuses(40, 1, categories), some_rows(30, 40)
    found = metrics(json.loads(json.dumps(judge(queries, database, rows))), queries)
    expected = clinical.compute(queries, database[rows[:, 0]])
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name].corpus == pytest.approx(value), name
    assert found["micro_f1"].corpus > 0


def test_shared_neighbours_by_hand():
    """Two of three, then none, in any order."""
    a, b = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 9, 1], [7, 8, 9]])
    assert shared(a, b) == pytest.approx((2 / 3 + 0) / 2)
    assert shared(a, a[:, ::-1]) == 1


def at_radii(radii, curvature: float, seed: int = 0) -> np.ndarray:
    """float32 points in random directions at shares of the ball's radius."""
    x = np.random.default_rng(seed).standard_normal((len(radii), 16))
    x *= (np.asarray(radii) / np.sqrt(curvature) / np.linalg.norm(x, axis=1))[:, None]
    return x.astype(np.float32)


@pytest.mark.parametrize("curvature", [0.01, 1.0])
def test_depth_that_follows_the_findings_has_a_rank_correlation_of_one(curvature):
    """Radii are shares of the ball, whatever its curvature."""
    radii, count = np.linspace(0.05, 0.95, 19), np.arange(19) // 3
    name = "rank correlation with the number of findings"
    distinct = depth(at_radii(radii, curvature), curvature, np.arange(19))
    assert distinct[name] == pytest.approx(1)
    assert depth(at_radii(radii[::-1], curvature), curvature, np.arange(19))[name] == pytest.approx(-1)
    assert distinct["quantiles"]["0"] == pytest.approx(0.05, abs=1e-5)
    assert distinct["quantiles"]["0.5"] == pytest.approx(0.5, abs=1e-5)
    assert distinct["quantiles"]["1"] == pytest.approx(0.95, abs=1e-5)
    by_count = depth(at_radii(radii, curvature), curvature, count)["mean radius by number of findings"]
    assert by_count == pytest.approx({n: radii[count == n].mean() for n in range(7)}, abs=1e-5)


def test_depth_that_does_not_vary_has_no_correlation():
    name = "rank correlation with the number of findings"
    same = np.tile(at_radii([0.5], 1.0), (6, 1))
    assert depth(same, 1.0, np.arange(6))[name] is None
    assert depth(at_radii(np.linspace(0.1, 0.9, 6), 1.0), 1.0, np.full(6, 2))[name] is None


def test_points_clamped_to_one_radius_do_not_vary():
    """All at the edge, as the network clamps them, in different directions."""
    found = depth(at_radii(np.full(30, 0.996), 0.01), 0.01, np.arange(30))
    assert found["rank correlation with the number of findings"] is None


def test_the_share_near_the_edge_by_hand():
    content = depth(at_radii([0.1, 0.89, 0.91, 0.99], 0.01), 0.01, np.arange(4))
    assert content["share beyond .9"] == 0.5
    assert json.loads(json.dumps(content))["share beyond .9"] == 0.5
