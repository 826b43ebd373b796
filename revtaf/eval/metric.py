"""A metric as sufficient statistics: what each sample contributes, and what a sum of contributions is worth.

BLEU and METEOR are functions of sums over the corpus, not means over samples; so are micro and macro averages, and even
a median. Kept as statistics, all of them are resampled alike, and an interval or a paired test never scores again.

A value function is a function of a module, or a `functools.partial` of one with keywords that JSON can hold: so
`revtaf.eval.kept` can name it in a file and find it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np


@dataclass(frozen=True)
class Metric:
    """statistics (N, d) float64, one row a sample; value: sums (..., d) -> the metric (...), vectorised."""

    name: str
    statistics: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]
    higher_is_better: bool = True

    @property
    def corpus(self) -> float:
        """Over all samples."""
        return float(self.value(self.statistics.sum(axis=0)))

    @property
    def per_sample(self) -> np.ndarray:
        """(N,): each sample as a corpus of its own."""
        return np.asarray(self.value(self.statistics), dtype=float)


def mean_metric(name: str, values: np.ndarray, higher_is_better: bool = True) -> Metric:
    """The mean of values (N,)."""
    values = np.asarray(values, dtype=float)
    return Metric(name, np.stack([values, np.ones_like(values)], axis=1), mean, higher_is_better)


def median_metric(
    name: str, values: np.ndarray, higher_is_better: bool = True, levels: Sequence[float] | None = None
) -> Metric:
    """The median of values (N,): of an even number of samples the mean of the middle two, as NumPy has it.

    levels: every value that may occur, ascending; those of `values` where not given. Systems that are compared need the
    same ones. Statistics are (N, L), and so is a table of resamples: round or cap values of which there are thousands.
    Raises ValueError for a value that is none of the levels.
    """
    values = np.asarray(values, dtype=float)
    known = np.unique(values if levels is None else np.asarray(levels, dtype=float))
    counts = (values[:, None] == known).astype(float)
    if (missing := counts.sum(axis=1) == 0).any():
        raise ValueError(f"{name}: the value {values[missing.argmax()]} is none of the {len(known)} levels")
    return Metric(name, counts, partial(median, levels=known.tolist()), higher_is_better)


def share_levels(a: Mapping[str, Metric], b: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """The same metrics of two systems, the medians among them counted over the levels of both, so that they can be
    compared; what only one of them has stays as it is."""
    found = dict(a), dict(b)
    for name in a.keys() & b.keys():
        levels = [_levels(m.value) for m in (a[name], b[name])]
        if None not in levels and levels[0] != levels[1]:
            every = np.union1d(*levels)
            for rows, m, own in zip(found, (a[name], b[name]), levels, strict=True):
                counts = np.zeros((len(m.statistics), len(every)))
                counts[:, np.searchsorted(every, own)] = m.statistics
                rows[name] = replace(m, statistics=counts, value=partial(median, levels=every.tolist()))
    return found


def _levels(value: Callable) -> list[float] | None:
    """Those of a median; None of any other metric."""
    return value.keywords["levels"] if isinstance(value, partial) and value.func is median else None


def mean(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of values and of their number -> mean (...)."""
    return sums[..., 0] / sums[..., 1]


def share(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of a part and of the whole -> part / whole (...); 0 where there is no whole."""
    sums = np.asarray(sums, dtype=float)
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0)


def median(sums: np.ndarray, levels: list[float]) -> np.ndarray:
    """Counts (..., L) of L ascending values -> the median (...); nan where nothing is counted."""
    sums = np.asarray(sums, dtype=float)
    below, total = np.cumsum(sums, axis=-1), sums.sum(axis=-1, keepdims=True)
    # The k-th smallest, from 0, is the first value that more than k samples do not exceed.
    middle = [np.asarray(levels)[(below > k).argmax(axis=-1)] for k in ((total - 1) // 2, total // 2)]
    return np.where(total[..., 0] > 0, (middle[0] + middle[1]) / 2, np.nan)
