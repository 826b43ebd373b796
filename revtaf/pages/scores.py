"""The score table of report.html: the system, other systems, rows that see no image, and what papers print."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from revtaf.eval import floors
from revtaf.eval.evaluated import Evaluated
from revtaf.eval.published import Row
from revtaf.eval.statistics import Interval

Columns = Mapping[str, tuple[str, str]]

SIGNIFICANT = 0.05
_CONSTANT = (floors.MOST_FREQUENT, floors.MEDOID)
_GROUPS = {"nlg": "Text (NLG)", "clinical": "Clinical efficacy (CE)", "ranking": "Ranking"}


class Cell(NamedTuple):
    """A score. style: "missing", "best" (of its column) or ""."""

    value: float | None
    style: str = ""
    interval: Interval | None = None


class ScoreLine(NamedTuple):
    """A row. kind: as `kind_of` says, or "study" (each report once) or "paper". beside: the small text of its title."""

    kind: str
    title: str
    cells: list[Cell]
    beside: str = ""


class Printed(NamedTuple):
    """The published rows of one source, and what is known of it."""

    source: Row
    lines: list[ScoreLine]


@dataclass(frozen=True)
class ModelBased:
    """The advanced metrics of the system, beside what papers print of them."""

    columns: list[str]
    line: ScoreLine
    printed: list[Printed]
    has_radcliq: bool


@dataclass(frozen=True)
class ScoreTable:
    """The section. groups: titles above neighbouring columns, and over how many. kinds: those among the rows. ranked:
    whether the best of a column is marked. verdict: what the rows without an image say about the system."""

    columns: list[str]
    groups: list[tuple[str, int]]
    lines: list[ScoreLine]
    printed: list[Printed]
    kinds: set[str]
    resampled: bool
    by_study: bool
    ranked: bool
    verdict: str
    model_based: ModelBased | None
    signature: str


def kind_of(evaluation: Evaluated, name: str) -> str:
    """What a row is: "model", "other" (a system), "blind" (never sees an image) or "oracle" (saw the reference)."""
    if name == evaluation.name:
        return "model"
    ranked = "nlg" not in evaluation.rows[name]  # rows of a ranking, which writes nothing
    if "oracle" in name and (ranked or name == floors.NEAREST or _only_statuses(evaluation, name)):
        return "oracle"
    without_image = name in (*_CONSTANT, floors.RANDOM) or _only_statuses(evaluation, name)
    return "blind" if without_image else "other"


def score_table(evaluation: Evaluated, columns: Columns) -> ScoreTable:
    """The rows of the evaluation and of papers. columns: heading -> (kind, key); the mean "Avg" is added where rows
    have it."""
    kinds = {name: kind_of(evaluation, name) for name in evaluation.rows}
    # An oracle's score is a ceiling and not a competitor's.
    ranked = [_values(row, columns) for name, row in evaluation.rows.items() if kinds[name] != "oracle"]
    known = [[v for v in column if _known(v)] for column in zip(*ranked, strict=True)]
    choose = [min if key in evaluation.lower else max for _, key in columns.values()] + [max]
    best = [f(values) if len(ranked) > 1 and values else None for f, values in zip(choose, known, strict=False)]
    own = evaluation.intervals.get(evaluation.name, {})
    intervals = [*(own.get(key) for _, key in columns.values()), None]

    lines = []
    for name, row in evaluation.rows.items():
        kind = kinds[name]
        marked, limits = None if kind == "oracle" else best, intervals if kind == "model" else None
        lines.append(ScoreLine(kind, name, _cells(_values(row, columns), marked, limits)))
        if kind == "model" and (once := getattr(evaluation, "study_level", None)):
            lines.append(ScoreLine("study", "each report once", _cells(_values(once, columns)), f"({once['n']})"))
    return ScoreTable(
        columns=["", *columns, *["Avg"] * evaluation.has_average],
        groups=[(_GROUPS[k], len(list(found))) for k, found in groupby(kind for kind, _ in columns.values())],
        lines=lines,
        printed=_published(evaluation.published, lambda row: _printed(row, columns)),
        kinds=set(kinds.values()),
        resampled=bool(evaluation.intervals),
        by_study=any(line.kind == "study" for line in lines),
        ranked=len(evaluation.rows) > 1,
        verdict=_verdict(evaluation, kinds, columns),
        model_based=_model_based(evaluation),
        signature=evaluation.signature,
    )


def _values(row: Mapping[str, Any], columns: Columns) -> list[float | None]:
    average = [row["average"]] if "average" in row else []
    return [*(row[kind].get(key) for kind, key in columns.values()), *average]


def _cells(
    values: Sequence[float | None],
    best: Sequence[float | None] | None = None,
    intervals: Sequence[Interval | None] | None = None,
) -> list[Cell]:
    cells = []
    for i, value in enumerate(values):
        style = "missing" if not _known(value) else "best" if best and value == best[i] else ""
        cells.append(Cell(value, style, intervals[i] if intervals else None))
    return cells


def _verdict(evaluation: Evaluated, kinds: Mapping[str, str], columns: Columns) -> str:
    """One sentence; "" where every row sees images."""
    blind = [name for name, kind in kinds.items() if kind == "blind"]
    if not blind:
        return ""
    certain, above, untested, not_above = [], [], [], []
    for heading, (kind, key) in columns.items():
        value = evaluation.model[kind].get(key)
        others = [v for name in blind if _known(v := evaluation.rows[name][kind].get(key))]
        if not _known(value) or not others:
            continue
        tests = [c[key].p_holm for name in blind if key in (c := evaluation.comparisons.get(name, {}))]
        found = untested if not tests else certain if all(p < SIGNIFICANT for p in tests) else above
        (not_above if value <= max(others) else found).append(heading)
    parts = []
    if certain:
        parts.append(f"above every row without an image on {', '.join(certain)} (each tested row at p < {SIGNIFICANT})")
    if above:
        parts.append(f"above them on {', '.join(above)}, where the difference to one of them may be chance")
    if untested:
        parts.append(f"above them on {', '.join(untested)}, which is not tested")
    if not_above:
        parts.append(f"not above them on {', '.join(not_above)}")
    return f"Here {evaluation.name} is {'; '.join(parts)}." if parts else "Here no metric can be compared."


def _model_based(evaluation: Evaluated) -> ModelBased | None:
    scores = evaluation.model.get("advanced")
    if not scores:
        return None
    own = evaluation.intervals.get(evaluation.name, {})
    return ModelBased(
        columns=["", *(key.replace("_", " ") for key in scores)],
        line=ScoreLine("model", evaluation.name, [Cell(v, interval=own.get(key)) for key, v in scores.items()]),
        printed=_published(evaluation.published, lambda row: [row.figures.get(key) for key in scores]),
        has_radcliq="RadCliQ_v1" in scores,
    )


def _published(rows: Sequence[Row], values: Callable[[Row], list[float | None]]) -> list[Printed]:
    """The rows that have any of the values, those of one source together."""
    shown = [row for row in rows if any(value is not None for value in values(row))]
    return [
        Printed(group[0], [ScoreLine("paper", row.system, _cells(values(row)), row.venue) for row in group])
        for group in (list(found) for _, found in groupby(shown, key=_source))
    ]


def _printed(row: Row, columns: Columns) -> list[float | None]:
    # Papers do not say how they average precision, recall and F1; the note above the rows says what is known.
    return [*(row.figures.get(key.removeprefix("example_")) for _, key in columns.values()), row.figures.get("avg")]


def _source(row: Row) -> tuple[str, ...]:
    return row.origin, row.dataset, row.split, row.protocol


def _only_statuses(evaluation: Evaluated, name: str) -> bool:
    row = evaluation.rows[name]
    return "nlg" in row and all(value is None for value in row["nlg"].values())


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
