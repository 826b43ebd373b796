"""A metric as sufficient statistics: what each sample contributes, and what a sum of contributions is worth.

BLEU and METEOR are functions of sums over the corpus, not means over samples; so are micro and macro averages. Kept as
statistics, all of them are resampled alike, and an interval or a paired test never scores a text again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    return Metric(name, np.stack([values, np.ones_like(values)], axis=1), _mean, higher_is_better)


def _mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]
