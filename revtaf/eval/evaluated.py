"""What a table is made of, whatever was scored: a system's row, the rows beside it, intervals and paired tests.

`revtaf.eval.evaluate` makes one of written reports, `revtaf.eval.rankings` one of rankings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from revtaf.eval import statistics
from revtaf.eval.kept import Kept
from revtaf.eval.metric import Metric
from revtaf.eval.published import Row


@dataclass(kw_only=True)
class Evaluated:
    """rows: name -> kind of metric -> metric -> value, the system first. columns: heading -> (kind, metric) of the
    table. intervals and comparisons: name -> metric -> values of `revtaf.eval.statistics`, the latter of the system
    against that row. lower: metrics of which less is better. per_sample: metric -> (N,) of the system, in the order of
    `ids`. kept: the statistics of the rows, for the file beside report.json."""

    name: str
    rows: dict[str, dict[str, Any]]
    columns: Mapping[str, tuple[str, str]]
    signature: str
    ids: list[str]
    per_sample: dict[str, np.ndarray]
    kept: Kept
    intervals: dict[str, dict[str, statistics.Interval]] = field(default_factory=dict)
    comparisons: dict[str, dict[str, statistics.Comparison]] = field(default_factory=dict)
    lower: frozenset[str] = frozenset()
    published: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> dict[str, dict]:
        """The system's own row."""
        return self.rows[self.name]

    @property
    def has_average(self) -> bool:
        """Whether rows have the mean of a table's columns."""
        return "average" in self.model

    def said(self) -> list[str]:
        """Sentences that stand below every table, by kind of evaluation."""
        return []

    def details(self) -> dict[str, Any]:
        """What report.json says beside the rows, by kind of evaluation."""
        return {}

    def resample(
        self,
        metrics: Mapping[str, Mapping[str, Metric]],
        compared: Sequence[str],
        codes: np.ndarray,
        resamples: int,
        seed: int,
    ) -> None:
        """Intervals of every row, and the system's paired tests against the others, Holm's correction over `compared`.

        metrics: name -> those of a row; of other rows than the system's only `compared` are resampled. codes: (N,) from
        `statistics.clusters`.
        """
        own = metrics[self.name]
        for row, found in metrics.items():
            shown = found if row == self.name else {key: found[key] for key in compared if key in found}
            self.intervals[row] = statistics.intervals(shown, codes, resamples, seed)
            if row != self.name:
                shared = [key for key in compared if key in own and key in found]
                pair = ({key: own[key] for key in shared}, {key: found[key] for key in shared})
                self.comparisons[row] = statistics.compare(*pair, codes, resamples, seed, resamples)
