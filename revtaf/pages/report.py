"""The report of an evaluation: a table for the terminal, for a README and for a paper, report.json and per_sample.csv
for machines, report.html for people.

Columns in the order of the paper's Table 1 (NLG, then clinical efficacy, then their mean), with CIDEr and three other
averages of CE F1 beside. A value that was not computed is "n/a", never 0 and never left out of sight.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from revtaf.eval import kept
from revtaf.eval.evaluated import Evaluated
from revtaf.files import atomic_write, write_json
from revtaf.pages.cards import Card
from revtaf.pages.curves import curve_panels
from revtaf.pages.page import render
from revtaf.pages.parts import limits, number
from revtaf.pages.section import PageSection

PAGE = "report.html"
# The paper's Table 1: these, and their mean.
_PAPER = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CE-P", "CE-R", "CE-F1")
_PUBLISHED = {"CE-P": "precision", "CE-R": "recall", "CE-F1": "f1"}


def table_text(evaluation: Evaluated) -> str:
    """Aligned plain text: one line per row, the system's intervals below its own, the signature and the notes."""
    header, model, *rows = _cells(evaluation)
    interval = _interval_cells(evaluation)
    table = [header, model, *([interval] if interval else []), *rows, *_advanced_lines(evaluation, len(header))]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]
    lines = [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in table
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, *evaluation.said(), evaluation.signature, *(f"note: {n}" for n in evaluation.notes)])


def table_markdown(evaluation: Evaluated) -> str:
    """The same table for a README, without the notes. What the texts say stands below it."""
    header, *rows = _cells(evaluation)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    if interval := _interval_cells(evaluation):
        lines.insert(3, interval)
    lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines)
        + "".join(f"\n\n{text}" for text in (" ".join(evaluation.said()), f"`{evaluation.signature}`") if text)
        + "\n"
    )


def table_latex(evaluation: Evaluated) -> str:
    """The paper's Table 1 as a tabular (booktabs): nine columns, and Avg, which needs all nine. Of rankings all."""
    average = evaluation.has_average
    shown = _PAPER if average else tuple(evaluation.columns)
    headings = [c.replace("-", "~") if c[:2] == "CE" else tex(c) for c in shown]
    lines = [
        "% " + evaluation.signature,
        r"\begin{tabular}{l" + "c" * (len(shown) + average) + "}",
        r"\toprule",
        " & ".join(["", *headings, *["Avg"] * average]) + r" \\",
        r"\midrule",
    ]
    for row in evaluation.published:
        values = [*(row.figures.get(_published_key(c)) for c in shown), *[row.figures.get("avg")] * average]
        lines.append(" & ".join([tex(f"{row.system} (paper)"), *map(_tex_number, values)]) + r" \\")
    for name, row in evaluation.rows.items():
        values = [*(_value(evaluation, row, c) for c in shown), *[row.get("average")] * average]
        lines.append(" & ".join([tex(name), *map(_tex_number, values)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_report(
    folder: Path,
    evaluation: Evaluated,
    run: dict,
    cards: Sequence[Card] = (),
    curves: Sequence[dict] = (),
    sections: Sequence[PageSection] = (),
    recipe: dict | None = None,
) -> None:
    """Write report.json, report.html, table.md, table.tex, per_sample.csv and the statistics (`revtaf.eval.kept`) into
    `folder`; where anything fails, the first two do not appear.

    run: what identifies the run; the page shows every entry. Known to the headline: "name" or "config",
    "dataset", "split", "checkpoint_epoch". curves: records {"epoch", "losses": {name: value}, "validation": {name:
    value}}; which of their numbers are drawn is said in `revtaf.pages.curves.curve_panels`. sections: what the system
    draws itself, below the cards. recipe: what making it again needs (`revtaf.commands.recipe`).
    """
    folder = Path(folder)
    page = render(evaluation, run, cards, curves, evaluation.columns, sections)
    content = {
        "run": run,
        "signature": evaluation.signature,
        "metrics": evaluation.rows,
        "intervals": {name: {k: vars(v) for k, v in row.items()} for name, row in evaluation.intervals.items()},
        "comparisons": {name: {k: vars(v) for k, v in row.items()} for name, row in evaluation.comparisons.items()},
        **evaluation.details(),
        "published": [vars(row) for row in evaluation.published],
        "notes": evaluation.notes,
        "curves": curve_panels(curves),
        "samples": [card.id for card in cards],
        **({"recipe": recipe} if recipe else {}),
    }
    texts = {"table.md": table_markdown(evaluation), "table.tex": table_latex(evaluation)}
    texts["per_sample.csv"] = _per_sample(evaluation)
    for name, text in texts.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    content[kept.ENTRY] = kept.write(folder, evaluation.kept)
    with atomic_write(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8")
        write_json(folder / kept.REPORT, plain_json(content))


def _cells(evaluation: Evaluated) -> list[list[str]]:
    columns, average = evaluation.columns, evaluation.has_average
    rows = [["", *columns, *["Avg"] * average]]
    for name, row in evaluation.rows.items():
        values = [*(_value(evaluation, row, column) for column in columns), *[row.get("average")] * average]
        rows.append([name, *map(number, values)])
    for row in evaluation.published:
        values = [*(row.figures.get(_published_key(column)) for column in columns), *[row.figures.get("avg")] * average]
        rows.append([f"{row.system} (paper)", *map(number, values)])
    return rows


def _interval_cells(evaluation: Evaluated) -> list[str] | None:
    """The 95 % intervals of the system: "±" would hide that they are not symmetric."""
    found = evaluation.intervals.get(evaluation.name)
    if not found:
        return None
    cells = ["  95 % interval"]
    for _, key in evaluation.columns.values():
        cells.append(limits(found.get(key)).replace("\u2013", "-"))
    if not any(cells[1:]):  # of one patient there is none
        return None
    return [*cells, *[""] * evaluation.has_average]


def _advanced_lines(evaluation: Evaluated, width: int) -> list[list[str]]:
    """The advanced metrics of the system, where any was computed, as lines of their own."""
    return [
        [f"{evaluation.name}, {name}", number(value), *[""] * (width - 2)]
        for name, value in evaluation.model.get("advanced", {}).items()
    ]


def _value(evaluation: Evaluated, row: dict, column: str) -> float | None:
    kind, key = evaluation.columns[column]
    return row[kind].get(key)


def _published_key(column: str) -> str:
    return _PUBLISHED.get(column, column.replace("-", "_"))


def _per_sample(evaluation: Evaluated) -> str:
    """One line a sample, without any report text: a data agreement covers that."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", *evaluation.per_sample])
    for i, sample in enumerate(evaluation.ids):
        writer.writerow([sample, *(f"{values[i]:.6f}" for values in evaluation.per_sample.values())])
    return buffer.getvalue()


def _tex_number(value: float | None) -> str:
    return number(value).replace("n/a", "--")


def tex(text: str) -> str:
    """A text as LaTeX prints it."""
    special = {c: f"\\{c}" for c in "&%_#${}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"}
    special["→"] = r"$\rightarrow$"
    return "".join(special.get(c, c) for c in text)


def plain_json(value: Any) -> Any:
    """As JSON knows it: NumPy values become Python's, paths text, values that are not finite null."""
    if isinstance(value, dict):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain_json(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
