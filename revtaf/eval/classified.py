"""What the classifier said of a sample: does the text repeat it, and is it right?

Records may hold `statuses`, those of the decoder's prompt, and `positive`, P(positive) of each category. A text that
does not repeat its prompt shows a decoder that ignores it, whatever the scores are; probabilities that rank the true
findings first show a classifier that sees, whatever becomes of them in the text. The repeat rate reads the labeler's
statuses of the text, so that it holds what the labeler misses, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from revtaf.eval.metric import Metric, share
from revtaf.files import digest
from revtaf.labels import CATEGORIES, CHEXPERT_CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE, STATUSES

ENOUGH = 10  # positive references of a category, below which its AUC says little
RULE = f"categories with at least {ENOUGH} positive references"
NAMES = frozenset({"repeat_positive", "repeat_negative", "auc"})
_STATED = {"repeat_positive": POSITIVE, "repeat_negative": NEGATIVE}


def read_classified(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """statuses (N, K) uint8 and P(positive) (N, K) of N records, K 14 or 18; None for what not every record holds in
    our names, category -> status or number. Fields of other systems may mean something else."""
    statuses = [_row(row.get("statuses"), lambda value: STATUSES.index(value)) for row in rows]
    positive = [_row(row.get("positive"), float) for row in rows]
    return _array(statuses, np.uint8), _array(positive, np.float64)


def mark(statuses: np.ndarray | None, positive: np.ndarray | None) -> str | None:
    """A digest of both; None where there are none."""
    found = [None if array is None else array.tolist() for array in (statuses, positive)]
    return None if found == [None, None] else digest(found)


def metrics(
    prompt: np.ndarray | None, positive: np.ndarray | None, truth: np.ndarray | None, said: np.ndarray | None
) -> dict[str, Metric]:
    """repeat_positive, repeat_negative and auc of N samples, what can be computed of them.

    prompt, truth, said: statuses (N, 14 or 18) of the prompt, the reference and the text; positive (N, 14 or 18).
    The rates are over all categories but "no finding", which follows from the others; auc is the mean over those of
    RULE. Statistics of an AUC: see `mean_auc`.
    """
    result: dict[str, Metric] = {}
    if prompt is not None and said is not None:
        for name, status in _STATED.items():
            stated, repeated = _repeated(prompt, said, status)
            counts = np.delete(np.stack([repeated, stated]), NO_FINDING, axis=2).sum(2)  # (2, N)
            if counts[1].any():
                result[name] = Metric(name, counts.T.astype(float), share)
    if positive is not None and truth is not None:
        there = truth[:, : positive.shape[1]] == POSITIVE
        cells = [auc_components(positive[:, k], there[:, k]) for k in _ranked(there)]
        if cells:
            result["auc"] = Metric("auc", np.concatenate(cells, axis=1), mean_auc)
    return result


def details(
    prompt: np.ndarray | None, positive: np.ndarray | None, truth: np.ndarray | None, said: np.ndarray | None
) -> dict[str, dict[str, float | int | None]]:
    """By category: prompt_positive and prompt_negative, how often the prompt states it; repeat_positive and
    repeat_negative, the share of these that the text repeats; references, how many are positive; auc. None where there
    is nothing to divide by, or too few references."""
    from sklearn.metrics import roc_auc_score

    arrays = [array for array in (prompt, positive, truth, said) if array is not None]
    table: dict[str, dict[str, float | int | None]] = {}
    for k, category in enumerate(CATEGORIES[: min(array.shape[1] for array in arrays)]):
        row: dict[str, float | int | None] = {}
        for name, status in _STATED.items() if prompt is not None and said is not None else ():
            stated, repeated = (array[:, k].sum() for array in _repeated(prompt, said, status))
            row[name.replace("repeat", "prompt")] = int(stated)
            row[name] = float(repeated / stated) if stated else None
        if positive is not None and truth is not None:
            there = truth[:, k] == POSITIVE
            row["references"] = int(there.sum())
            row["auc"] = float(roc_auc_score(there, positive[:, k])) if len(_ranked(there[:, None])) else None
        table[category] = row
    return table


def mean_auc(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 4 C) of `auc_components` of C categories -> the mean of their AUCs (...).

    An AUC is no function of sums. It is the mean of the positives' halves (how many of the others each is above) plus
    that of the others' halves, and in a resample each half is reckoned against the whole set: the first-order term, as
    in DeLong et al. 1988. Over all samples the value is exact. A category that a resample misses is left out.
    """
    sums = np.asarray(sums, dtype=float)
    parts = sums.reshape(*sums.shape[:-1], -1, 4)
    positives, others = parts[..., 1], parts[..., 3]
    there = (positives > 0) & (others > 0)
    value = parts[..., 0] / np.maximum(positives, 1) + parts[..., 2] / np.maximum(others, 1)
    return np.where(there, value, 0).sum(-1) / np.maximum(there.sum(-1), 1)


def auc_components(positive: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N, 4): the half of a positive sample, 1 for it, the half of another one, 1 for it. Halves are a sample's share
    of right pairs, ties a half, minus half of the AUC."""
    from scipy.stats import rankdata

    ranks, own = rankdata(positive), np.empty(len(positive))
    for side in (there, ~there):
        own[side] = rankdata(positive[side])
    below = (ranks - own) / np.where(there, (~there).sum(), there.sum())  # of the other side, as a share
    right = np.where(there, below, 1 - below)
    auc = right[there].mean()
    return np.stack([there * (right - auc / 2), there, ~there * (right - auc / 2), ~there], axis=1).astype(float)


def _ranked(there: np.ndarray) -> np.ndarray:
    """The categories of (N, K) positives that follow RULE, and have another sample beside."""
    return np.flatnonzero((there.sum(0) >= ENOUGH) & ~there.all(0))


def _repeated(prompt: np.ndarray, said: np.ndarray, status: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) twice: where the prompt has the status, and where the text has it too."""
    categories = min(prompt.shape[1], said.shape[1])
    stated = prompt[:, :categories] == status
    return stated, stated & (said[:, :categories] == status)


def _row(found: Any, read: Any) -> list | None:
    """The values of a record in the order of the categories, None for what is no such field."""
    if not isinstance(found, Mapping) or len(found) not in (len(CHEXPERT_CATEGORIES), len(CATEGORIES)):
        return None
    try:
        return [read(found[category]) for category in CATEGORIES[: len(found)]]
    except (LookupError, ValueError, TypeError):
        return None


def _array(rows: Sequence[list | None], kind: type) -> np.ndarray | None:
    if not rows or any(row is None or len(row) != len(rows[0] or ()) for row in rows):
        return None
    values = np.array(rows, dtype=kind)
    return values if np.isfinite(values).all() else None
