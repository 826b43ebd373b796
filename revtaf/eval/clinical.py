"""Clinical efficacy (CE): do the statuses of the generated report agree with those of the reference?

A category counts as found where its status is positive; negative and blank do not count, nor does uncertain, as in
the paper's comparison (`uncertain="positive"` counts it, on both sides). "Example" averages over reports (the CE
columns of Table 1), "micro" pools all cells, "macro" averages over categories; the same predictions differ by a factor
of two between them, so that all are given and named. Every 0/0 is 0, like scikit-learn's `zero_division=0`: a report
without a positive category on either side scores 0 in the example average.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np

from revtaf.eval.metric import Metric, mean_metric
from revtaf.labels import (
    CHEXPERT_CATEGORIES,
    FIVE_CATEGORIES,
    HEAD_CATEGORIES,
    NO_FINDING,
    POSITIVE,
    STATUSES,
    UNCERTAIN,
)

Uncertain = Literal["negative", "positive"]

_C = len(CHEXPERT_CATEGORIES)
_ALL = np.arange(_C)
_FIVE = np.array([CHEXPERT_CATEGORIES.index(c) for c in FIVE_CATEGORIES])
_HEAD = np.array([CHEXPERT_CATEGORIES.index(c) for c in HEAD_CATEGORIES])
_TAIL = np.setdiff1d(_ALL, _HEAD)
_FINDINGS = np.delete(_ALL, NO_FINDING)
_SCORES = ("precision", "recall", "f1")


def metrics(reference_statuses, predicted_statuses, uncertain: Uncertain = "negative") -> dict[str, Metric]:
    """Every CE score of S reports as sufficient statistics; both inputs (S, 14) or (S, 18) statuses 0..3.

    Keys: {example,micro,macro,macro_supported,micro5,macro5}_{precision,recall,f1}; head_f1 and tail_f1 (means over
    the 7 frequent and the 7 rare categories of MIMIC-CXR); micro_{precision,recall,f1}_positive, over the 13 findings
    without "no finding"; no_finding_share, how often "no finding" is said; f1/<category>. A category that no reference
    of the S reports has counts 0 in macro, head and tail; macro_supported leaves it out. Which ones those are is
    decided here, once, so that a resample which happens to miss a category is an average over the same categories.
    """
    reference, predicted = _pair(reference_statuses, predicted_statuses, uncertain)  # (S, 14) bool
    both = reference & predicted
    # Metrics share two arrays, so that a resample sums each of them once.
    scores = _scores(both.sum(1), predicted.sum(1), reference.sum(1))  # (S,) each
    reports = np.stack([*scores, np.ones(len(both))], axis=1)  # (S, 4)
    cells = np.concatenate([both, predicted, reference], axis=1).astype(float)  # (S, 42)

    result: dict[str, Metric] = {}
    for i, score in enumerate(_SCORES):
        result[f"example_{score}"] = Metric(f"example_{score}", reports, partial(example, score=i))
    averages = {
        "micro": (micro, _ALL),
        "macro": (macro, _ALL),
        "macro_supported": (macro, np.flatnonzero(reference.any(0))),
        "micro5": (micro, _FIVE),
        "macro5": (macro, _FIVE),
    }
    for average, (function, categories) in averages.items():
        for i, score in enumerate(_SCORES):
            value = partial(function, categories=categories.tolist(), score=i)
            result[f"{average}_{score}"] = Metric(f"{average}_{score}", cells, value)
    for i, score in enumerate(_SCORES):
        name = f"micro_{score}_positive"
        result[name] = Metric(name, cells, partial(micro, categories=_FINDINGS.tolist(), score=i))
    result["no_finding_share"] = mean_metric("no_finding_share", predicted[:, NO_FINDING])
    means_of_f1 = {"head_f1": _HEAD, "tail_f1": _TAIL}
    means_of_f1 |= {f"f1/{category}": np.array([i]) for i, category in enumerate(CHEXPERT_CATEGORIES)}
    for name, categories in means_of_f1.items():
        result[name] = Metric(name, cells, partial(macro, categories=categories.tolist(), score=2))
    return result


def example(sums: np.ndarray, score: int) -> np.ndarray:
    """Sums (..., 4) of the reports' precision, recall, F1 and their number -> the mean (...) of score 0, 1 or 2."""
    return sums[..., score] / sums[..., -1]


def micro(sums: np.ndarray, categories: Sequence[int], score: int) -> np.ndarray:
    """Sums (..., 42) -> precision, recall or F1 (score 0, 1, 2) of the cells of these categories, pooled (...)."""
    return _scores(*(part[..., list(categories)].sum(-1) for part in _parts(sums)))[score]


def macro(sums: np.ndarray, categories: Sequence[int], score: int) -> np.ndarray:
    """Sums (..., 42) -> mean (...) over these categories; 0 where there are none."""
    if not len(categories):
        return np.zeros(np.shape(sums)[:-1])
    return _scores(*(part[..., list(categories)] for part in _parts(sums)))[score].mean(-1)


