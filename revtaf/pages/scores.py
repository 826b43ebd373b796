"""The score table of report.html: the system, other systems, rows that see no image, and what papers print."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from revtaf.eval import floors
from revtaf.eval.evaluate import Evaluation
from revtaf.eval.published import Row
from revtaf.pages.parts import limits, number, table

Columns = Mapping[str, tuple[str, str]]

SIGNIFICANT = 0.05
_CONSTANT = (floors.MOST_FREQUENT, floors.MEDOID)


def kind_of(evaluation: Evaluation, name: str) -> str:
    """What a row is: "model", "other" (a system), "blind" (never sees an image) or "oracle" (saw the reference)."""
    if name == evaluation.name:
        return "model"
    if "oracle" in name and (name == floors.NEAREST or _only_statuses(evaluation, name)):
        return "oracle"
    without_image = name in (*_CONSTANT, floors.RANDOM) or _only_statuses(evaluation, name)
    return "blind" if without_image else "other"


def score_table(evaluation: Evaluation, columns: Columns) -> str:
    """The table, its signature, and what the rows without an image say about the system's own."""
    kinds = {name: kind_of(evaluation, name) for name in evaluation.rows}
    # An oracle's score is a ceiling and not a competitor's.
    ranked = [_values(row, columns) for name, row in evaluation.rows.items() if kinds[name] != "oracle"]
    known = [[v for v in column if _known(v)] for column in zip(*ranked, strict=True)]
    best = [max(values) if len(ranked) > 1 and values else None for values in known]
    own = evaluation.intervals.get(evaluation.name, {})
    small = [*(limits(own.get(key)) for _, key in columns.values()), ""]

    rows = []
    for name, row in evaluation.rows.items():
        bounds = small if kinds[name] == "model" else [""] * len(small)
        rows.append(_line(escape(name), _values(row, columns), kinds[name], best, bounds))
        if kinds[name] == "model" and evaluation.study_level:
            title = f"each report once <small>({evaluation.study_level['n']})</small>"
            rows.append(_line(title, _values(evaluation.study_level, columns), "study"))
    rows += _published(_shown(evaluation, columns), lambda row: _printed(row, columns), len(columns) + 2)

    text = sum(kind == "nlg" for kind, _ in columns.values())
    groups = (
        f'<tr class="groups"><th></th><th colspan="{text}">Text (NLG)</th>'
        f'<th colspan="{len(columns) - text}">Clinical efficacy (CE)</th><th></th></tr>'
    )
    return (
        table(["", *columns, "Avg"], rows, "scores", groups)
        + f'<p class="signature">{escape(evaluation.signature)}</p>{_legend(evaluation, kinds, columns)}'
        + _verdict(evaluation, kinds, columns)
        + _advanced(evaluation)
    )


def _values(row: Mapping[str, Any], columns: Columns) -> list[float | None]:
    return [*(row[kind].get(key) for kind, key in columns.values()), row["average"]]


def _line(title: str, values, kind: str, best=None, small=None) -> str:
    cells = []
    for i, value in enumerate(values):
        style = ' class="missing"' if not _known(value) else ' class="best"' if best and value == best[i] else ""
        cells.append(f"<td{style}><span>{number(value)}</span>{small[i] if small else ''}</td>")
    return f'<tr class="{kind}"><th scope="row">{title}</th>{"".join(cells)}</tr>'


def _legend(evaluation: Evaluation, kinds: Mapping[str, str], columns: Columns) -> str:
    said = []
    if evaluation.intervals:
        said.append("Small numbers: 95 % interval.")
    if "blind" in kinds.values():
        said.append(
            "The shaded rows never see an image: they answer with training reports, or with the same statuses for "
            "everyone. Chest X-ray reports are so alike that such a row can score like a published system: "
            "only where a system is above them has it shown that it reads its images."
        )
    if "oracle" in kinds.values():
        said.append(
            "Rows marked oracle looked at the references, which no system may: they are a ceiling, not a competitor."
        )
    if evaluation.study_level:
        said.append(
            "A report with several images counts once for each in the tables of the paper, and once in the row "
            "\u201ceach report once\u201d."
        )
    if _shown(evaluation, columns):
        said.append("Rows marked paper are printed figures, with other predictions and perhaps another protocol.")
    said += ["Underlined: the best of each column, oracles and papers aside."] if len(evaluation.rows) > 1 else []
    return f"<p>{' '.join(said)}</p>" if said else ""


