"""Ranks of right answers in a table of scores: many may be right, scores may be equal, texts may be the same.

The rank of a query is 1 + the number of wrong answers that score higher than its best right one, and of those that
score the same half (or, pessimistically, all): a constant retriever gets the middle, not the first place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from revtaf.eval.metric import Metric, mean_metric
from revtaf.eval.rankings import median_ranks, rank_metrics

AT = (1, 5, 10)
CHUNK = 512  # queries whose scores are held at once

Scores = Callable[[slice], np.ndarray]  # rows of queries -> (q, G) against the whole gallery


def first_ranks(scores: Scores, right: np.ndarray, gallery: np.ndarray, ties: str = "half") -> np.ndarray:
    """(Q,) float64. right (Q,): the group of each query's right answers; gallery (G,): the group of each answer. ties:
    half or pessimistic. ValueError for a query without any right answer, and for scores that are no numbers."""
    counts = {"half": 0.5, "pessimistic": 1.0}[ties]
    ranks = np.empty(len(right))
    for start in range(0, len(right), CHUNK):
        part = slice(start, min(start + CHUNK, len(right)))
        table = np.asarray(scores(part), dtype=np.float64)
        if not np.isfinite(table).all():
            raise ValueError("a score is not finite: it has no rank")
        own = right[part, None] == gallery[None]
        if not own.any(1).all():
            raise ValueError(f"query {start + int((~own.any(1)).argmax())} has no right answer in the gallery")
        best = np.where(own, table, -np.inf).max(1, keepdims=True)
        above, equal = ((table > best) & ~own).sum(1), ((table == best) & ~own).sum(1)
        ranks[part] = 1 + above + counts * equal
    return ranks


def collapse(groups: Iterable[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N,) of equal entries, and the first position (C,) of each code, in the order of their first appearance."""
    known: dict[Hashable, int] = {}  # an array of texts would give each the room of the longest
    codes = np.array([known.setdefault(group, len(known)) for group in groups], np.int64)
    return codes, np.unique(codes, return_index=True)[1]


def retrieval_metrics(
    ranks: Mapping[str, np.ndarray], prefix: str, counted: np.ndarray
) -> dict[str, dict[str, Metric]]:
    """Row -> <prefix>_recall_at_1, 5 and 10, _median_rank, _mean_rank and _mrr of ranks (Q,). counted (Q,) bool: the
    queries that count; a report that several images share is asked once. The median is exact up to 100. ValueError
    where an invariant does not hold."""
    medians = median_ranks({row: _few_levels(values) for row, values in ranks.items()})
    found: dict[str, dict[str, Metric]] = {}
    for row, values in ranks.items():
        metrics = rank_metrics(values, AT)
        metrics = {f"recall_at_{k}": metrics[f"recall_at_{k}"] for k in AT} | {
            "median_rank": medians[row],
            "mean_rank": mean_metric("mean_rank", values, higher_is_better=False),
            "mrr": metrics["mrr"],
        }
        metrics = {name: replace(m, statistics=m.statistics * counted[:, None]) for name, m in metrics.items()}
        check_invariants({name: m.corpus for name, m in metrics.items()})
        found[row] = {f"{prefix}_{name}": replace(m, name=f"{prefix}_{name}") for name, m in metrics.items()}
    return found


def _few_levels(ranks: np.ndarray) -> np.ndarray:
    """Beyond 100, to two digits: a median is a table of counts, one column for each rank that occurs."""
    step = 10.0 ** np.maximum(np.floor(np.log10(ranks)) - 1, 0)
    return np.where(ranks <= 100, ranks, np.round(ranks / step) * step)


def check_invariants(values: Mapping[str, float]) -> None:
    """ValueError for what no ranking can score: recall falls with k, or a median rank beyond k where more than half of
    the queries have their answer among the first k."""
    recalls = [values[f"recall_at_{k}"] for k in AT]
    if recalls != sorted(recalls):
        raise ValueError(f"recall falls with k: {recalls}")
    for k, recall in zip(AT, recalls, strict=True):
        if recall > 0.5 and values["median_rank"] > k:
            raise ValueError(f"{recall:.3f} of the answers are among the first {k}, but the median rank is not")


def expected_of_duplicates(sizes: np.ndarray, right: np.ndarray) -> dict[str, Metric]:
    """What a perfect reader gets who cannot tell a report from its exact copies: sizes (Q,), how many answers look the
    same, right (Q,), how many of them are right. All are means over the copies' order."""
    pairs, place = np.unique(np.stack([sizes, right], 1).astype(int), axis=0, return_inverse=True)
    names = [*(f"recall_at_{k}" for k in AT), "mean_rank", "mrr"]
    lines = []
    for size, good in pairs.tolist():
        ranks = np.arange(1, size - good + 2)  # that the first right one can have
        chance = np.array([math.comb(size - rank, good - 1) / math.comb(size, good) for rank in ranks.tolist()])
        lines.append([*(chance[:k].sum() for k in AT), chance @ ranks, chance @ (1 / ranks)])
    values = np.array(lines)[place.reshape(-1)].T
    return {
        name: mean_metric(name, found, higher_is_better=name != "mean_rank")
        for name, found in zip(names, values, strict=True)
    }
