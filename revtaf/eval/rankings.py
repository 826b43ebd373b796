"""One evaluation of a system that ranks and writes no report: a retriever.

Every query has numbers of its own, such as the rank of its right answer, and a metric is a function of their sums over
queries (`revtaf.eval.metric`): means (reciprocal rank, recall at k), and medians by counting ranks. So rankings get the
same intervals over patients, the same paired tests and the same files as written reports. A corpus value that is no
function of such sums (a rank correlation over all queries, say) cannot be a `Metric` and has no place here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from revtaf import __version__
from revtaf.eval import kept, statistics
from revtaf.eval.evaluated import Evaluated
from revtaf.eval.kept import Kept
from revtaf.eval.metric import Metric, mean_metric, median_metric

KIND = "ranking"  # of the metrics of a row


@dataclass(frozen=True)
class Rankings:
    """N queries, and what was found for each.

    rows: name -> metric -> statistics of the N queries, in the order of `ids`; the system first, then what stands
    beside it (a random order, another system). A metric says itself whether higher is better. ranked: what was ranked
    for what, without blanks, for the signature: "image-to-report,3858". subjects, studies: as in
    `revtaf.eval.records.Samples`. headings: metric -> column heading, where it is not the metric's name. notes: what a
    reader of the scores should know, one sentence each.
    """

    ids: list[str]
    rows: dict[str, dict[str, Metric]]
    ranked: str
    subjects: list[str] | None = None
    studies: list[str] | None = None
    headings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sections: Sequence[Any] = ()  # of the page, that the system draws itself
    facts: Mapping[str, Any] = field(default_factory=dict)  # further lines of the report's "run"

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(kw_only=True)
class RankingEvaluation(Evaluated):
    """Of rankings. rows: name -> {"ranking": metric -> value}."""

    def details(self) -> dict[str, Any]:
        """What report.json says of rankings alone."""
        return {"kind": kept.RANKINGS, "lower_is_better": sorted(self.lower)}


def evaluate_rankings(
    rankings: Rankings, name: str | None = None, resamples: int = 10_000, seed: int = 0
) -> RankingEvaluation:
    """Values, intervals over patients, and paired tests of the system against every other row, Holm's correction over
    the metrics of a pair.

    name: of the system's row, where it is not that of the first row. resamples: for intervals and tests; 0 leaves them
    out. Raises ValueError where rows and queries do not fit.
    """
    rows = _checked(rankings, name)
    name, names = next(iter(rows)), list(dict.fromkeys(key for metrics in rows.values() for key in metrics))
    lower = frozenset(key for metrics in rows.values() for key, m in metrics.items() if not m.higher_is_better)
    headings = {key: rankings.headings.get(key, key.replace("_", " ")) for key in names}
    codes, units = statistics.clusters(rankings.ids, rankings.studies, rankings.subjects)
    notes = list(rankings.notes)
    if lower:
        notes.append(f"Lower is better: {', '.join(headings[key] for key in names if key in lower)}.")
    if unnamed := [key for key in names if not all(kept.can_keep(m[key]) for m in rows.values() if key in m)]:
        notes.append(f"Not in grids, because the function of their value has no name: {', '.join(unnamed)}.")
    notes += [note] if (note := statistics.small_sample_note(len(rankings))) else []
    clustered = [f"clusters:{units.split(' (')[0].replace(' ', '')}"] if resamples else []
    signature = "|".join(
        ["rankings", rankings.ranked, f"n:{len(rankings)}", "unit:query", *clustered, f"v{__version__}"]
    )
    about = {
        "ids": list(rankings.ids),
        "subjects": rankings.subjects,
        "studies": rankings.studies,
        "signature": signature,
        "headings": dict(rankings.headings),
    }
    with np.errstate(invalid="ignore"):  # a query that a metric leaves out has no value of its own
        per_sample = {key: m.per_sample for key, m in rows[name].items()}
    result = RankingEvaluation(
        name=name,
        rows={row: {KIND: {key: m.corpus for key, m in metrics.items()}} for row, metrics in rows.items()},
        columns={headings[key]: (KIND, key) for key in names},
        signature=signature,
        ids=list(rankings.ids),
        per_sample=per_sample,
        kept=Kept(rows, kept.RANKINGS, about=about),
        notes=notes,
        lower=lower,
    )
    if resamples:
        result.resample(rows, names, codes, resamples, seed)
        notes.append(f"Intervals: 95 %, BCa bootstrap over {units}; tests by approximate randomisation, Holm's p.")
    return result


def rank_metrics(ranks: np.ndarray, at: Sequence[int] = (1, 5, 10)) -> dict[str, Metric]:
    """Of the rank of each query's right answer, (N,), from 1, inf where it was not found: `mrr`, the mean reciprocal
    rank, and `recall_at_<k>`, the share of queries with a rank of at most k."""
    ranks = np.asarray(ranks, dtype=float)
    if not (ranks >= 1).all():
        raise ValueError(f"ranks are counted from 1, got {np.nanmin(ranks)}")
    found = {"mrr": mean_metric("mrr", 1 / ranks)}
    return found | {f"recall_at_{k}": mean_metric(f"recall_at_{k}", ranks <= k) for k in at}


def median_ranks(ranks: Mapping[str, np.ndarray]) -> dict[str, Metric]:
    """Row -> its median rank, of ranks (N,) that the rows share their levels for, so that they can be compared. Memory
    is that of `median_metric`: N numbers for each rank that occurs in any row."""
    levels = np.unique(np.concatenate([np.asarray(values, dtype=float) for values in ranks.values()]))
    return {row: median_metric("median_rank", values, False, levels) for row, values in ranks.items()}


def _checked(rankings: Rankings, name: str | None) -> dict[str, dict[str, Metric]]:
    """The rows, the first under its new name. ValueError where anything does not fit."""
    if not len(rankings) or not rankings.rows:
        raise ValueError("nothing to score: no query, or no row")
    if len(set(rankings.ids)) != len(rankings):
        raise ValueError("two queries have the same id")
    for row, metrics in rankings.rows.items():
        for key, metric in metrics.items():
            if len(metric.statistics) != len(rankings):
                raise ValueError(f"{row}, {key}: {len(metric.statistics)} values for {len(rankings)} queries")
    first, *others = rankings.rows
    name = first if name is None else name
    if name in others:
        raise ValueError(f"two rows have the name {name!r}")
    if not rankings.rows[first]:
        raise ValueError(f"{first}: no metric")
    return {name: rankings.rows[first]} | {row: rankings.rows[row] for row in others}
