"""The smallest difference that a grid would have called evidence: what "not shown" leaves open.

The rule of `revtaf.ablation.collect.Pair.verdict`, turned round: how large would the true difference have to be for
four of five repeats of the grid, with other patients and other trainings, to find it? Both kinds of chance are taken
from what was measured: the standard error over patients is the half-width of the 95 % interval / 1.96, that over
trainings the standard deviation of the seeds' differences. Of three seeds the second is known to a factor of two at
best, and so is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats

from revtaf.ablation.collect import LEVEL

POWER = 0.8
HALF_WIDTH = stats.norm.ppf(0.975)  # of a 95 % interval, in standard errors
REPEATS = 4000  # imagined repeats of the grid: the power is known to .006
HALVINGS = 30  # of the bracket around the answer


def detectable(patients: float, trainings: float, seeds: int, metrics: int) -> float | None:
    """The true difference that the rule finds with POWER; None where no difference is ever evidence (one seed).

    patients: standard error of the difference over patients; trainings: standard deviation of one seed's difference;
    metrics: how many were tested with this one, of which Holm's correction takes the strictest share, LEVEL / metrics.
    """
    if seeds < 2:
        return None
    scale = float(np.hypot(patients, trainings))
    if scale == 0:
        return 0.0
    common, own = _noise(seeds)
    noise = (patients * common[:, None] + trainings * own) / scale  # (REPEATS, seeds), in units of `scale`
    bound = stats.norm.ppf(1 - LEVEL / (2 * metrics)) * patients / scale
    low, high = 0.0, 1.0
    while _power(high + noise, bound) < POWER:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle + noise, bound) >= POWER else (middle, high)
    return high * scale


def of_pair(pair: Mapping[str, Any], rows: Mapping[str, Any], metric: str) -> float | None:
    """The same for a metric of a tested pair of a summary, whose `rows` hold each seed's value; None where the summary
    does not hold what it needs, too."""
    found, (a, b) = pair["metrics"][metric], (rows.get(pair[side], {}).get("per_seed", {}) for side in "ab")
    seeds = [str(seed) for seed in pair["seeds"]]
    if found["low"] is None or not all(metric in side.get(seed, {}) for side in (a, b) for seed in seeds):
        return None
    each = np.array([a[seed][metric] - b[seed][metric] for seed in seeds])
    patients = (found["high"] - found["low"]) / (2 * HALF_WIDTH)
    trainings = float(each.std(ddof=1)) if len(each) > 1 else 0.0
    return detectable(patients, trainings, len(each), len(pair["metrics"]))


def _power(differences: np.ndarray, bound: float) -> float:
    """Share of repeats, (REPEATS, seeds) differences of each seed, in which the rule says "better": beyond `bound` over
    patients, the t-test over seeds below LEVEL, all seeds above 0."""
    mean, seeds = differences.mean(1), differences.shape[1]
    error = differences.std(1, ddof=1) / np.sqrt(seeds)
    over_seeds = mean > stats.t.ppf(1 - LEVEL / 2, seeds - 1) * error
    return float(((mean > bound) & over_seeds & (differences > 0).all(1)).mean())


@lru_cache
def _noise(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal draws, the same at every call: of the patients (REPEATS,), whom all seeds share, and of the trainings
    (REPEATS, seeds)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(REPEATS), rng.standard_normal((REPEATS, seeds))
