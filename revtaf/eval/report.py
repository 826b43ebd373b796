"""The report of a run: a table for the terminal, report.json for machines, report.html for people.

Columns in the order of the paper's Table 1 (NLG, then clinical efficacy), with CIDEr and the two other
averages of CE F1 behind. A value that was not computed is "n/a", never 0 and never left out of sight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from revtaf.eval.cards import Sample
from revtaf.eval.evaluate import Evaluation
from revtaf.eval.page import curve_panels, render
from revtaf.files import atomic_write, write_json

__all__ = ["COLUMNS", "Sample", "table_markdown", "table_text", "write_report"]

# heading -> (kind, key in the row)
COLUMNS = {
    "BLEU-1": ("nlg", "BLEU_1"),
    "BLEU-2": ("nlg", "BLEU_2"),
    "BLEU-3": ("nlg", "BLEU_3"),
    "BLEU-4": ("nlg", "BLEU_4"),
    "METEOR": ("nlg", "METEOR"),
    "ROUGE-L": ("nlg", "ROUGE_L"),
    "CIDEr": ("nlg", "CIDEr"),
    "CE-P": ("clinical", "example_precision"),
    "CE-R": ("clinical", "example_recall"),
    "CE-F1": ("clinical", "example_f1"),
    "micro-F1": ("clinical", "micro_f1"),
    "macro-F1": ("clinical", "macro_f1"),
}


def table_text(evaluation: Evaluation) -> str:
    """Aligned plain text: one line per row, the signature and the notes below."""
    table = _cells(evaluation)
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in table
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, evaluation.signature, *(f"note: {note}" for note in evaluation.notes)])


def table_markdown(evaluation: Evaluation) -> str:
    """The same table for a README, without the notes."""
    header, *rows = _cells(evaluation)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n`{evaluation.signature}`\n"


def write_report(
    folder: Path, evaluation: Evaluation, run: dict, samples: Sequence[Sample], curves: list[dict]
) -> None:
    """Write report.json and report.html into `folder`; where anything fails, neither appears.

    run: what identifies the run; the page shows every entry. Known to the headline: "name" or "config",
    "dataset", "split", "checkpoint_epoch". curves: the records of metrics.jsonl, or one per epoch; which of
    their numbers are drawn is said in `revtaf.eval.page.curve_panels`.
    """
    folder = Path(folder)
    page = render(evaluation, run, samples, curves, COLUMNS)
    content = {
        "run": run,
        "signature": evaluation.signature,
        "metrics": evaluation.rows,
        "lengths": evaluation.lengths,
        "notes": evaluation.notes,
        "curves": curve_panels(curves),
        "samples": [sample.id for sample in samples],
    }
    content = _plain(content)
    with atomic_write(folder / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")
        write_json(folder / "report.json", content)


def _cells(evaluation: Evaluation) -> list[list[str]]:
    rows = [["", *COLUMNS]]
    for name, row in evaluation.rows.items():
        rows.append([name, *(_number(row[kind].get(key)) for kind, key in COLUMNS.values())])
    return rows


def _number(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _plain(value: Any) -> Any:
    """As JSON knows it: NumPy values become Python's, paths text, values that are not finite null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
