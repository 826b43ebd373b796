"""The score table as a picture, and the tests: which rows differ from the system by more than chance?

Inline SVG, coloured by the page's style sheet, so that it reads on light and on dark and no text becomes pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from revtaf.eval.evaluate import Evaluation
from revtaf.eval.statistics import Comparison, Interval
from revtaf.pages.parts import table, ticks, without_zero
from revtaf.pages.scores import SIGNIFICANT, Columns, kind_of

_FIGURES = {
    "Text": ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr"),
    "Clinical efficacy": ("CE-F1", "micro-F1", "macro-F1"),
}
# In units of the drawing, which are pixels at its full width.
_WIDTH, _LABELS, _GAP, _ROW, _TOP, _BOTTOM = 1060, 264, 24, 23, 26, 24
_LONGEST = 38  # characters of a row's name that fit beside the panels


def interval_figures(evaluation: Evaluation, columns: Columns) -> str:
    """One line of panels for the text metrics and one for CE; "" where nothing was resampled."""
    if not evaluation.intervals:
        return ""
    drawn = [_figure(evaluation, title, {h: columns[h] for h in _FIGURES[title] if h in columns}) for title in _FIGURES]
    return (
        "<h3>With 95 % intervals</h3><p>The band is the interval of "
        f"{escape(evaluation.name)}; a hollow point has none. Two intervals may overlap and the difference still be "
        "significant, because every row answers the same samples: the table below tests the differences.</p>"
        + "".join(drawn)
    )


def comparison_table(evaluation: Evaluation, columns: Columns) -> str:
    """The system against each row: difference and Holm's p; "" without comparisons."""
    if not evaluation.comparisons:
        return ""
    shown = {h: key for h, (_, key) in columns.items() if any(key in row for row in evaluation.comparisons.values())}
    rows = []
    for name, row in evaluation.comparisons.items():
        cells = "".join(_difference(row.get(key)) for key in shown.values())
        rows.append(f'<tr class="{kind_of(evaluation, name)}"><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        f"<h3>{escape(evaluation.name)} minus each row</h3>"
        + table(["", *shown], rows, "scores tests")
        + "<p>Difference of the scores, and below it p of a two-sided paired test by approximate randomisation, after "
        f"Holm\u2019s correction over the metrics of the line. Bold: p below {SIGNIFICANT}. A p above it does not show "
        "that two systems are alike. The intervals of the differences are in report.json.</p>"
    )


def _difference(found: Comparison | None) -> str:
    if found is None or not math.isfinite(found.difference):
        return '<td class="missing">n/a</td>'
    p = (
        "p n/a"
        if not math.isfinite(found.p_holm)
        else "p &lt; .001"
        if found.p_holm < 0.001
        else f"p {without_zero(found.p_holm)}"
    )
    style = ' class="significant"' if found.p_holm < SIGNIFICANT else ""
    sign = f"{found.difference:+.3f}".replace("-", "\u2212")
    return f"<td{style}><span>{sign}</span><small>{p}</small></td>"


def _figure(evaluation: Evaluation, title: str, metrics: Columns) -> str:
    """Panels side by side, one a metric, that share the names of the rows."""
    found = {h: _points(evaluation, kind, key) for h, (kind, key) in metrics.items()}
    found = {heading: points for heading, points in found.items() if points}
    names = [name for name in evaluation.rows if any(name in points for points in found.values())]
    if not found:
        return ""
    height = _TOP + _ROW * len(names) + _BOTTOM
    kinds = {name: kind_of(evaluation, name) for name in names}
    labels = []
    for i, name in enumerate(names):
        short = escape(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\u2026")
        place = f'class="{kinds[name]}" x="0" y="{_middle(i) + 4}"'
        labels.append(f"<text {place}>{short}<title>{escape(name)}</title></text>")
    width = (_WIDTH - _LABELS) / max(len(found), 4) - _GAP
    panels = [
        _panel(heading, points, kinds, _LABELS + i * (width + _GAP), width, height)
        for i, (heading, points) in enumerate(found.items())
    ]
    return (
        f'<div class="scroll"><svg class="intervals" role="img" aria-label="{escape(title)}: scores with intervals" '
        f'viewBox="0 0 {_WIDTH} {height}">{"".join(labels)}{"".join(panels)}</svg></div>'
    )


def _points(evaluation: Evaluation, kind: str, key: str) -> dict[str, Interval]:
    """Name -> its score with the interval, where it has a score; without an interval the bounds are nan."""
    points = {}
    for name, row in evaluation.rows.items():
        value = row[kind].get(key)
        if value is not None and math.isfinite(value):
            points[name] = evaluation.intervals.get(name, {}).get(key) or Interval(value, math.nan, math.nan)
    return points


def _panel(
    heading: str, points: Mapping[str, Interval], kinds: Mapping[str, str], left: float, width: float, height: float
) -> str:
    values = [v for p in points.values() for v in (p.value, p.low, p.high) if math.isfinite(v)]
    margin = 0.06 * (max(values) - min(values)) or 0.05
    low, high = min(values) - margin, max(values) + margin

    def x(value: float) -> str:
        return f"{left + width * (value - low) / (high - low):.1f}"

    floor = height - _BOTTOM
    parts = [f'<text class="heading" x="{left:.1f}" y="14">{escape(heading)}</text>']
    for value, text in ticks(low, high):
        parts.append(f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="{_TOP}" y2="{floor}"/>')
        parts.append(f'<text class="tick" x="{x(value)}" y="{height - 8}">{text}</text>')
    for i, name in enumerate(kinds):
        point = points.get(name)
        if point is None:
            continue
        bounded = math.isfinite(point.low) and math.isfinite(point.high)
        y, said = _middle(i), f"{name}: {point.value:.3f}"
        marks = ""
        if bounded:
            said += f" ({point.low:.3f} to {point.high:.3f})"
            marks = f'<line x1="{x(point.low)}" x2="{x(point.high)}" y1="{y}" y2="{y}"/>'
            if kinds[name] == "model":
                wide = float(x(point.high)) - float(x(point.low))
                area = f'y="{_TOP}" width="{wide:.1f}" height="{floor - _TOP}"'
                parts.append(f'<rect class="band" x="{x(point.low)}" {area}/>')
        hollow = "" if bounded else ' class="hollow"'
        dot = f'<circle{hollow} cx="{x(point.value)}" cy="{y}" r="4"/>'
        parts.append(f'<g class="{kinds[name]}">{marks}{dot}<title>{escape(said)}</title></g>')
    return "".join(parts)


def _middle(row: int) -> float:
    return _TOP + _ROW * (row + 0.5)