def _verdict(evaluation: Evaluation, kinds: Mapping[str, str], columns: Columns) -> str:
    blind = [name for name, kind in kinds.items() if kind == "blind"]
    if not blind:
        return ""
    certain, above, not_above = [], [], []
    for heading, (kind, key) in columns.items():
        value = evaluation.model[kind].get(key)
        others = [v for name in blind if _known(v := evaluation.rows[name][kind].get(key))]
        if not _known(value) or not others:
            continue
        tests = [c[key].p_holm for name in blind if key in (c := evaluation.comparisons.get(name, {}))]
        significant = bool(tests) and all(p < SIGNIFICANT for p in tests)
        (not_above if value <= max(others) else certain if significant else above).append(heading)
    parts = []
    if certain:
        parts.append(f"above every row without an image on {', '.join(certain)} (each tested row at p < {SIGNIFICANT})")
    if above:
        chance = ", where the difference to one of them may be chance" if evaluation.comparisons else ""
        parts.append(f"above them on {', '.join(above)}{chance}")
    if not_above:
        parts.append(f"not above them on {', '.join(not_above)}")
    verdict = f"Here {evaluation.name} is {'; '.join(parts)}." if parts else "Here no metric can be compared."
    return f'<p class="verdict">{escape(verdict)}</p>'


def _advanced(evaluation: Evaluation) -> str:
    scores = evaluation.model["advanced"]
    if not scores:
        return ""
    own = evaluation.intervals.get(evaluation.name, {})
    cells = "".join(f"<td><span>{number(v)}</span>{limits(own.get(key))}</td>" for key, v in scores.items())
    rows = [f'<tr class="model"><th scope="row">{escape(evaluation.name)}</th>{cells}</tr>']
    printed = [row for row in evaluation.published if any(key in row.figures for key in scores)]
    rows += _published(printed, lambda row: [row.figures.get(key) for key in scores], len(scores) + 1)
    headings = [key.replace("_", " ") for key in scores]
    lower = "<p>RadCliQ is lower for better reports, its inverse higher.</p>" if "RadCliQ_v1" in scores else ""
    return "<h3>Model-based scores</h3>" + table(["", *headings], rows, "scores") + lower


def _published(printed: Sequence[Row], values: Callable[[Row], list[float | None]], width: int) -> list[str]:
    """Lines of a table that is `width` columns wide, those of one source below what is known of it."""
    lines = []
    for _, group in groupby(printed, key=_source):
        for i, row in enumerate(group):
            if i == 0:
                lines.append(_source_line(row, width))
            venue = f"<small>{escape(row.venue)}</small>" if row.venue else ""
            lines.append(_line(f'{escape(row.system)} <span class="tag">paper</span> {venue}', values(row), "paper"))
    return lines


def _shown(evaluation: Evaluation, columns: Columns) -> list[Row]:
    """The published rows that have a figure in one of the columns."""
    return [row for row in evaluation.published if any(v is not None for v in _printed(row, columns))]


def _printed(row: Row, columns: Columns) -> list[float | None]:
    # Papers do not say how they average precision, recall and F1; the note above the rows says what is known.
    return [*(row.figures.get(key.removeprefix("example_")) for _, key in columns.values()), row.figures.get("avg")]


def _source(row: Row) -> tuple[str, ...]:
    return row.origin, row.dataset, row.split, row.protocol


def _source_line(row: Row, width: int) -> str:
    origin, dataset, split, protocol = map(escape, _source(row))
    return (
        f'<tr class="source"><th colspan="{width}"><p><b>Printed in the {origin}</b> ({dataset}, {split}). '
        f"Protocol: {protocol}.</p></th></tr>"
    )


def _only_statuses(evaluation: Evaluation, name: str) -> bool:
    return all(value is None for value in evaluation.rows[name]["nlg"].values())


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
