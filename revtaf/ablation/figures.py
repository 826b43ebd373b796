"""The figures of a grid, drawn from its summary: curves over a setting, F1 by category, pointing by finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from revtaf.ablation.tables import name_of
from revtaf.files import atomic_write
from revtaf.labels import CHEXPERT_CATEGORIES, HEAD_CATEGORIES
from revtaf.pages.cards import overlay

COLOURS = ("#7f7f7f", "#1f78b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e")
SHOWN = {"example_f1": "CE F1 (example)", "micro_f1": "CE F1 (micro)", "tail_f1": "tail F1", "BLEU_4": "BLEU-4"}


def curve(content: Mapping[str, Any], path: Path) -> None:
    """Supplement, Figures 1 and 2: scores over a setting; bars are 95 % intervals over patients."""
    plt = _pyplot()
    rows = sorted(content["rows"].values(), key=lambda row: row["x"])
    x = np.arange(len(rows))
    figure, axes = plt.subplots(figsize=(6.4, 4))
    shown = {name: name_of(content, name) for name in content.get("metrics", ())} or SHOWN
    for colour, (metric, label) in zip(COLOURS[1:], shown.items(), strict=False):
        values = np.array([row["mean"].get(metric) for row in rows], dtype=float)
        bounds = np.array([row["interval"].get(metric, (None, None)) for row in rows], dtype=float).T
        axes.errorbar(
            x, values, yerr=np.abs(bounds - values), marker="o", ms=4, capsize=3, lw=1.3, color=colour, label=label
        )
    axes.set_xticks(x, [f"{row['x']:g}" for row in rows])
    axes.set(xlabel=content["axis"], ylabel="score", ylim=(0, None), title=_where(content))
    axes.legend(fontsize=8, frameon=False, ncols=2)
    _save(figure, path)


def classes(content: Mapping[str, Any], path: Path) -> None:
    """Supplement, Figure 3: F1 of each category for every row, head before tail; bars are deviations over seeds."""
    names = sorted(CHEXPERT_CATEGORIES, key=lambda c: (c not in HEAD_CATEGORIES, -content["support"][c]))
    labels = [f"{name}\n({content['support'][name]})" for name in names]
    rows = {
        row["label"]: [(row["mean"], row["sd"], f"f1/{name}") for name in names] for row in content["rows"].values()
    }
    _bars(labels, rows, "F1", _where(content), path, split=len(HEAD_CATEGORIES), sides=("head", "tail"))


def pointing(content: Mapping[str, Any], path: Path) -> None:
    """Pointing game of the entity maps, finding by finding, for every row and the constant maps."""
    view = content["alignment"]
    keys = [key for key in next(iter(view["rows"].values()))["mean"] if key.startswith("local pointing/")]
    labels = [key.split("/", 1)[1] for key in keys]
    rows = {row["label"]: [(row["mean"], row["sd"], key) for key in keys] for row in view["rows"].values()}
    _bars(labels, rows, "pointing game, entity maps", _where(content), path)


def maps(rows: Mapping[str, Mapping[str, Mapping]], crop: Callable[[str], np.ndarray], path: Path, title: str) -> None:
    """Entity maps of the first image of each finding, a line for every row. rows: label -> finding -> an example of
    `alignment.json`; crop: sample id -> the grey image that the model saw. Shows images: not for `results/tables`."""
    plt = _pyplot()
    findings = list(next(iter(rows.values())))
    size = (1.45 * len(findings), 1.62 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(findings), figsize=size, squeeze=False)
    for line, (label, examples) in zip(axes, rows.items(), strict=True):
        for panel, finding in zip(line, findings, strict=True):
            example = examples[finding]
            image, weights = crop(example["id"]), np.array(example["map"])
            side = round(len(weights) ** 0.5)
            panel.imshow(overlay(image, weights.reshape(side, side)))
            for left, top, right, bottom in example["boxes"]:
                high, wide = image.shape
                corner, wide, high = (left * wide, top * high), (right - left) * wide, (bottom - top) * high
                panel.add_patch(plt.Rectangle(corner, wide, high, fill=False, color="#4be36b", lw=1.2))
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, fontsize=8)
    for panel, finding in zip(axes[0], findings, strict=True):
        panel.set_title(finding, fontsize=8)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def _bars(labels, rows: Mapping, ylabel: str, title: str, path: Path, split: int | None = None, sides=()) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(max(8.0, 0.95 * len(labels)), 4.6))
    x, width = np.arange(len(labels)), 0.84 / len(rows)
    for i, (label, cells) in enumerate(rows.items()):
        heights = [mean.get(key) or 0 for mean, _, key in cells]
        errors = [sd.get(key) or 0 for _, sd, key in cells]
        axes.bar(
            x + (i - (len(rows) - 1) / 2) * width,
            heights,
            width,
            yerr=errors if any(errors) else None,
            error_kw={"lw": 0.8},
            color=COLOURS[i % len(COLOURS)],
            label=label,
        )
    if split is not None:
        axes.axvline(split - 0.5, color="#999999", lw=0.8, ls="--")
        for at, name in ((split / 2 - 0.5, sides[0]), ((len(labels) + split) / 2 - 0.5, sides[1])):
            axes.text(at, 0.99, name, ha="center", va="top", transform=axes.get_xaxis_transform(), color="#555555")
    axes.set_xticks(x, [label.replace(" ", "\n") for label in labels], fontsize=7)
    axes.set(ylabel=ylabel, ylim=(0, 1.08), title=title)
    axes.legend(fontsize=8, frameon=False, ncols=min(len(rows), 4), loc="upper center", bbox_to_anchor=(0.5, -0.2))
    _save(figure, path)


def _where(content: Mapping[str, Any]) -> str:
    return f"{content['title']}\n{content['data']}, {content['split']}, {content['samples']} images"


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure, path: Path) -> None:
    figure.tight_layout()
    with atomic_write(path) as partial:
        # No date and no version inside: the same numbers give the same file.
        figure.savefig(partial, dpi=110, format="png", metadata={"Software": None})
    _pyplot().close(figure)
