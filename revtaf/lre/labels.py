"""How far apart two studies are by their disease labels: paper section 3.3, Eq. 6.

Statuses are (N, K) integers (0 blank, 1 positive, 2 negative, 3 uncertain); the paper's 72-d status vector
is their one-hot form, and its Hamming distance is twice the number of categories whose statuses differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from revtaf.labels import STATUSES

Groups = Tensor | Sequence[int] | Sequence[str]


def status_distance(a: Tensor, b: Tensor) -> Tensor:
    """Eq. 6 for a (N, K), b (M, K) -> (N, M) int64, even numbers in [0, 2K].

    D_ij = sum_k 1[v_ik != v_jk] over the one-hot vectors = 2 (K - <v_i, v_j>): one matrix product, whose
    integers float32 holds exactly. Beside the result it needs the one-hot forms, 288 bytes per study.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both sides need the same number of categories, got {a.shape[1]} and {b.shape[1]}")
    with torch.autocast(a.device.type, enabled=False):
        return (2 * (a.shape[1] - _one_hot(a) @ _one_hot(b).T)).long()


def nearest_by_status(
    queries: Tensor,
    database: Tensor,
    k: int,
    query_groups: Groups | None = None,
    groups: Groups | None = None,
    seed: int = 0,
    chunk: int = 2**24,
) -> tuple[Tensor, Tensor]:
    """The k database studies nearest to each query by labels, never one of the query's own group.

    queries (Q, K), database (N, K) -> distance (Q, k) ascending, row (Q, k), both int64. groups (N,) and
    query_groups (Q,), numbers or strings, name what must not be retrieved for itself (image, study or
    patient).
    Labels are coarse, so most neighbours are ties (a "no finding" study has tens of thousands at distance
    0). They are drawn at random with `seed`: neither the order of the database nor one favourite row decides.
    chunk bounds the memory: at most so many distances are held at once. Distances are computed once per
    distinct status vector, which makes 270,790 studies against themselves a matter of minutes, not hours.
    """
    queries, database = queries.cpu(), database.cpu()
    if queries.shape[1] != database.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} categories, the database has {database.shape[1]}")
    grouping = Grouping(groups, len(database))
    own, members, group_size = grouping.codes(query_groups, len(queries)), grouping.members, grouping.sizes
    grouping.check_enough(own, k)
    rng = np.random.default_rng(seed)

    vectors, vector_of = torch.unique(database, dim=0, return_inverse=True)
    rows_by_vector = np.argsort(vector_of.numpy(), kind="stable")
    bounds = np.r_[0, np.cumsum(np.bincount(vector_of.numpy(), minlength=len(vectors)))]
    asked, query_vector = torch.unique(queries, dim=0, return_inverse=True)
    queries_by_vector = np.argsort(query_vector.numpy(), kind="stable")
    query_bounds = np.r_[0, np.cumsum(np.bincount(query_vector.numpy(), minlength=len(asked)))]

    distance = np.empty((len(queries), k), dtype=np.int64)
    row = np.empty((len(queries), k), dtype=np.int64)
    block = max(1, chunk // max(1, len(vectors)))
    coded = _one_hot(vectors).T
    for start in range(0, len(asked), block):
        same = _one_hot(asked[start : start + block]) @ coded
        for offset, different in enumerate((queries.shape[1] - same).short().numpy()):
            levels = _Levels(different, rows_by_vector, bounds, rng)
            for q in queries_by_vector[slice(*query_bounds[start + offset : start + offset + 2])]:
                excluded = group_size[own[q]] if own[q] >= 0 else 0
                distance[q], row[q] = _draw(levels, k, own[q], members, excluded, rng)
    return torch.from_numpy(distance), torch.from_numpy(row)


def random_others(
    query_groups: Groups, groups: Groups | Grouping, rng: np.random.Generator, size: int | tuple[int, int]
) -> np.ndarray:
    """Random database rows, none of the query's own group: `size` is Q, or (Q, k), in which rows may come twice.

    query_groups (Q,) and groups (N,) as in `nearest_by_status`. ValueError where a query's group has all N rows.
    """
    grouping = groups if isinstance(groups, Grouping) else Grouping(groups, len(groups))
    own = grouping.codes(query_groups, len(query_groups))
    grouping.check_enough(own, 1)
    rows = rng.integers(len(grouping.members), size=size)
    own = own.reshape(-1, *(1,) * (rows.ndim - 1))
    while (again := grouping.members[rows] == own).any():
        rows[again] = rng.integers(len(grouping.members), size=int(again.sum()))
    return rows


class _Levels:
    """The database rows at the smallest distance, the next smallest, ...: shuffled, built when asked for."""

    def __init__(self, different: np.ndarray, rows_by_vector: np.ndarray, bounds: np.ndarray, rng):
        self.different, self.rows_by_vector, self.bounds, self.rng = different, rows_by_vector, bounds, rng
        self.values = np.flatnonzero(np.bincount(different))
        self.rows: list[np.ndarray] = []

    def __getitem__(self, i: int) -> np.ndarray:
        while len(self.rows) <= i:
            vectors = np.flatnonzero(self.different == self.values[len(self.rows)])
            pieces = [self.rows_by_vector[self.bounds[v] : self.bounds[v + 1]] for v in vectors]
            self.rows.append(self.rng.permutation(np.concatenate(pieces)))
        return self.rows[i]


def _draw(levels: _Levels, k: int, own: int, members: np.ndarray, excluded: int, rng):
    """k rows from the lowest levels that do not belong to the group `own`, of which `excluded` rows exist."""
    distances, rows, level = [], [], 0
    missing = k
    while missing:
        pool = levels[level]
        # A random place of the shuffled level, then onwards: every query draws differently, at a cost of k.
        places = rng.integers(len(pool)) + np.arange(min(len(pool), missing + excluded))
        found = pool[places % len(pool)]
        found = found[members[found] != own][:missing]
        rows.append(found)
        distances.append(np.full(len(found), 2 * levels.values[level]))
        missing -= len(found)
        level += 1
    return np.concatenate(distances), np.concatenate(rows)


class Grouping:
    """Which database rows (N,) belong together (image, study or patient): codes for names, made once."""

    def __init__(self, groups: Groups | None, n_rows: int):
        if groups is not None and len(groups) != n_rows:
            raise ValueError(f"expected {n_rows} groups, got {len(groups)}")
        self.given = groups is not None
        names, members = np.unique(_as_array(groups), return_inverse=True) if self.given else ((), None)
        self.members = np.zeros(n_rows, dtype=np.int64) if members is None else members
        self.sizes = np.bincount(self.members, minlength=1)
        self._code = {name: i for i, name in enumerate(np.asarray(names).tolist())}
        self._order = np.argsort(self.members, kind="stable")
        self._bounds = np.r_[0, np.cumsum(self.sizes)]

    def codes(self, query_groups: Groups | None, n_queries: int) -> np.ndarray:
        """Codes of the queries' groups (Q,); -1, which excludes nothing, where there is none or it is unknown."""
        if query_groups is None:
            return np.full(n_queries, -1)
        if not self.given:
            raise ValueError("query_groups were given, but the database has no groups")
        if len(query_groups) != n_queries:
            raise ValueError(f"expected {n_queries} query_groups, got {len(query_groups)}")
        return np.array([self._code.get(name, -1) for name in _as_array(query_groups).tolist()], dtype=np.int64)

    def rows(self, code: int) -> np.ndarray:
        """The rows of one group, ascending."""
        return self._order[self._bounds[code] : self._bounds[code + 1]]

    def check_enough(self, own: np.ndarray, k: int) -> None:
        """ValueError when a query is left with fewer than k rows outside of its own group."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}")
        n = len(self.members)
        allowed = n - np.where(own >= 0, self.sizes[own], 0) if len(own) else np.array([n])
        if allowed.min() < k:
            q = int(allowed.argmin())
            raise ValueError(f"asked for {k} neighbours, but query {q} may only see {allowed[q]} of {n} entries")


def _as_array(groups: Groups) -> np.ndarray:
    return groups.cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)


def _one_hot(statuses: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(statuses.long(), len(STATUSES)).flatten(1).float()
