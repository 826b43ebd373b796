"""report.html: one file without external resources, made of page.html and the sections built here.

Every text from outside (reports, ids, configuration) is escaped. Figures are PNGs inside the page; the lines
of the training curves are drawn on a transparent ground, so that they read on light and on dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

import numpy as np

from revtaf.eval.cards import Sample, image_data, sample_cards
from revtaf.labels import HEAD_CATEGORIES

_LOSSES = ("total", "lm", "disease", "rank", "consistency")
_AVERAGES = ("example F1", "micro F1", "macro F1")
_LINES = ("#3b82c4", "#d9822b", "#3a9d6e", "#b0569b", "#8a8f98", "#c4554d", "#7a6fc0", "#9b8b3d")
_AXES = "#848c94"  # readable on white and on black
_SUMMARY = {"BLEU_4": "BLEU-4", "METEOR": "METEOR", "ROUGE_L": "ROUGE-L", "CIDEr": "CIDEr"}


def render(evaluation, run: Mapping, samples: Sequence[Sample], curves: Sequence[Mapping], columns) -> str:
    """The whole page. columns: heading -> (kind, key), as in `revtaf.eval.report.COLUMNS`."""
    template = Template(resources.files("revtaf.eval").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(str(run.get("name") or run.get("config") or "REVTAF")),
        summary=_summary(evaluation, run),
        scores=_scores(evaluation, columns),
        notes=_notes(evaluation.notes),
        run=_definitions(run),
        curves=_curves(curves),
        perclass=_per_class(evaluation.model["clinical"]),
        lengths=_lengths(evaluation.lengths),
        samples=sample_cards(samples),
        signature=escape(evaluation.signature),
    )


def curve_panels(records: Sequence[Mapping]) -> dict[str, dict[str, dict[int, float]]]:
    """{"losses": {name: {epoch: mean}}, "validation": ..} from training records, as in metrics.jsonl.

    A record holds "epoch" and numbers, perhaps in nested dicts (joined by a blank); several records of one
    epoch are averaged. A loss is a number named total, lm, disease, rank or consistency, or with "loss" in its
    name; validation is a number whose name ends in "f1", preferably the example, micro and macro average.
    """
    found: dict[str, dict[str, dict[int, list[float]]]] = {"losses": {}, "validation": {}}
    for index, record in enumerate(records, start=1):
        epoch = int(record.get("epoch", index))
        for name, value in _flat(record):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            words = re.split(r"[ _/.]", name.lower())
            if words[-1] == "f1" and "class" not in words:
                panel = "validation"
            elif words[-1] in _LOSSES or "loss" in words:
                panel = "losses"
            else:
                continue
            label = name.split(" ")[-1].replace("_f1", " F1").replace("_", " ")
            found[panel].setdefault(label, {}).setdefault(epoch, []).append(float(value))
    shown = {n: v for n, v in found["validation"].items() if n in _AVERAGES} or found["validation"]
    return {
        panel: {name: {e: sum(v) / len(v) for e, v in sorted(by_epoch.items())} for name, by_epoch in lines}
        for panel, lines in (("losses", found["losses"].items()), ("validation", shown.items()))
    }


def _summary(evaluation, run: Mapping) -> str:
    nlg, clinical = evaluation.model["nlg"], evaluation.model["clinical"]
    where = " ".join(str(run[k]) for k in ("dataset", "split") if run.get(k))
    epoch = run.get("checkpoint_epoch")
    scores = [f"{label} {nlg[key]:.3f}" for key, label in _SUMMARY.items() if nlg.get(key) is not None]
    scores.append(f"example-based CE F1 {clinical['example_f1']:.3f}")
    start = "The model" if epoch is None else f"The checkpoint of epoch {epoch}"
    count = re.search(r"\|n:(\d+)\|", evaluation.signature)
    size = f"{count.group(1)} reports" if count else "the reports"
    return escape(f"{start}, scored on {size}{f' of {where}' if where else ''}: {', '.join(scores)}.")


def _scores(evaluation, columns) -> str:
    table = {n: [row[kind].get(key) for kind, key in columns.values()] for n, row in evaluation.rows.items()}
    known = [[v for v in column if v is not None] for column in zip(*table.values(), strict=True)]
    best = [max(values) if len(table) > 1 and values else None for values in known]
    kinds = [kind for kind, _ in columns.values()]
    text = kinds.count("nlg")
    lines = [
        f'<tr class="groups"><th></th><th colspan="{text}">Text (NLG)</th>'
        f'<th colspan="{len(kinds) - text}">Clinical efficacy (CE)</th></tr>',
        "<tr><th></th>" + "".join(f"<th>{escape(c)}</th>" for c in columns) + "</tr>",
    ]
    body = []
    for i, (name, values) in enumerate(table.items()):
        cells = []
        for value, top in zip(values, best, strict=True):
            kind = ' class="missing"' if value is None else ' class="best"' if value == top else ""
            cells.append(f"<td{kind}>{'n/a' if value is None else f'{value:.3f}'}</td>")
        kind = "constant" if i else "model"
        body.append(f'<tr class="{kind}"><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table><thead>{"".join(lines)}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f'<p class="signature">{escape(evaluation.signature)}</p>{_verdict(evaluation, columns)}'
    )


def _verdict(evaluation, columns) -> str:
    model, *constants = evaluation.rows.values()
    if not constants:
        return ""
    above, not_above = [], []
    for heading, (kind, key) in columns.items():
        value = model[kind].get(key)
        others = [row[kind][key] for row in constants if row[kind].get(key) is not None]
        if value is not None and others:
            (above if value > max(others) else not_above).append(heading)
    verdict = f"Here the model is above every constant row on {', '.join(above) or 'no metric'}"
    verdict += f", and not above on {', '.join(not_above)}." if not_above else "."
    return (
        "<p>The shaded rows answer every image with the same training report. Chest X-ray reports are "
        "so alike that such a row can score like a published system in text metrics without ever looking at an "
        "image: only where a model is above them has it shown that it reads its images. "
        "Underlined: the best of each column.</p>"
        f'<p class="verdict">{escape(verdict)}</p>'
    )


def _notes(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>" if notes else ""


def _definitions(run: Mapping) -> str:
    items = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_readable_value(value))}</dd>"
        for name, value in _flat(run)
    )
    return f"<dl>{items}</dl>" if items else ""


def _readable_value(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _flat(record: Mapping, prefix: str = ""):
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _curves(curves: Sequence[Mapping]) -> str:
    panels = {name: lines for name, lines in curve_panels(curves).items() if lines}
    if not panels:
        return '<p class="soft">No training record was given.</p>'
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained", facecolor="none")
    titles = {"losses": "Loss by component", "validation": "Validation, clinical efficacy F1"}
    for axes, (panel, lines) in zip(np.ravel(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for i, (name, by_epoch) in enumerate(lines.items()):
            marker = "o" if len(by_epoch) < 30 else None
            axes.plot(
                *zip(*by_epoch.items(), strict=True),
                color=_LINES[i % len(_LINES)],
                marker=marker,
                ms=3.5,
                lw=1.8,
                label=name,
            )
        values = np.array([v for by_epoch in lines.values() for v in by_epoch.values()])
        if panel == "losses" and values.min() > 0 and values.max() / values.min() > 30:
            axes.set_yscale("log")
        elif panel == "validation":
            axes.set_ylim(bottom=0)
        axes.set_title(titles[panel], loc="left", color=_AXES, fontsize=11)
        axes.set_xlabel("epoch", color=_AXES)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_facecolor("none")
        axes.tick_params(colors=_AXES, which="both")
        axes.grid(axis="y", color=_AXES, alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_AXES)
        axes.legend(frameon=False, labelcolor=_AXES, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, transparent=True)
    return f'<img class="curves" alt="Training curves" src="{image_data(buffer.getvalue())}">'


def _per_class(clinical: Mapping) -> str:
    head, tail = [], []
    for category, row in clinical["per_class"].items():
        frequent = category in HEAD_CATEGORIES
        kind = " ".join(("" if frequent else "rare", "" if row["support"] else "none")).strip()
        bar = f'<span class="bar"><i style="width:{100 * row["f1"]:.1f}%"></i></span>'
        numbers = "".join(f"<td>{row[key]:.3f}</td>" for key in ("f1", "precision", "recall"))
        counts = f"<td>{row['support']}</td><td>{row['predicted']}</td>"
        (head if frequent else tail).append(
            (row["support"], f'<tr class="{kind}"><th scope="row">{escape(category)}</th>'
             f'<td class="graph">{bar}</td>{numbers}{counts}</tr>')
        )  # fmt: skip
    sections = []
    for name, key, rows in (("Head", "head_f1", head), ("Tail", "tail_f1", tail)):
        title = f"{name}: mean F1 {clinical[key]:.3f}"
        sections.append(f'<tr class="section"><th colspan="7">{title}</th></tr>')
        sections += [row for _, row in sorted(rows, key=lambda r: -r[0])]
    columns = ("", "", "F1", "Precision", "Recall", "In references", "In generated")
    averages = ", ".join(
        f"{label} {clinical[f'{key}_f1']:.3f}"
        for key, label in (
            ("example", "over reports (example)"),
            ("micro", "over all cells (micro)"),
            ("macro", "over categories (macro)"),
            ("macro_supported", "over the categories that occur"),
            ("micro5", "micro over the five of CheXpert"),
            ("macro5", "macro over these five"),
        )
    )
    return (
        "<p>A category counts where its status is positive. Head are the seven categories above 10 % of the "
        f"MIMIC-CXR test set, tail the other seven. F1 averaged {averages}.</p>"
        '<div class="scroll"><table class="perclass"><thead><tr>'
        + "".join(f"<th>{c}</th>" for c in columns)
        + f"</tr></thead><tbody>{''.join(sections)}</tbody></table></div>"
    )


def _lengths(lengths: Mapping) -> str:
    tiles = (
        (f"{lengths['mean_words_hypothesis']:.1f}", "words per generated report"),
        (f"{lengths['mean_words_reference']:.1f}", "words per reference, cut at 100"),
        (f"{lengths['distinct_hypotheses']}", "distinct generated reports"),
        (f"{lengths['share_most_frequent_hypothesis']:.1%}", "are the most frequent generated report"),
        (f"{lengths['share_identical_to_training']:.1%}", "are a training report word for word"),
        (f"{lengths['share_empty']:.1%}", "are empty"),
    )
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{value}</b><span>{what}</span></div>' for value, what in tiles
    ) + "</div>"  # fmt: skip
