"""Positive controls of a grid: was what was put into a path seen at its end? (docs/evaluation.md#controls)

Judged from the summary alone, by the rule that the grid's file states (`revtaf.ablation.grid.GridControl`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from revtaf.ablation.tables import NAMES, Content, name_of, rows_markdown, seeds_of, signed, summaries
from revtaf.errors import UserError, nearest
from revtaf.pages.parts import without_zero

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
ROUNDING = 1e-9  # a figure this little below what is needed reaches it


@dataclass(frozen=True)
class ControlOutcome:
    """A control, judged. effect: mean over seeds of the row, or of the difference of the rows; interval over patients,
    None where there is none."""

    name: str
    given: str
    metric: str
    effect: float | None
    interval: tuple[float, float] | None
    least: float
    difference: bool

    @property
    def verdict(self) -> str:
        """ "passed": `least` is reached and, of a difference, the interval lies above 0; "not run" without a figure."""
        if self.effect is None:
            return NOT_RUN
        low = self.interval[0] if self.interval else None
        sure = not self.difference or (low is not None and low > 0)
        return PASSED if sure and self.effect >= self.least - ROUNDING else FAILED


def judge(content: Content) -> list[ControlOutcome]:
    """Every control of a summary."""
    return [_outcome(content, control) for control in content.get("controls", ())]


def check(content: Content, path: Path) -> None:
    """UserError where no row of the control's view has its metric: a misspelt one would never pass."""
    for control in content["controls"]:
        view = _view(content, control)
        known = list(dict.fromkeys(name for row in view["rows"].values() for name in row["mean"]))
        if control["metric"] not in known:
            raise UserError(
                f"{path}: controls: {control['name']}: no row of the view {control['view']} has "
                f"'{control['metric']}'; {nearest(control['metric'], known)}"
            )


def controls_markdown(contents: Sequence[Content]) -> str:
    """The controls of one or several summaries: what was given, what came out, what was needed."""
    lines = [["control", "data", "what was given", "effect", "needed", "passed"], ["---"] * 6]
    for content in contents:
        where = NAMES.get(content["data"], content["data"])
        for found in judge(content):
            said = {PASSED: "yes", FAILED: "**no**"}.get(found.verdict, found.verdict)
            lines.append([found.name, where, found.given, _effect(found, content), _needed(found), said])
    return rows_markdown(lines)


def summaries_with_controls(tables: Path, data: str) -> list[dict[str, Any]]:
    """The summaries of a data set whose grids have controls, by name."""
    return [content for _, content in summaries(tables, data) if content.get("controls")]


def verdicts(tables: Path, data: str) -> dict[str, str]:
    """Name of a control -> its verdict on a data set; "failed" where it failed in any grid."""
    found: dict[str, set[str]] = {}
    for content in summaries_with_controls(tables, data):
        for outcome in judge(content):
            found.setdefault(outcome.name, set()).add(outcome.verdict)
    return {name: next(v for v in (FAILED, PASSED, NOT_RUN) if v in said) for name, said in found.items()}


def pair_of(pairs: Sequence[Mapping[str, Any]], a: str, b: str) -> tuple[Mapping[str, Any] | None, int]:
    """The tested pair, and -1 where it was taken the other way round; None where it was not tested."""
    for pair in pairs:
        if (pair["a"], pair["b"]) == (a, b):
            return pair, 1
        if (pair["a"], pair["b"]) == (b, a):
            return pair, -1
    return None, 1


def _view(content: Content, control: Mapping[str, Any]) -> Mapping[str, Any]:
    return content if control["view"] == "scores" else content[control["view"]]


def _outcome(content: Content, control: Mapping[str, Any]) -> ControlOutcome:
    view, metric, names = _view(content, control), control["metric"], control["rows"]
    labels = [view["rows"][name]["label"] if name in view["rows"] else name for name in names]
    effect, interval = None, None
    if len(names) == 1 and names[0] in view["rows"]:
        row = view["rows"][names[0]]
        effect, interval = row["mean"].get(metric), row["interval"].get(metric)
    elif len(names) == 2:
        pair, sign = pair_of(view["pairs"], *names)
        found = pair["metrics"].get(metric) if pair else None
        if found and found["difference"] is not None:
            effect = sign * found["difference"]
            interval = sorted((sign * found["low"], sign * found["high"])) if found["low"] is not None else None
    interval = tuple(interval) if interval and None not in interval else None
    return ControlOutcome(
        control["name"], ", against ".join(labels), metric, effect, interval, control["least"], len(names) == 2
    )


def _effect(found: ControlOutcome, content: Content) -> str:
    if found.effect is None:
        return "n/a"
    shown = signed if found.difference else without_zero
    interval = f" [{', '.join(map(shown, found.interval))}]" if found.interval else ""
    seeds = len(seeds_of(content))
    return f"{name_of(content, found.metric)} {shown(found.effect)}{interval}, {seeds} seed{'s' * (seeds > 1)}"


def _needed(found: ControlOutcome) -> str:
    return f"{signed(found.least) if found.difference else without_zero(found.least)} or more"