def compute(reference_statuses, predicted_statuses, uncertain: Uncertain = "negative") -> dict:
    """Scores of S reports as plain numbers; inputs and averages as in `metrics`.

    Returns {example,micro,macro,macro_supported,micro5,macro5}_{precision,recall,f1}, head_f1, tail_f1,
    micro_{precision,recall,f1}_positive; no_finding_share, how often "no finding" is said; `references`: its
    no_finding_share, and example_f1_ceiling, the share with a positive category, above which example_f1 cannot be;
    `per_class`: category -> precision, recall, f1, support (positive references), predicted (positive hypotheses);
    `zero_support`: the categories that no reference has; `confusion`: category -> 4x4 counts, rows the reference's
    and columns the hypothesis' status in the order of STATUSES; `per_class_confusion`: category -> tp, fp, fn, tn.
    """
    reference, predicted = _pair(reference_statuses, predicted_statuses, uncertain)  # (S, 14) bool
    named = metrics(reference_statuses, predicted_statuses, uncertain)
    result: dict = {name: metric.corpus for name, metric in named.items() if "/" not in name}

    result["references"] = {
        "no_finding_share": float(reference[:, NO_FINDING].mean()),
        "example_f1_ceiling": float(reference.any(1).mean()),
    }
    both, found, support = (reference & predicted).sum(0), predicted.sum(0), reference.sum(0)  # (14,) each
    precision, recall, f1 = _scores(both, found, support)
    result["per_class"] = {
        category: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
            "predicted": int(found[i]),
        }
        for i, category in enumerate(CHEXPERT_CATEGORIES)
    }
    result["zero_support"] = [c for c, n in zip(CHEXPERT_CATEGORIES, support, strict=True) if not n]
    counts = confusion(reference_statuses, predicted_statuses)
    result["confusion"] = {c: counts[i].tolist() for i, c in enumerate(CHEXPERT_CATEGORIES)}
    result["per_class_confusion"] = {
        category: {
            "tp": int(both[i]),
            "fp": int(found[i] - both[i]),
            "fn": int(support[i] - both[i]),
            "tn": int(len(reference) - found[i] - support[i] + both[i]),
        }
        for i, category in enumerate(CHEXPERT_CATEGORIES)
    }
    return result


def confusion(reference_statuses, predicted_statuses) -> np.ndarray:
    """(14, 4, 4) int: of each category, how many reports have which reference (row) and predicted (column) status."""
    reference = _statuses(reference_statuses, "reference")
    predicted = _statuses(predicted_statuses, "predicted")
    _check_lengths(reference, predicted)
    size = len(STATUSES)
    cell = (_ALL * size + reference) * size + predicted  # (S, 14)
    return np.bincount(cell.ravel(), minlength=_C * size * size).reshape(_C, size, size)


def _pair(reference_statuses, predicted_statuses, uncertain: Uncertain) -> tuple[np.ndarray, np.ndarray]:
    """(S, 14) bool twice: which categories count as found."""
    if uncertain not in ("negative", "positive"):
        raise ValueError(f"uncertain: expected 'negative' or 'positive', got {uncertain!r}")
    found = (POSITIVE,) if uncertain == "negative" else (POSITIVE, UNCERTAIN)
    reference = _statuses(reference_statuses, "reference")
    predicted = _statuses(predicted_statuses, "predicted")
    _check_lengths(reference, predicted)
    return np.isin(reference, found), np.isin(predicted, found)


def _check_lengths(reference: np.ndarray, predicted: np.ndarray) -> None:
    if len(reference) != len(predicted):
        raise ValueError(f"got {len(reference)} reference and {len(predicted)} predicted statuses")


def _parts(sums: np.ndarray) -> list[np.ndarray]:
    """(..., 42) -> counts (..., 14) found in both, by the hypothesis, by the reference."""
    return np.split(sums, 3, axis=-1)


def _statuses(statuses, name: str) -> np.ndarray:
    """(S, 14) int: the statuses of the scored categories, checked."""
    if hasattr(statuses, "cpu"):  # a tensor, perhaps on another device
        statuses = statuses.cpu()
    values = np.asarray(statuses)
    if values.ndim != 2 or values.shape[1] not in (_C, 18) or not len(values):
        raise ValueError(f"{name} statuses: expected shape (S, 14) or (S, 18), S > 0, got {values.shape}")
    values = values[:, :_C]
    unknown = ~np.isin(values, np.arange(len(STATUSES)))
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        raise ValueError(
            f"{name} statuses: unknown status {values[row, column]} for '{CHEXPERT_CATEGORIES[column]}' in "
            f"row {row}; expected 0 blank, 1 positive, 2 negative, 3 uncertain"
        )
    return values.astype(int)


def _scores(both, predicted, reference) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 from counts of any shape; 0/0 is 0."""
    return (
        _ratio(both, predicted),
        _ratio(both, reference),
        _ratio(2 * both, np.add(predicted, reference)),
    )


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
