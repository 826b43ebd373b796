"""The score table as a picture, and the tests: which rows differ from the system by more than chance?

Inline SVG, coloured by the page's style sheet, so that it reads on light and on dark and no text becomes pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from revtaf.eval.evaluated import Evaluated
from revtaf.eval.statistics import Comparison, Interval
from revtaf.pages.parts import ticks, without_zero
from revtaf.pages.scores import SIGNIFICANT, Columns, kind_of

_FIGURES = {
    "Text": ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr"),
    "Clinical efficacy": ("CE-F1", "micro-F1", "macro-F1"),
}
# In units of the drawing, which are pixels at its full width.
_WIDTH, _LABELS, _GAP, _ROW, _TOP, _BOTTOM = 1060, 264, 24, 23, 26, 24
_PANELS = 4  # a line, where the columns are not those of reports
_LONGEST = 38  # characters of a row's name that fit beside the panels


class Label(NamedTuple):
    """The name of a row, cut to what fits, and its line."""

    kind: str
    y: float
    short: str
    name: str


class Point(NamedTuple):
    """A score; low and high are the ends of its interval, None where it has none. said: the row and its numbers."""

    kind: str
    x: float
    y: float
    low: float | None
    high: float | None
    said: str


class Panel(NamedTuple):
    """One metric. ticks: (x, text)."""

    heading: str
    left: float
    ticks: list[tuple[float, str]]
    points: list[Point]


class Figure(NamedTuple):
    """Panels side by side, one a metric, that share the names of the rows. All places are in units of the drawing, to
    a tenth; the panels reach from `top` to `floor`."""

    title: str
    width: int
    height: int
    top: int
    floor: int
    labels: list[Label]
    panels: list[Panel]


class Difference(NamedTuple):
    """The system minus a row, and p, as text. style: "significant", "missing" (then both texts are "") or ""."""

    style: str
    text: str = ""
    p: str = ""


class Comparisons(NamedTuple):
    """The table of the tests. lines: (kind, name, differences). level: p below it is significant."""

    columns: list[str]
    lines: list[tuple[str, str, list[Difference]]]
    level: float


def interval_figures(evaluation: Evaluated, columns: Columns) -> list[Figure] | None:
    """One line of panels for the text metrics and one for CE; of other columns all, a few a line; None where nothing
    was resampled."""
    if not evaluation.intervals:
        return None
    chosen = {title: [h for h in headings if h in columns] for title, headings in _FIGURES.items()}
    if not any(chosen.values()):  # columns that are not those of reports: all, a few a line
        chosen = {
            "Scores" + f", line {i + 1}" * (len(columns) > _PANELS): part for i, part in enumerate(_lines(columns))
        }
    drawn = [_figure(evaluation, title, {h: columns[h] for h in headings}) for title, headings in chosen.items()]
    return [figure for figure in drawn if figure is not None]


def _lines(columns: Columns) -> list[list[str]]:
    headings = list(columns)
    return [headings[start : start + _PANELS] for start in range(0, len(headings), _PANELS)]


def comparison_table(evaluation: Evaluated, columns: Columns) -> Comparisons | None:
    """The system against each row: difference and Holm's p; None without comparisons."""
    if not evaluation.comparisons:
        return None
    shown = {h: key for h, (_, key) in columns.items() if any(key in row for row in evaluation.comparisons.values())}
    lines = [
        (kind_of(evaluation, name), name, [_difference(row.get(key)) for key in shown.values()])
        for name, row in evaluation.comparisons.items()
    ]
    return Comparisons(["", *shown], lines, SIGNIFICANT)


def _difference(found: Comparison | None) -> Difference:
    if found is None or not math.isfinite(found.difference):
        return Difference("missing")
    p = (
        "p n/a"
        if not math.isfinite(found.p_holm)
        else "p < .001"
        if found.p_holm < 0.001
        else f"p {without_zero(found.p_holm)}"
    )
    sign = f"{found.difference:+.3f}".replace("-", "\u2212")
    return Difference("significant" if found.p_holm < SIGNIFICANT else "", sign, p)


def _figure(evaluation: Evaluated, title: str, metrics: Columns) -> Figure | None:
    """None where no row has any of the metrics."""
    found = {h: _points(evaluation, kind, key) for h, (kind, key) in metrics.items()}
    found = {heading: points for heading, points in found.items() if points}
    names = [name for name in evaluation.rows if any(name in points for points in found.values())]
    if not found:
        return None
    kinds = {name: kind_of(evaluation, name) for name in names}
    labels = [
        Label(kind, _middle(i) + 4, name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\u2026", name)
        for i, (name, kind) in enumerate(kinds.items())
    ]
    width = (_WIDTH - _LABELS) / max(len(found), 4) - _GAP
    panels = [
        _panel(heading, points, kinds, _LABELS + i * (width + _GAP), width)
        for i, (heading, points) in enumerate(found.items())
    ]
    floor = _TOP + _ROW * len(names)
    return Figure(title, _WIDTH, floor + _BOTTOM, _TOP, floor, labels, panels)


def _points(evaluation: Evaluated, kind: str, key: str) -> dict[str, Interval]:
    """Name -> its score with the interval, where it has a score; without an interval the bounds are nan."""
    points = {}
    for name, row in evaluation.rows.items():
        value = row[kind].get(key)
        if value is not None and math.isfinite(value):
            points[name] = evaluation.intervals.get(name, {}).get(key) or Interval(value, math.nan, math.nan)
    return points


def _panel(heading: str, points: Mapping[str, Interval], kinds: Mapping[str, str], left: float, width: float) -> Panel:
    values = [v for p in points.values() for v in (p.value, p.low, p.high) if math.isfinite(v)]
    margin = 0.06 * (max(values) - min(values)) or 0.05
    low, high = min(values) - margin, max(values) + margin

    def x(value: float) -> float:
        return round(left + width * (value - low) / (high - low), 1)

    drawn = []
    for i, name in enumerate(kinds):
        point = points.get(name)
        if point is None:
            continue
        said, ends = f"{name}: {point.value:.3f}", (None, None)
        if math.isfinite(point.low) and math.isfinite(point.high):
            said += f" ({point.low:.3f} to {point.high:.3f})"
            ends = x(point.low), x(point.high)
        drawn.append(Point(kinds[name], x(point.value), _middle(i), *ends, said))
    return Panel(heading, round(left, 1), [(x(value), text) for value, text in ticks(low, high)], drawn)


def _middle(row: int) -> float:
    return _TOP + _ROW * (row + 0.5)
