"""Clinical efficacy (CE): do the statuses of the generated report agree with those of the reference?

A category counts as found where its status is positive; uncertain, negative and blank do not count, as in
the paper's comparison. "Example" averages over reports (the CE columns of Table 1), "micro" pools all cells,
"macro" averages over categories; the same predictions differ by a factor of two between them, so that all
are given and named. Every 0/0 is 0, like scikit-learn's `zero_division=0`: a report without a positive
category on either side scores 0 in the example average.
"""

from __future__ import annotations

import numpy as np

from revtaf.labels import (
    CHEXPERT_CATEGORIES,
    FIVE_CATEGORIES,
    HEAD_CATEGORIES,
    POSITIVE,
    STATUSES,
)

_FIVE = np.array([CHEXPERT_CATEGORIES.index(c) for c in FIVE_CATEGORIES])
_HEAD = np.array([c in HEAD_CATEGORIES for c in CHEXPERT_CATEGORIES])


def compute(reference_statuses, predicted_statuses) -> dict:
    """Scores of S reports; both inputs (S, 14) or (S, 18) statuses 0..3, of which the first 14 are scored.

    Returns {example,micro,macro,macro_supported,micro5,macro5}_{precision,recall,f1}, head_f1 and tail_f1
    (means over the 7 frequent and the 7 rare categories of MIMIC-CXR), `per_class`: category -> precision,
    recall, f1, support (positive references), predicted (positive hypotheses), and `zero_support`: the
    categories that no reference has. Those count 0 in macro, head and tail; macro_supported leaves them out.
    """
    reference = _positive(reference_statuses, "reference")  # (S, 14) bool
    predicted = _positive(predicted_statuses, "predicted")
    if len(reference) != len(predicted):
        raise ValueError(f"got {len(reference)} reference and {len(predicted)} predicted statuses")
    both = reference & predicted
    precision, recall, f1 = _scores(both.sum(0), predicted.sum(0), reference.sum(0))  # (14,) each
    support, found = reference.sum(0), predicted.sum(0)
    supported = support > 0

    result: dict = {}
    _add(result, "example", _scores(both.sum(1), predicted.sum(1), reference.sum(1)))
    _add(result, "micro", _scores(both.sum(), predicted.sum(), reference.sum()))
    _add(result, "macro", (precision, recall, f1))
    _add(result, "macro_supported", (precision[supported], recall[supported], f1[supported]))
    five = (both[:, _FIVE].sum(), predicted[:, _FIVE].sum(), reference[:, _FIVE].sum())
    _add(result, "micro5", _scores(*five))
    _add(result, "macro5", (precision[_FIVE], recall[_FIVE], f1[_FIVE]))
    result["head_f1"] = float(f1[_HEAD].mean())
    result["tail_f1"] = float(f1[~_HEAD].mean())
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
    return result


def _positive(statuses, name: str) -> np.ndarray:
    """(S, 14) bool: which categories are positive."""
    if hasattr(statuses, "cpu"):  # a tensor, perhaps on another device
        statuses = statuses.cpu()
    values = np.asarray(statuses)
    columns = len(CHEXPERT_CATEGORIES)
    if values.ndim != 2 or values.shape[1] not in (columns, 18) or not len(values):
        raise ValueError(f"{name} statuses: expected shape (S, 14) or (S, 18), S > 0, got {values.shape}")
    values = values[:, :columns]
    unknown = ~np.isin(values, np.arange(len(STATUSES)))
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        raise ValueError(
            f"{name} statuses: unknown status {values[row, column]} for '{CHEXPERT_CATEGORIES[column]}' in "
            f"row {row}; expected 0 blank, 1 positive, 2 negative, 3 uncertain"
        )
    return values == POSITIVE


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


def _add(result: dict, name: str, scores: tuple[np.ndarray, ...]) -> None:
    for key, values in zip(("precision", "recall", "f1"), scores, strict=True):
        result[f"{name}_{key}"] = float(np.mean(values)) if np.size(values) else 0.0
