"""Small pieces of HTML and SVG that several sections of report.html share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from revtaf.eval.statistics import Interval


def number(value: float | None) -> str:
    """Three decimals; what was not computed is "n/a", never 0."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3f}"


def limits(interval: Interval | None) -> str:
    """The 95 % interval as a small line of its own; "" where there is none.

    One without width says that no resample differed (an F1 of 0, say), not that the score is certain: not shown.
    """
    if interval is None or not interval.low < interval.high:
        return ""
    return f"<small>{without_zero(interval.low)}\u2013{without_zero(interval.high)}</small>"


def without_zero(value: float) -> str:
    """0.123 as .123 and -0.123 as -.123, but 10.000 as it is."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def bar(value: float, interval: Interval | None = None) -> str:
    """A horizontal bar of a score from 0 to 1, and its interval as a line across the end."""
    whisker = ""
    if limits(interval):
        low, high = (100 * min(max(bound, 0.0), 1.0) for bound in (interval.low, interval.high))
        whisker = f'<s style="left:{low:.1f}%;width:{high - low:.1f}%"></s>'
    return f'<span class="bar"><i style="width:{100 * value:.1f}%"></i>{whisker}</span>'


def table(columns: Sequence[str], rows: Sequence[str], kind: str = "", groups: str = "") -> str:
    """A table that scrolls sideways where it does not fit. columns: headings, escaped here; rows, groups: HTML."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return (
        f'<div class="scroll"><table class="{kind}"><thead>{groups}<tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def ticks(low: float, high: float, count: int = 4) -> list[tuple[float, str]]:
    """At most `count` + 1 round values within [low, high], low < high, and how to print them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:.{decimals}f}") for i in range(first, last + 1)]
