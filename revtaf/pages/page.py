"""report.html: one file without external resources, made of page.html and the sections of the page_* modules.

Every text from outside (reports, ids, names, configuration) is escaped, and the page holds no script: what can be
expanded or ordered is HTML alone, so that the Content-Security-Policy allows nothing but styles and inline images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from revtaf.eval.evaluate import Evaluation
from revtaf.pages.cards import Card, sample_cards
from revtaf.pages.clinical import categories
from revtaf.pages.curves import curve_panels, curves_figure, flat
from revtaf.pages.intervals import comparison_table, interval_figures
from revtaf.pages.scores import Columns, score_table
from revtaf.pages.texts import lengths_section, samples_by_score

__all__ = ["curve_panels", "render"]

_SUMMARY = {"BLEU_4": "BLEU-4", "METEOR": "METEOR", "ROUGE_L": "ROUGE-L", "CIDEr": "CIDEr"}


def render(
    evaluation: Evaluation, run: Mapping, samples: Sequence[Card], curves: Sequence[Mapping], columns: Columns
) -> str:
    """The whole page. columns: heading -> (kind, key), as in `revtaf.pages.report.COLUMNS`."""
    template = Template(resources.files("revtaf.pages").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(str(run.get("name") or run.get("config") or "REVTAF")),
        summary=_summary(evaluation, run),
        scores=score_table(evaluation, columns)
        + interval_figures(evaluation, columns)
        + comparison_table(evaluation, columns),
        notes=_notes(evaluation.notes),
        run=_definitions(run),
        curves=curves_figure(curves),
        perclass=categories(evaluation),
        lengths=lengths_section(evaluation),
        ranked=samples_by_score(evaluation, [sample.id for sample in samples]),
        samples=sample_cards(samples),
        signature=escape(evaluation.signature),
    )


def _summary(evaluation: Evaluation, run: Mapping) -> str:
    nlg, clinical = evaluation.model["nlg"], evaluation.model["clinical"]
    where = " ".join(str(run[k]) for k in ("dataset", "split") if run.get(k))
    epoch = run.get("checkpoint_epoch")
    scores = [f"{label} {nlg[key]:.3f}" for key, label in _SUMMARY.items() if nlg.get(key) is not None]
    scores.append(f"example-based CE F1 {clinical['example_f1']:.3f}")
    start = evaluation.name if epoch is None else f"The checkpoint of epoch {epoch}"
    size = f"{len(evaluation.ids)} reports{f' of {where}' if where else ''}"
    return escape(f"{start}, scored on {size}: {', '.join(scores)}.")


def _notes(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>" if notes else ""


def _definitions(run: Mapping) -> str:
    items = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_readable_value(value))}</dd>"
        for name, value in flat(run)
    )
    return f"<dl>{items}</dl>" if items else ""


def _readable_value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
