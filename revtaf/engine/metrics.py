"""metrics.jsonl of a run, read back: a line for each step (its losses) and one for each validation."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from revtaf.engine.runtime import read_jsonl

_NOT_LOSSES = frozenset({"step", "epoch", "lr"})


def epoch_curves(metrics: Path) -> list[dict]:
    """One record for each epoch: "epoch", the means of its "losses", its "validation". Names are the system's."""
    sums: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    validation: dict[int, dict] = {}
    for record in read_jsonl(metrics):
        epoch = record["epoch"]
        if "validation" in record:
            validation[epoch] = record["validation"]
            continue
        # Files of earlier versions have the losses beside the step.
        losses = record.get("losses") or {name: v for name, v in record.items() if name not in _NOT_LOSSES}
        for name, value in losses.items():
            sums[epoch][name].append(value)
    return [
        {"epoch": e, "losses": {k: float(np.mean(v)) for k, v in sums[e].items()}, "validation": validation.get(e, {})}
        for e in sorted(sums)
    ]
