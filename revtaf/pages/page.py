"""report.html: one file without external resources, from `templates/report.html` and what the modules here compute.

Every text from outside (reports, ids, names, configuration) is escaped, and the page holds no script: what can be
expanded or ordered is HTML alone, so that the Content-Security-Policy allows nothing but styles and inline images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from revtaf.eval.evaluate import Evaluation
from revtaf.eval.evaluated import Evaluated
from revtaf.pages.cards import Card, shown_cards
from revtaf.pages.classified import classified_table
from revtaf.pages.clinical import categories
from revtaf.pages.curves import curves_image
from revtaf.pages.environment import fill
from revtaf.pages.intervals import comparison_table, interval_figures
from revtaf.pages.scores import Columns, score_table
from revtaf.pages.section import PageSection
from revtaf.pages.texts import lengths_section, samples_by_score

_SUMMARY = {"BLEU_4": "BLEU-4", "METEOR": "METEOR", "ROUGE_L": "ROUGE-L", "CIDEr": "CIDEr"}


def render(
    evaluation: Evaluated,
    run: Mapping,
    cards: Sequence[Card],
    curves: Sequence[Mapping],
    columns: Columns,
    sections: Sequence[PageSection] = (),
) -> str:
    """The whole page, for rankings without what is about written reports. columns: heading -> (kind, key). curves:
    records as in `revtaf.pages.curves.curve_panels`. sections: what the system draws itself, below the samples."""
    shared = {
        "title": str(run.get("name") or run.get("config") or evaluation.name),
        "system": evaluation.name,
        "scores": score_table(evaluation, columns),
        "intervals": interval_figures(evaluation, columns),
        "comparisons": comparison_table(evaluation, columns),
        "notes": evaluation.notes,
        "run": [(name.replace("_", " "), _readable(value)) for name, value in _flat(run)],
        "curves": curves_image(curves),
        "sections": sections,
    }
    if not isinstance(evaluation, Evaluation):
        found = {heading: evaluation.model[kind].get(key) for heading, (kind, key) in columns.items()}
        return fill("rankings.html", summary=_summary(evaluation, run, "queries", found), **shared)
    nlg, f1 = evaluation.model["nlg"], evaluation.model["clinical"].get("example_f1")
    found = {label: nlg.get(key) for key, label in _SUMMARY.items()} | {"example-based CE F1": f1}
    return fill(
        "report.html",
        summary=_summary(evaluation, run, "reports", found),
        clinical=categories(evaluation),
        classified=classified_table(evaluation),
        lengths=lengths_section(evaluation),
        ranked=samples_by_score(evaluation, [card.id for card in cards]),
        cards=shown_cards(cards),
        **shared,
    )


def _summary(evaluation: Evaluated, run: Mapping, what: str, found: Mapping[str, float | None]) -> str:
    where = " ".join(str(run[k]) for k in ("dataset", "split") if run.get(k))
    epoch = run.get("checkpoint_epoch")
    scores = [f"{label} {value:.3f}" for label, value in found.items() if value is not None]
    start = evaluation.name if epoch is None else f"The checkpoint of epoch {epoch}"
    size = f"{len(evaluation.ids)} {what}{f' of {where}' if where else ''}"
    return f"{start}, scored on {size}: {', '.join(scores)}."


def _flat(record: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, the names joined by a blank."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _readable(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
