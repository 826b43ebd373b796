"""metrics.jsonl of a run, read back: a line for each step (its losses) and one for each validation."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from revtaf.engine.runtime import read_jsonl
from revtaf.files import told_as_damage

RISE = 1.005  # of an epoch's mean loss over an earlier one: in a sound training it falls until the end
_NOT_LOSSES = frozenset({"step", "epoch", "lr"})


def epoch_curves(metrics: Path) -> list[dict]:
    """One record for each epoch: "epoch", the means of its "losses", its "validation". Names are the system's."""
    sums: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    validation: dict[int, dict] = {}
    with told_as_damage(metrics, "delete it; a continued run writes it anew"):
        for record in read_jsonl(metrics):
            epoch = int(record["epoch"])
            if "validation" in record:
                validation[epoch] = dict(record["validation"])
                continue
            # Files of earlier versions have the losses beside the step.
            losses = record.get("losses") or {name: v for name, v in record.items() if name not in _NOT_LOSSES}
            for name, value in losses.items():
                sums[epoch][name].append(float(value))
    means = {epoch: {name: float(np.mean(values)) for name, values in losses.items()} for epoch, losses in sums.items()}
    return [{"epoch": e, "losses": means[e], "validation": validation.get(e, {})} for e in sorted(means)]


def rise(curves: list[dict], loss: str) -> str | None:
    """What an epoch's mean of this training loss did that it does not do in a sound training: rise above an earlier
    one. None where it did not, and where there is no such loss."""
    means = [(curve["epoch"], curve["losses"][loss]) for curve in curves if loss in curve["losses"]]
    if not means:
        return None
    least = means[0]
    for epoch, mean in means[1:]:
        if mean > RISE * least[1]:
            before, after = f"{least[1]:.2f} in epoch {least[0]}", f"{mean:.2f} in epoch {epoch}"
            return f"rose from {before} to {after}, and ended at {means[-1][1]:.2f}"
        least = min(least, (epoch, mean), key=lambda m: m[1])
    return None
