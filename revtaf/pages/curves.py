"""The training curves of report.html: which numbers of metrics.jsonl are drawn, and how.

A PNG inside the page, its lines on a transparent ground, so that they read on light and on dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from revtaf.pages.images import image_data

_LOSSES = ("total", "lm", "disease", "rank", "consistency")
_AVERAGES = ("example F1", "micro F1", "macro F1")
_LINES = ("#3b82c4", "#d9822b", "#3a9d6e", "#b0569b", "#8a8f98", "#c4554d", "#7a6fc0", "#9b8b3d")
_AXES = "#848c94"  # readable on white and on black


def curve_panels(records: Sequence[Mapping]) -> dict[str, dict[str, dict[int, float]]]:
    """{"losses": {name: {epoch: mean}}, "validation": ..} from training records, as in metrics.jsonl.

    A record holds "epoch" and numbers, perhaps in nested dicts (joined by a blank); several records of one
    epoch are averaged. A loss is a number named total, lm, disease, rank or consistency, or with "loss" in its
    name; validation is a number whose name ends in "f1", preferably the example, micro and macro average.
    """
    found: dict[str, dict[str, dict[int, list[float]]]] = {"losses": {}, "validation": {}}
    for index, record in enumerate(records, start=1):
        epoch = int(record.get("epoch", index))
        for name, value in flat(record):
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


def flat(record: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, the names joined by a blank."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def curves_image(records: Sequence[Mapping]) -> str:
    """The panels side by side as the value of `src`; "" where there is nothing to draw."""
    panels = {name: lines for name, lines in curve_panels(records).items() if lines}
    if not panels:
        return ""
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
    return image_data(buffer.getvalue())
