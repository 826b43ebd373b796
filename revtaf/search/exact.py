"""Exact nearest neighbours among stored unit vectors, without an index of any kind.

The vectors stay in float16 on disk. One piece after another is made float32 in one buffer and multiplied with all
queries; only scores that may be among the best k are looked at again, in float64. The answer is that of a float64 scan
of the stored values, ties by row: it does not depend on the piece, the batch, or the library that multiplies.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from revtaf.errors import UserError

ROWS_AT_ONCE = 4096  # of a piece: 8 MB in float32 at width 512; smaller ones cost merging, larger ones the cache
QUERIES_AT_ONCE = 512  # 16 MB of scores
DOUBLES_AT_ONCE = 8192  # rows held at once in float64
_LOWEST = np.finfo(np.float32).min  # above the -inf of rows that are left out


def nearest(
    parts: Sequence[np.ndarray], queries: np.ndarray, k: int, skip: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of largest inner product with each query: score (Q, k) float64 descending, row (Q, k) int64.

    parts: the rows in order, as arrays (n, D) float16 or float32 of unit length, mapped or not. queries: (Q, D) of unit
    length. skip: for each part (n,) bool, rows that are never returned. Of equal scores the lower row comes first.
    Raises UserError where fewer than k rows are left. A row that holds no numbers is never
    found; where one could take others with it, every score is NaN.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    width = queries.shape[1]
    count = sum(len(part) for part in parts) - sum(int(mask.sum()) for mask in skip or ())
    check_enough(k, count, "rows" if skip is None else "rows that are not excluded")
    if any(part.shape[1] != width for part in parts):
        raise ValueError(f"queries are {width} wide, the rows {[part.shape[1] for part in parts]}")
    # |x.y - fl(x.y)| <= D 2^-24 for unit vectors, in whatever order the product is summed; a little more for float16's
    # own rounding of the unit length.
    error = 1.1 * width * 2.0**-24 + 1e-7
    if _factors_are_rounded():  # to 2^-8, each: more is looked at again
        error = 2.0**-6
    score = np.full((len(queries), k), -np.inf)
    row = np.full((len(queries), k), np.iinfo(np.int64).max)
    buffer = torch.empty(ROWS_AT_ONCE, width)
    scores = torch.empty(ROWS_AT_ONCE * min(QUERIES_AT_ONCE, len(queries)))
    asked_for = torch.from_numpy(queries).T.contiguous()
    first = 0
    for number, part in enumerate(parts):
        for start in range(0, len(part), ROWS_AT_ONCE):
            piece = part[start : start + ROWS_AT_ONCE]
            values = _single(piece, buffer)
            out = None if skip is None else skip[number][start : start + ROWS_AT_ONCE]
            for ask in range(0, len(queries), QUERIES_AT_ONCE):
                asked = slice(ask, min(ask + QUERIES_AT_ONCE, len(queries)))
                many = asked.stop - ask
                made = scores[: len(piece) * many].view(len(piece), many)
                found = torch.mm(values, asked_for[:, asked], out=made).numpy()
                if out is not None:
                    found[out] = -np.inf
                limit = score[asked, -1] - error
                if len(piece) >= k and not np.isfinite(limit).all():
                    best = made.topk(k, dim=0).values.numpy()
                    if np.isnan(best).any():  # no limit: every row of the piece would fall behind it
                        return np.full_like(score, np.nan), row
                    limit = np.maximum(limit, best[-1].astype(np.float64) - 2 * error)
                limit = np.nextafter(np.maximum(limit, _LOWEST).astype(np.float32), np.float32(_LOWEST))
                within, asking = np.divmod(np.flatnonzero(found >= limit), many)
                _merge(
                    score[asked], row[asked], asking, rescored(queries[asked], asking, piece, within), within + first
                )
            first += len(piece)
    return score, row


def check_enough(k: int, count: int, what: str) -> None:
    """UserError where k neighbours are asked for and only `count` can be given."""
    if k > count:
        raise UserError(f"-k {k}: there are only {count} {what}; ask for {count} at most")


def rescored(queries: np.ndarray, asking: np.ndarray, rows: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Inner products in float64 of pairs: query `asking[i]` with row `within[i]`, (n,). Equal rows score equally."""
    result = np.empty(len(asking))
    for start in range(0, len(asking), DOUBLES_AT_ONCE):
        pair = slice(start, start + DOUBLES_AT_ONCE)
        product = queries[asking[pair]].astype(np.float64)
        product *= rows[within[pair]]
        result[pair] = product.sum(1)
    return result


def best_of(asking: np.ndarray, score: np.ndarray, row: np.ndarray, queries: int, k: int) -> np.ndarray:
    """Which of the pairs (query, score, row) are each query's best k, (queries, k) positions; each has k or more."""
    order = np.lexsort((row, -score, asking))
    start = np.searchsorted(asking[order], np.arange(queries))
    return order[start[:, None] + np.arange(k)]


def _merge(score: np.ndarray, row: np.ndarray, asking: np.ndarray, more: np.ndarray, rows: np.ndarray) -> None:
    """Take what is better than the (Q, k) so far into them, in place."""
    queries, k = score.shape
    asked = np.concatenate([np.repeat(np.arange(queries), k), asking])
    all_scores, all_rows = np.concatenate([score.ravel(), more]), np.concatenate([row.ravel(), rows])
    best = best_of(asked, all_scores, all_rows, queries, k)
    score[:], row[:] = all_scores[best], all_rows[best]


def _factors_are_rounded() -> bool:
    """Whether the caller allows PyTorch bfloat16 in products of float32. It is set by two interfaces, of which the
    older cannot be read once the newer was used."""
    product = getattr(torch.backends.mkldnn, "matmul", None)
    if product is None:
        return torch.get_float32_matmul_precision() == "medium"
    return product.fp32_precision in ("bf16", "tf32")


def _single(piece: np.ndarray, buffer: torch.Tensor) -> torch.Tensor:
    """The piece in float32. PyTorch converts half precision eight times faster than NumPy does; so it multiplies, too:
    the threads of two libraries would wait for each other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing is written to it
        stored = torch.from_numpy(piece)
    return stored if stored.dtype == torch.float32 else buffer[: len(piece)].copy_(stored)
