"""The training curves of report.html: the losses and the validation scores that a system names, over the epochs.

A PNG inside the page, its lines on a transparent ground, so that they read on light and on dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from revtaf.pages.images import image_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The averages of clinical efficacy: where a validation has any of them, its panel shows them alone.
_AVERAGES = ("example F1", "micro F1", "micro F1 positive", "macro F1")
_LINES = ("#3b82c4", "#d9822b", "#3a9d6e", "#b0569b", "#8a8f98", "#c4554d", "#7a6fc0", "#9b8b3d")
_AXES = "#848c94"  # readable on white and on black
_WIDE = 30  # ratio of the extremes from which an axis is logarithmic

Lines = dict[str, dict[int, float]]  # name -> {epoch: value}


def curve_panels(records: Sequence[Mapping]) -> dict[str, Lines]:
    """{"losses": lines, "validation": lines}, and "other" where a validation has numbers beyond 0 to 1.

    records: {"epoch": int, "losses": {name: value}, "validation": {name: value}}; each part may be absent. What is no
    finite number is left out, several records of one epoch are averaged. The averages of clinical efficacy are shown
    alone where they are there, otherwise everything is; a line whose values leave the range from 0 to 1 is in "other".
    """
    losses, validation = _lines(records, "losses"), _lines(records, "validation")
    averages = {name: line for name, line in validation.items() if name in _AVERAGES}
    if averages:
        return {"losses": losses, "validation": averages}
    shares = {name: line for name, line in validation.items() if all(0 <= v <= 1 for v in line.values())}
    other = {name: line for name, line in validation.items() if name not in shares}
    return {"losses": losses, "validation": shares} | ({"other": other} if other else {})


def _lines(records: Sequence[Mapping], part: str) -> Lines:
    found: dict[str, dict[int, list[float]]] = {}
    for index, record in enumerate(records, start=1):
        for name, value in record.get(part, {}).items():
            if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
                label = name.replace("_f1", " F1").replace("_", " ")
                found.setdefault(label, {}).setdefault(int(record.get("epoch", index)), []).append(float(value))
    return {label: {e: sum(v) / len(v) for e, v in sorted(epochs.items())} for label, epochs in found.items()}


def curves_image(records: Sequence[Mapping]) -> str:
    """The panels side by side as the value of `src`; "" where there is nothing to draw."""
    figure = curves_figure(records)
    if figure is None:
        return ""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, transparent=True)
    return image_data(buffer.getvalue())


def curves_figure(records: Sequence[Mapping]) -> Figure | None:
    """One panel for each group of lines; None where there is no line."""
    panels = {panel: lines for panel, lines in curve_panels(records).items() if lines}
    if not panels:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained", facecolor="none")
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
        if panel == "validation":
            axes.set_ylim(bottom=0)
        elif values.min() > 0 and values.max() / values.min() > _WIDE:
            axes.set_yscale("log")
        axes.set_title(_title(panel, list(lines)), loc="left", color=_AXES, fontsize=11, parse_math=False)
        axes.set_xlabel("epoch", color=_AXES)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_facecolor("none")
        axes.tick_params(colors=_AXES, which="both")
        axes.grid(axis="y", color=_AXES, alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_AXES)
        legend = axes.legend(frameon=False, labelcolor=_AXES, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_parse_math(False)  # a "$" in a name is a "$"
    return figure


def _title(panel: str, names: Sequence[str]) -> str:
    if panel == "losses":
        return "Loss by component"
    if len(names) == 1 and names[0] not in _AVERAGES:
        return f"Validation, {names[0]}"
    if panel == "other":
        return "Validation, other scales"
    return "Validation, " + ("clinical efficacy F1" if set(names) <= set(_AVERAGES) else "scores from 0 to 1")
