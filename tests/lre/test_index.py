"""The index answers as a float64 scan of the whole database does."""

import pytest
import torch

from revtaf.lre import index as module
from revtaf.lre.ball import METRICS, pairwise
from revtaf.lre.index import RetrievalIndex

# (smallest, largest) share of the radius: near the centre, in the middle, at the edge where the HNN clamps.
SHELLS = {"centre": (0.001, 0.01), "middle": (0.3, 0.6), "edge": (0.98, 0.996), "all": (0.0, 0.99)}


def cloud(n: int, c: float, shell=(0.3, 0.6), seed: int = 0, width: int = 64):
    """Points of the positive orthant, as a network that ends with a ReLU makes them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator).relu() + 1e-3
    low, high = shell
    share = low + (high - low) * torch.rand(n, 1, generator=generator)
    return x / x.norm(dim=1, keepdim=True) * share / c**0.5


def brute_force(metric, queries, database, c, k, forbidden=None):
    d = pairwise(metric, queries.double(), database.double(), c)
    if forbidden is not None:
        d = d.masked_fill(forbidden, torch.inf)
    distance, row = d.sort(dim=1, stable=True)
    return distance[:, :k], row[:, :k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("c", (0.01, 1.0))
def test_equals_brute_force(metric, shell, c):
    database, queries = cloud(2000, c, SHELLS[shell]), cloud(20, c, SHELLS[shell], seed=1)
    distance, row = RetrievalIndex(database, c, metric=metric, chunk=300).search(queries, 10)
    expected, expected_row = brute_force(metric, queries, database, c, 10)
    assert torch.equal(row, expected_row)
    torch.testing.assert_close(distance, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shell", SHELLS)
def test_duplicates_and_near_duplicates(shell):
    """100 rows around each of 10 points, 10 of them the same: the order is exact, ties go to the lowest row."""
    base = cloud(10, 0.01, SHELLS[shell])
    database = base.repeat(100, 1)
    noise = torch.randn(database.shape, generator=torch.Generator().manual_seed(3))
    database[100:] *= 1 + 1e-6 * noise[100:]
    distance, row = RetrievalIndex(database, 0.01).search(base, 12)
    expected, expected_row = brute_force("hyperbolic", base, database, 0.01, 12)
    assert torch.equal(row, expected_row)
    assert (distance[:, :10] == 0).all() and row[0, :10].tolist() == list(range(0, 100, 10))


@pytest.mark.parametrize("kind", ("ints", "strings"))
def test_own_group_is_excluded(kind):
    database = cloud(300, 0.01)
    ids = torch.arange(300) // 3
    groups = ids if kind == "ints" else [f"study {i}" for i in ids.tolist()]
    index = RetrievalIndex(database, 0.01, groups)
    distance, row = index.search(database, 5, groups)
    expected = brute_force("hyperbolic", database, database, 0.01, 5, ids[:, None] == ids[None])
    assert torch.equal(row, expected[1]) and (ids[row] != ids[:, None]).all()
    assert distance.min() > 0
    # A group that the database does not know excludes nothing: each finds itself.
    unknown = ids + 1000 if kind == "ints" else ["elsewhere"] * 300
    assert torch.equal(index.search(database, 1, unknown)[1][:, 0], torch.arange(300))
    assert torch.equal(index.search(database, 1)[1][:, 0], torch.arange(300))


def test_answer_does_not_depend_on_order_or_batch():
    database, queries = cloud(500, 0.01), cloud(9, 0.01, seed=1)
    distance, row = RetrievalIndex(database, 0.01).search(queries, 4)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    shuffled = RetrievalIndex(database[order], 0.01, chunk=77)
    one_by_one = [shuffled.search(q[None], 4) for q in queries]
    assert torch.equal(order[torch.cat([r for _, r in one_by_one])], row)
    torch.testing.assert_close(torch.cat([d for d, _ in one_by_one]), distance, rtol=1e-12, atol=0)


def test_many_queries_are_cut_into_blocks(monkeypatch):
    database, queries = cloud(400, 0.01), cloud(50, 0.01, seed=1)
    expected = RetrievalIndex(database, 0.01).search(queries, 3)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 400 * 7)
    monkeypatch.setattr(module, "DOUBLES_AT_ONCE", 2)
    found = RetrievalIndex(database, 0.01).search(queries, 3)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("shell", SHELLS)
def test_the_allowed_product_error_is_never_reached(shell):
    """The candidate bound is safe: rounding stays 8 times below PRODUCT_ERROR at width 512."""
    database, queries = cloud(2000, 0.01, SHELLS[shell], width=512), cloud(30, 0.01, SHELLS[shell], 1, 512)
    index = RetrievalIndex(database, 0.01)
    lower, upper = index._bounds(queries)
    difference = queries[:, None].double() - database[None].double()
    stretch = 1 / (1 - 0.01 * database.double().square().sum(-1))
    exact = difference.square().sum(-1) * stretch
    middle, half = (lower.double() + upper) / 2, (upper.double() - lower) / 2
    assert ((middle - exact).abs() / half).max() < 1 / 8


def test_search_needs_no_gradient():
    database = cloud(50, 0.01).requires_grad_()
    assert not RetrievalIndex(database, torch.tensor(0.01)).search(database, 1)[0].requires_grad


def test_errors_name_both_numbers():
    database = cloud(5, 0.01)
    index = RetrievalIndex(database, 0.01, ["a", "a", "a", "b", "b"])
    with pytest.raises(ValueError, match="asked for 3 neighbours, but query 1 may only see 2 of 5"):
        index.search(database[:2], 3, ["b", "a"])
    with pytest.raises(ValueError, match="queries are 7 wide, the index 64"):
        index.search(torch.zeros(1, 7), 1)
    with pytest.raises(ValueError, match="no groups"):
        RetrievalIndex(database, 0.01).search(database[:1], 1, ["a"])
