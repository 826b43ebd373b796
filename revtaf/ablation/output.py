"""The files of a grid: `summary.json` (every number), `table.md`, `table.tex`, figures. None holds report text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from revtaf import __version__
from revtaf.ablation import controls, figures, tables, views
from revtaf.ablation.collect import Summary, paper_figures
from revtaf.ablation.grid import Run
from revtaf.ablation.tables import SUMMARY
from revtaf.ablation.view_tables import advanced_markdown, alignment_markdown, counts_markdown, retrieval_markdown
from revtaf.files import atomic_write, write_json
from revtaf.pages.report import plain_json

TABLE, LATEX = "table.md", "table.tex"
# view -> its figure: file name and painter
FIGURES: dict[str, tuple[str, Callable[[Mapping, Path], None]]] = {
    "curve": ("curve.png", figures.curve),
    "classes": ("classes.png", figures.classes),
    "alignment": ("pointing.png", figures.pointing),
}


def write(summary: Summary, runs: Sequence[Run], folder: Path, made: Mapping[str, Any]) -> Path:
    """Put the files of a grid into `folder`, and return it. made: the command and the settings given to all rows."""
    write_json(folder / SUMMARY, plain_json(content_of(summary, runs) | dict(made)))
    render(folder)
    return folder


def render(folder: Path) -> None:
    """Print tables and figures anew from the summary that is there."""
    content = tables.read_summary(folder / SUMMARY)
    _write(folder / TABLE, markdown(content))
    if text := latex(content):
        _write(folder / LATEX, text)
    for view in content["views"]:
        if view in FIGURES:
            name, draw = FIGURES[view]
            draw(content, folder / name)


def content_of(summary: Summary, runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that tables and figures are made of."""
    grid = summary.grid
    content: dict[str, Any] = {
        "title": grid.title,
        "grid": grid.name,
        "views": list(grid.views),
        "axis": grid.axis,
        "reference": grid.reference,
        "data": summary.data,
        "split": summary.split,
        "trained on": summary.trained_on,
        "samples": len(summary.ids),
        "units": summary.units,
        "signature": summary.signature,
        "support": summary.support,
        **views.plain(summary.rows, summary.pairs),
    }
    content["of the paper"] = summary.of_the_paper
    if summary.references:
        content["references"] = summary.references
    if summary.metrics:
        content |= {"metrics": list(summary.metrics), "lower is better": list(summary.lower)}
    if summary.headings:
        content["headings"] = summary.headings
    for name, row in content["rows"].items():
        row["paper"] = paper_figures(grid, grid.row(name))
        row["x"] = grid.row(name).x
    if "alignment" in grid.views:
        content["alignment"] = views.alignment_view(grid, runs, summary.ids)
    if "retrieval" in grid.views:
        content["retrieval"] = views.retrieval_view(grid, runs, summary.ids)
    if "counts" in grid.views:
        content["counts"] = views.counts_view(summary.support, len(summary.ids))
    if "advanced" in grid.views:
        content["advanced"] = views.advanced_view(runs)
    if grid.controls:
        content["controls"] = [vars(control) | {"rows": list(control.rows)} for control in grid.controls]
        controls.check(content, grid.path)
    return content | {
        "sources": summary.sources,
        "notes": summary.notes,
        "revtaf": __version__,
    }


def latex(content: Mapping[str, Any]) -> str:
    """The scores for a paper; empty for a grid that shows none."""
    return tables.scores_latex(content) if "scores" in content["views"] else ""


def markdown(content: Mapping[str, Any]) -> str:
    """The page of a grid: its tables in the order of its views, then what a reader must know."""
    seeds = tables.seeds_of(content)
    parts = [
        f"# {content['title']}",
        f"{content['data']}, {content['split']}: {content['samples']} images of {content['units']}; trained on "
        f"{content['trained on']}; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}.",
    ]
    for view in content["views"]:
        if view == "scores":
            parts += [tables.scores_markdown(content), tables.said_markdown(content)]
            parts += [tables.differences_markdown(content), _LEGEND]
        elif view == "classes":
            parts += ["## F1 of each category", tables.classes_markdown(content)]
        elif view == "counts":
            parts += [counts_markdown(content["counts"], content["data"])]
        elif view == "alignment":
            parts += [alignment_markdown(content["alignment"]), _LEGEND]
        elif view == "retrieval":
            parts += ["## Retrieval", retrieval_markdown(content["retrieval"]), _LEGEND]
        elif view == "advanced":
            parts += [advanced_markdown(content)]
        if view in FIGURES:
            parts.append(f"![{content['title']}]({FIGURES[view][0]})")
    if "controls" in content:
        parts += ["## Controls", controls.controls_markdown([content])]
    parts.append("\n".join(f"- {note}" for note in content["notes"]))
    parts.append("\n".join(f"- {name}: {value}" for name, value in content["sources"].items()))
    parts.append(f"`{content['signature']}`\n\n`{content['command']}`")
    return "\n\n".join(part.strip() for part in dict.fromkeys(parts) if part.strip()) + "\n"


_LEGEND = (
    "Small print: ± standard deviation over seeds; of a difference, its 95 % interval over patients, p (approximate "
    "randomisation, Holm over the metrics of the pair); in how many seeds it has this sign, and p over seeds (paired "
    "t-test). **Bold**: both p below .05 and all seeds agree; never with one seed."
)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
