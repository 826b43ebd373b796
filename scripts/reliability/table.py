"""The table of injected faults as Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any


def markdown(rounds: Sequence[dict[str, Any]], kinds: Sequence[str], mounted: bool, seconds: float) -> str:
    """Two tables: faults by kind with where they struck and how the process ended, and runs by system."""
    faults = [fault for each in rounds for fault in each["faults"]]
    lines = ["| fault | times | where | how the process ended |", "|---|---|---|---|"]
    for kind in kinds:
        if own := [fault for fault in faults if fault["kind"] == kind]:
            name = kind if kind != "disk full" or mounted else "file size limit (no disk could be mounted)"
            where = Counter(_place(fault) for fault in own)
            ended = Counter(re.sub(r", then .*", "", fault["outcome"]) for fault in own)
            lines.append(f"| {name} | {len(own)} | {_counted(where)} | {_counted(ended)} |")
    lines += ["", "| system | runs | faults | resumed | different | seconds |", "|---|---|---|---|---|---|"]
    for system in dict.fromkeys(each["system"] for each in rounds):
        own = [each for each in rounds if each["system"] == system]
        different = sum(bool(each["differences"]) for each in own)
        lines.append(
            f"| {system} | {len(own)} | {sum(len(each['faults']) for each in own)} | "
            f"{sum(each['resumes'] for each in own)} | {f'{different} runs' if different else '0 bits'} | "
            f"{sum(each['seconds'] for each in own):.0f} |"
        )
    lines += ["", f"{len(faults)} faults in {len(rounds)} runs, {seconds:.0f} seconds."]
    return "\n".join(lines) + "\n"


def _place(fault: dict[str, Any]) -> str:
    return fault["place"] if fault["phase"] == "train" else f"{fault['place']} of a test"


def _counted(counts: Counter) -> str:
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.most_common())
