"""Distances and neighbours by labels: Eq. 6, against explicit one-hot vectors and brute force."""

import numpy as np
import pytest
import torch

from revtaf.lre.labels import Grouping, nearest_by_status, random_others, status_distance


def statuses(n: int, seed: int, k: int = 18):
    return torch.randint(0, 4, (n, k), generator=torch.Generator().manual_seed(seed))


def one_hot_xor(a, b):
    va, vb = (torch.nn.functional.one_hot(x, 4).flatten(1).bool() for x in (a, b))
    return (va[:, None] ^ vb[None]).sum(-1)


def test_distance_is_the_hamming_distance_of_one_hot_vectors():
    a, b = statuses(20, 0), statuses(30, 1)
    d = status_distance(a, b)
    assert d.dtype == torch.int64 and torch.equal(d, one_hot_xor(a, b))
    assert torch.equal(d, 2 * (a[:, None] != b[None]).sum(-1))


@pytest.mark.parametrize("chunk", (1, 100, 2**24))
@pytest.mark.parametrize("k", (1, 7))
def test_neighbours_equal_brute_force(k, chunk):
    database, queries = statuses(150, 2, 3), statuses(40, 3, 3)
    distance, row = nearest_by_status(queries, database, k, chunk=chunk)
    full = one_hot_xor(queries, database)
    assert torch.equal(distance, full.sort(dim=1).values[:, :k])
    assert torch.equal(full.gather(1, row), distance)
    assert all(len(set(r)) == k for r in row.tolist())


def test_own_group_is_never_returned():
    database = statuses(120, 4, 2)
    patients = [f"p{i // 6}" for i in range(120)]
    distance, row = nearest_by_status(database, database, 5, patients, patients)
    assert all(patients[r] != patients[q] for q in range(120) for r in row[q].tolist())
    other = torch.tensor([[a != b for b in patients] for a in patients])
    full = torch.where(other, one_hot_xor(database, database), 10**6)
    assert torch.equal(distance, full.sort(dim=1).values[:, :5])


def test_ties_are_spread_over_all_candidates():
    """400 identical studies: an argmin would give row 0 to everyone."""
    database = torch.zeros(400, 18, dtype=torch.long)
    groups = torch.arange(400)
    _, row = nearest_by_status(database, database, 1, groups, groups, seed=1)
    counts = np.bincount(row[:, 0].numpy(), minlength=400)
    assert (counts > 0).sum() > 200 and counts.max() < 8
    again = nearest_by_status(database, database, 1, groups, groups, seed=1)[1]
    assert torch.equal(row, again)
    assert not torch.equal(row, nearest_by_status(database, database, 1, groups, groups, seed=2)[1])


def test_too_few_entries_are_named():
    database = statuses(4, 0)
    with pytest.raises(ValueError, match="asked for 2 neighbours, but query 0 may only see 1 of 4"):
        nearest_by_status(database[:1], database, 2, ["a"], ["a", "a", "a", "b"])
    with pytest.raises(ValueError, match="18"):
        nearest_by_status(database[:, :14], database, 1)


def test_unknown_groups_match_nothing():
    grouping = Grouping(["x", "y", "x"], 3)
    own, members = grouping.codes(["y", "z"], 2), grouping.members
    assert members.tolist() == [0, 1, 0] and own.tolist() == [1, -1]
    with pytest.raises(ValueError, match="expected 3 groups, got 2"):
        Grouping([1, 2], 3)


@pytest.mark.parametrize("size", [400, (400, 3)])
def test_random_rows_are_of_others_and_the_draw_is_the_generators(size):
    """Rejection from one stream: what was right at the first draw stays. A group that has all rows is refused."""
    groups, asked = ["a"] * 8 + ["b", "c"], ["a", "c", "z", "b"] * 100
    rows = random_others(asked, groups, np.random.default_rng(3), size)
    drawn = np.random.default_rng(3).integers(10, size=size)
    own = np.array(groups)[drawn] == np.array(asked).reshape(-1, *(1,) * (drawn.ndim - 1))
    assert own.any() and np.array_equal(rows[~own], drawn[~own])
    assert all(groups[row] != name for name, found in zip(asked, rows.reshape(400, -1), strict=True) for row in found)
    with pytest.raises(ValueError, match="may only see 0 of 2"):
        random_others(["a"], ["a", "a"], np.random.default_rng(0), 1)
