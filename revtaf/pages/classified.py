"""Does the text repeat its prompt, and does the classifier rank the true findings first? By category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from revtaf.eval.classified import RULE
from revtaf.eval.evaluate import Evaluation
from revtaf.eval.statistics import Interval

_COLUMNS = (
    *("", "Positive in prompt", "Repeated by text", "Negative in prompt", "Repeated by text"),
    *("Positive references", "AUC of P(positive)"),
)
_CELLS = ("prompt_positive", "repeat_positive", "prompt_negative", "repeat_negative", "references", "auc")
_TOTALS = {
    "repeat_positive": "of the stated positives are repeated",
    "repeat_negative": "of the stated negatives are repeated",
    "auc": "AUC of P(positive)",
}


class Total(NamedTuple):
    """A number over categories, with its interval."""

    text: str
    value: float
    interval: Interval | None


class ClassifiedTable(NamedTuple):
    """The section. lines: category -> counts (int) and shares (float), None where there is nothing to say."""

    columns: Sequence[str]
    totals: list[Total]
    lines: dict[str, list[int | float | None]]
    rule: str


def classified_table(evaluation: Evaluation) -> ClassifiedTable | None:
    """None where the records say nothing of a classifier."""
    if not evaluation.classified:
        return None
    found, own = evaluation.model["classified"], evaluation.intervals.get(evaluation.name, {})
    return ClassifiedTable(
        columns=_COLUMNS,
        totals=[Total(text, found[key], own.get(key)) for key, text in _TOTALS.items() if key in found],
        lines={category: [row.get(key) for key in _CELLS] for category, row in evaluation.classified.items()},
        rule=RULE,
    )
