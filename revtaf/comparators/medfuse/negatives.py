"""Hard negatives (Eq. 7) and their weights (Eq. 8): reports of the same patient that say something else.

Whose patient, whose study, which labels and how alike two texts are does not change in training, so that the negatives
of every anchor are found once. "Up to K = 4 per batch" is read as for each anchor: a batch of 128 random images hardly
ever holds two of one patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from revtaf.comparators.medfuse.settings import MedFuseSettings
from revtaf.data.annotations import Study
from revtaf.errors import UserError


def check_negatives(settings: MedFuseSettings, studies: Sequence[Study]) -> None:
    """UserError where hard negatives are asked for and these training studies cannot have them."""
    options = settings.negatives
    if not any(study.subject_id for study in studies):
        raise UserError(
            f"negatives.hard=true needs patients, and {settings.training_data.annotation} names none (subject_id); "
            "set negatives.hard=false and objective.margin_weight=0"
        )
    if options.k >= len(studies):
        raise UserError(f"negatives.k is {options.k}, but there are only {len(studies)} training samples")


@dataclass
class HardNegatives:
    """rows (N, K) int64, the training sample whose report it is, -1 where there is none; weights (N, K) float32, which
    sum to 1 over a row's negatives."""

    rows: np.ndarray
    weights: np.ndarray

    def __str__(self) -> str:
        counts = (self.rows >= 0).sum(1)
        if not counts.any():
            return "none: no patient has two studies with other labels"
        there = counts > 0
        return f"{there.sum():,} of {len(counts):,} samples have some, {counts[there].mean():.1f} on average"


def no_negatives(samples: int) -> HardNegatives:
    """Where none are asked for."""
    return HardNegatives(np.zeros((samples, 0), np.int64), np.zeros((samples, 0), np.float32))


def hard_negatives(
    studies: Sequence[Study],
    texts: Sequence[str],
    labels: np.ndarray,
    embed: Callable[[Sequence[str]], np.ndarray],
    k: int,
    least: int = 1,
    tau: float | None = 1.0,
) -> HardNegatives:
    """Of N samples with their texts and statuses (N, C): for each up to `k` reports of its patient, of another study,
    with another text, whose statuses differ in at least `least` categories; the most similar first.

    embed: texts -> (n, D), compared by cosine, called once for each patient with candidates. tau: temperature of the
    weights; None for equal ones. A study with several images is one candidate. Samples without a subject have none.
    """
    rows = np.full((len(studies), k), -1, np.int64)
    weights = np.zeros((len(studies), k), np.float32)
    of_patient: dict[str, list[int]] = defaultdict(list)
    for row, study in enumerate(studies):
        if study.subject_id:
            of_patient[study.subject_id].append(row)
    for own in of_patient.values():
        first: dict[str, int] = {}  # of each study
        for row in own:
            first.setdefault(_study(studies[row]), row)
        if len(first) < 2:
            continue
        candidates = np.array(list(first.values()))
        vectors: np.ndarray | None = None
        place = {row: i for i, row in enumerate(own)}
        for row in own:
            apart = (labels[candidates] != labels[row]).sum(1) >= least
            other = [_study(studies[c]) != _study(studies[row]) and texts[c] != texts[row] for c in candidates]
            found = candidates[apart & np.array(other)]
            if not len(found):
                continue
            if vectors is None:
                vectors = _unit(embed([texts[r] for r in own]))
            alike = vectors[[place[c] for c in found]] @ vectors[place[row]]
            best = np.argsort(-alike, kind="stable")[:k]
            rows[row, : len(best)] = found[best]
            weights[row, : len(best)] = _softmax(alike[best], tau)
    return HardNegatives(rows, weights)


def _study(study: Study) -> str:
    return study.study_id or study.id


def _softmax(alike: np.ndarray, tau: float | None) -> np.ndarray:
    if tau is None:
        return np.full(len(alike), 1 / len(alike))
    e = np.exp((alike - alike.max()) / tau)
    return e / e.sum()


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
