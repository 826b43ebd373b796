"""Statuses from calibrated probabilities: `generation.statuses=calibrated` (docs/method.md section 2.4).

DIFFERS: the paper's predicted status is the likeliest of four. A rare finding is seldom that, so that a classifier
which ranks well may still never name it. Here a finding is positive above a threshold of its own. P(positive) of each
category is calibrated first (Platt 1999: a logistic regression on its logit). Of calibrated probabilities the set of
cells with the greatest expected F1 is all those above one number, whatever their category (Lewis 1995), so that a
single number is chosen, by micro F1 over the findings on held-out samples. It comes back as one threshold per category
on the raw P(positive).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, logit

from revtaf.errors import UserError
from revtaf.files import read_json, write_json
from revtaf.knowledge.rules import no_finding
from revtaf.labels import BLANK, CATEGORIES, CHEXPERT_CATEGORIES, NO_FINDING, POSITIVE, STATUSES

ENOUGH = 5  # positives, and others, below which a category keeps its share of positives as its probability
FLOOR = 1e-6  # keeps the logit of a saturated probability finite
STRENGTH = 1.0  # scikit-learn's C: of the prior on the slope, whose input has unit variance
NEVER = 1.0  # a threshold that no probability is above


@dataclass(frozen=True)
class Thresholds:
    """Of K categories, on the raw P(positive). values (K,): above it a category is positive; that of "no finding" is
    not used. slopes, intercepts (K,): of the calibration, P = sigmoid(slope * logit(raw) + intercept), slope 0 where a
    category has kept its share of positives. positives (K,): held-out positives. common: the one number on calibrated
    probabilities. micro_f1_positive: on the `samples` that it was chosen on. source: which those were."""

    values: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray
    positives: np.ndarray
    common: float
    micro_f1_positive: float
    samples: int
    source: str

    def calibrated(self, positive: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """Raw P(positive) (S, K) -> calibrated. usual (K,): what a category gets that could not be calibrated."""
        logits = logit(np.asarray(positive, dtype=np.float64).clip(FLOOR, 1 - FLOOR))
        return np.where(self.slopes > 0, expit(self.slopes * logits + self.intercepts), usual)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """P(status) (S, 4, K) -> statuses (S, K) int64.

        Positive above the threshold, else the likeliest of the other three. "No finding" follows from the others as in
        the labels (`revtaf.knowledge.rules.no_finding`), and is blank where it does not hold.
        """
        probabilities = np.asarray(probabilities, dtype=np.float64)
        if probabilities.shape[1:] != (len(STATUSES), len(self.values)):
            raise ValueError(f"expected (S, 4, {len(self.values)}) probabilities, got {probabilities.shape}")
        positive = probabilities[:, POSITIVE]
        others = probabilities.copy()
        others[:, POSITIVE] = -1
        statuses = np.where(positive > self.values, POSITIVE, others.argmax(1))
        statuses[:, NO_FINDING] = BLANK
        statuses[:, NO_FINDING] = no_finding(statuses)
        return statuses


def fit_thresholds(probabilities: np.ndarray, statuses: np.ndarray, source: str = "validation") -> Thresholds:
    """Calibrate and choose on S held-out samples: P(status) (S, 4, K), true statuses (S, K) 0..3.

    Categories that are not scored (the auxiliary ones) are calibrated too and get the same number. Raises ValueError
    for shapes that do not fit.
    """
    probabilities, statuses = np.asarray(probabilities, dtype=np.float64), np.asarray(statuses)
    samples, categories = statuses.shape
    if probabilities.shape != (samples, len(STATUSES), categories) or not samples:
        raise ValueError(f"probabilities {probabilities.shape} do not fit statuses {statuses.shape}")
    truth = statuses == POSITIVE  # (S, K)
    raw = logit(probabilities[:, POSITIVE].clip(FLOOR, 1 - FLOOR))
    slopes, intercepts = np.array([_platt(raw[:, k], truth[:, k]) for k in range(categories)]).T
    calibrated = expit(slopes * raw + intercepts)
    findings = [k for k in range(min(categories, len(CHEXPERT_CATEGORIES))) if k != NO_FINDING]
    common, micro_f1_positive = _best_cut(calibrated[:, findings].ravel(), truth[:, findings].ravel())
    return Thresholds(
        _on_raw(slopes, intercepts, common),
        slopes,
        intercepts,
        truth.sum(0),
        common,
        micro_f1_positive,
        samples,
        source,
    )


def write_thresholds(path: Path, found: Thresholds) -> None:
    """As JSON, by category; floats keep every bit."""
    names = ("threshold", "slope", "intercept", "positives")
    rows = zip(found.values, found.slopes, found.intercepts, found.positives, strict=True)
    categories = {
        category: dict(zip(names, (*map(float, row[:3]), int(row[3])), strict=True))
        for category, row in zip(CATEGORIES, rows, strict=False)
    }
    about = {name: getattr(found, name) for name in ("source", "samples", "common", "micro_f1_positive")}
    write_json(path, about | {"categories": categories})


def read_thresholds(path: Path) -> Thresholds | None:
    """What `write_thresholds` wrote; None where there is no file. UserError where it holds something else."""
    if not path.is_file():
        return None
    content = read_json(path, "thresholds")
    try:
        rows = [content["categories"][category] for category in CATEGORIES[: len(content["categories"])]]
        columns = (np.array([row[name] for row in rows]) for name in ("threshold", "slope", "intercept", "positives"))
        about = (content[name] for name in ("common", "micro_f1_positive", "samples", "source"))
        return Thresholds(*columns, *about)
    except (LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); copy the folder again") from None


def _platt(raw: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Slope and intercept on the logits (S,). A category with few positives, or whose probabilities do not rise with
    them, keeps its share of positives: slope 0."""
    from sklearn.linear_model import LogisticRegression

    share = (truth.mean()).clip(FLOOR, 1 - FLOOR)
    kept = 0.0, float(logit(share))
    spread, middle = raw.std(), raw.mean()
    if min(truth.sum(), (~truth).sum()) < ENOUGH or spread == 0:
        return kept
    fitted = LogisticRegression(C=STRENGTH).fit(((raw - middle) / spread)[:, None], truth)
    slope = float(fitted.coef_[0, 0]) / spread
    return (slope, float(fitted.intercept_[0]) - slope * middle) if slope > 0 else kept


def _best_cut(calibrated: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The number above which cells (C,) are called positive with the greatest F1, and that F1. Half way between two
    neighbouring probabilities; of equal scores the one that calls the fewest. NEVER where nothing is positive."""
    if not truth.any():
        return NEVER, 0.0
    order = np.argsort(-calibrated, kind="stable")
    ordered, hits = calibrated[order], truth[order].cumsum()
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal ones are called together
    f1 = 2 * hits[last] / (last + 1 + truth.sum())
    best = int(f1.argmax())
    below = ordered[last[best] + 1] if last[best] + 1 < len(ordered) else 0.0
    return float((ordered[last[best]] + below) / 2), float(f1[best])


def _on_raw(slopes: np.ndarray, intercepts: np.ndarray, common: float) -> np.ndarray:
    """The thresholds (K,) on raw probabilities that equal `common` on calibrated ones."""
    if common >= NEVER:
        return np.full(len(slopes), NEVER)
    rising = slopes > 0
    inverse = expit((logit(common) - intercepts) / np.where(rising, slopes, 1.0))
    return np.where(rising, inverse, np.where(expit(intercepts) > common, 0.0, NEVER))
