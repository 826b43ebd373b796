"""How numbers are printed, and the places of bars and ticks, as several sections of report.html need them."""

from __future__ import annotations

import math
import re

from revtaf.eval.statistics import Interval


def number(value: float | None) -> str:
    """Three decimals; what was not computed is "n/a", never 0."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3f}"


def percent(share: float) -> str:
    """A share from 0 to 1, with one decimal."""
    return f"{100 * share:.1f} %"


def limits(interval: Interval | None) -> str:
    """The 95 % interval as text, .400\u2013.625; "" where there is none.

    One without width says that no resample differed (an F1 of 0, say), not that the score is certain: not shown.
    """
    if interval is None or not interval.low < interval.high:
        return ""
    return f"{without_zero(interval.low)}\u2013{without_zero(interval.high)}"


def without_zero(value: float) -> str:
    """0.123 as .123 and -0.123 as -.123, but 10.000 as it is."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def whisker(interval: Interval | None) -> tuple[float, float] | None:
    """Where the line of an interval starts on a bar from 0 to 1, and how wide it is, in % of the bar; None where no
    interval is shown."""
    if not limits(interval):
        return None
    low, high = (100 * min(max(bound, 0.0), 1.0) for bound in (interval.low, interval.high))
    return low, high - low


def ticks(low: float, high: float, count: int = 4) -> list[tuple[float, str]]:
    """At most `count` + 1 round values within [low, high], low < high, and how to print them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:.{decimals}f}") for i in range(first, last + 1)]
