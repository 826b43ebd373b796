"""Leakage checks on features: were a query's labels, or its report, used where only its image may be?

Such a leak leaves no row to point at, so each check compares what was found with what images alone can give:
references with those that the entity scores choose, entity scores of training images with those of held-out images, and
local prompts with the reports that they must not be read from. Thresholds are wide on purpose: honest differences
between encoders and splits are notes. Pure functions; `revtaf.audit.audit` runs them.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata

from revtaf.audit.checks import LEAK, NOT_CHECKED, NOTE, OK, Line
from revtaf.features.arrays import Features
from revtaf.knowledge.mentions import PRESENT
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status, random_others
from revtaf.prompts.local import PER_ENTITY

QUERIES = 2000  # of a split, drawn with the seed: seconds at the size of MIMIC-CXR
RESAMPLES = 1000
Z99 = 2.576  # normal quantile of a two-sided 99 % interval

# References that are said to be chosen by entity scores may be this much closer to the query's statuses (in categories)
# than those that the scores choose when asked again: rounding and ties. References of another encoder may be closer, as
# it may see more; but not closer to what labels alone can find than to what the scores find. No image holds the wording
# of a report (blank or negative?), so that an encoder of images stays far from there.
SMALLEST_GAP, SHARE_OF_ROOM = 0.25, 0.5

# An entity is compared if so many reports on both sides assert it, and so many do not: an AUC of fewer means nothing.
# A scorer has seen its own images if its mean AUC on them is surely this much higher. Cross-fitted scores rather lie
# below those of held-out images, as fewer networks share in them (500 phantom images: -0.03; in-sample, +0.07).
MENTIONS, AUC_MARGIN = 10, 0.05

# Reports leave out much of what images show, and the other way round: agreement above this was copied. Entities that
# more than half of the reports assert are not counted, as a constant guess agrees with them.
COPIED_F1, COPIED_MENTIONS, COMMON = 0.95, 30, 0.5


def sample_rows(n: int, seed: int) -> np.ndarray:
    """At most QUERIES of n rows, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:QUERIES])


def memory_by_labels(split: str, queries: Features, train: Features, by_scores: bool = True, seed: int = 0) -> Line:
    """Do the classifier's references know the query's labels? (docs/method.md section 2.1)

    Four mean distances, in differing categories of K (half of Eq. 6), to training samples: (a) of the references
    `queries.memory`; and of other patients' samples, (b) as many, chosen by entity scores (Euclidean), (c) drawn at
    random, (d) nearest by the query's own labels, the least there is. LEAK where the lower end of the 99 % interval of
    mean(b - a) exceeds SMALLEST_GAP and, unless the memory is said to be made `by_scores`, SHARE_OF_ROOM * (b - d). A
    gap that is surely above 0 but not that large is a note. The interval is a paired bootstrap over queries, whole
    patients at a time, as their samples are alike. queries and train hold Q and N samples. count: references whose
    statuses are the query's.
    """
    check, k = "memory chosen by labels", queries.memory.shape[1]
    if not len(queries) or not k:
        return Line(check, split, 0, 0, NOT_CHECKED, "there is no classifier memory")
    rows = sample_rows(len(queries), seed)
    memory = queries.memory[rows].astype(np.int64)
    if memory.min() < 0 or memory.max() >= len(train):
        return Line(check, split, 0, 0, NOT_CHECKED, "the memory has rows outside of the training split")
    patients = np.array(queries.patients)[rows]
    _, sizes = np.unique(train.patients, return_counts=True)
    k = min(k, len(train) - int(sizes.max()))
    if k < 1:
        return Line(check, split, 0, 0, NOT_CHECKED, "the training split has a single patient")
    categories = min(queries.statuses.shape[1], train.statuses.shape[1])
    mine, theirs = queries.statuses[rows, :categories], np.array(train.statuses[:, :categories])

    index = RetrievalIndex(_float(train.scores), c=1.0, groups=train.patients, metric="euclidean")
    asked_again = index.search(_float(queries.scores[rows]), k, query_groups=patients)[1].numpy()
    by_labels = nearest_by_status(
        torch.from_numpy(mine.astype(np.int64)), torch.from_numpy(theirs), k, patients, train.patients, seed
    )[0]
    a = _differing(mine, theirs, memory)
    b = _differing(mine, theirs, asked_again).mean(1)
    others = random_others(patients, train.patients, np.random.default_rng(seed), (len(patients), k))
    c = _differing(mine, theirs, others).mean()
    d = float(by_labels.double().mean()) / 2

    low, high = _interval(b - a.mean(1), patients, seed)
    tolerance = max(SMALLEST_GAP, 0.0 if by_scores else SHARE_OF_ROOM * (b.mean() - d))
    verdict = LEAK if low > tolerance else NOTE if low > 0 else OK
    detail = (
        f"categories that differ: memory {a.mean():.2f}, by scores {b.mean():.2f}, by labels {d:.2f}, random {c:.2f}; "
        f"nearer than by scores {low:.2f} to {high:.2f}, allowed {tolerance:.2f}; {(a == 0).mean():.1%} at distance 0"
    )
    return Line(check, split, int((a == 0).sum()), a.size, verdict, detail)


def scores_in_sample(
    split: str,
    train_scores: np.ndarray,
    train_presence: np.ndarray,
    scores: np.ndarray,
    presence: np.ndarray,
    comparable: bool = True,
) -> Line:
    """Do the entity scores match the training reports better than those of held-out images? Then they saw them.

    Scores (N, 75), and presence (N, 75) as in `Mentions`, of training images and of a held-out split. The figure is the
    mean AUC (images whose report asserts the entity, against the others) over entities with MENTIONS of either on both
    sides. LEAK where the lower end of the 99 % interval of the difference exceeds AUC_MARGIN. `comparable` is False
    where the scorer was not fitted here, or the split is of another set: then always a note. count: entities compared.
    """
    said, said_train = presence == PRESENT, train_presence == PRESENT
    enough = [np.minimum(s.sum(0), (~s).sum(0)) >= MENTIONS for s in (said_train, said)]
    used = np.flatnonzero(enough[0] & enough[1])
    check, splits, of = "scores of own images", f"train/{split}", said.shape[1]
    if not len(used):
        reason = f"no entity is asserted in, and absent from, {MENTIONS} reports of both splits"
        return Line(check, splits, 0, of, NOT_CHECKED, reason)
    inside, inside_error = _auc(train_scores[:, used], said_train[:, used])
    outside, outside_error = _auc(scores[:, used], said[:, used])
    gap, error = inside - outside, Z99 * float(np.hypot(inside_error, outside_error))
    verdict = LEAK if comparable and gap - error > AUC_MARGIN else NOTE
    detail = (
        f"mean AUC against the reports: train {inside:.3f}, {split} {outside:.3f}, difference {gap:+.3f} +- {error:.3f}"
    )
    return Line(check, splits, len(used), of, verdict, detail)


def prompts_from_report(split: str, codes: np.ndarray, presence: np.ndarray) -> Line:
    """Do the local prompts say what the report says? Then they were read from it (docs/method.md section 4.3).

    codes (N, 75) as in `Features`, presence (N, 75) as in `Mentions`. F1 of "exist" against the report's assertions,
    pooled over images and entities. LEAK above COPIED_F1 with at least COPIED_MENTIONS assertions. count: assertions
    that the prompts share.
    """
    said, exist = presence == PRESENT, codes != PER_ENTITY - 1
    counted = said.mean(0) <= COMMON
    said, exist = said[:, counted], exist[:, counted]
    both, mentions = int((said & exist).sum()), int(said.sum())
    f1 = 2 * both / max(1, mentions + int(exist.sum()))
    verdict = LEAK if f1 > COPIED_F1 and mentions >= COPIED_MENTIONS else NOTE
    detail = f"F1 of 'exist' against the report's own mentions {f1:.3f}"
    return Line("local prompts", split, both, mentions, verdict, detail)


def _float(scores: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(scores, dtype=np.float32))  # a copy: features are mapped read-only


def _differing(queries: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Categories in which query (Q, K) and training sample train[rows] differ, (Q, k): Eq. 6 divided by 2."""
    return np.stack([(queries != train[column]).sum(1) for column in rows.T], axis=1)


def _interval(values: np.ndarray, patients: np.ndarray, seed: int) -> tuple[float, float]:
    """99 % bootstrap interval of the mean of `values` (Q,), whole patients drawn with replacement."""
    _, member = np.unique(patients, return_inverse=True)
    sums, counts = np.bincount(member, weights=values), np.bincount(member)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=RESAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.005, 0.995])
    return float(low), float(high)


def _auc(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Mean AUC over the columns of scores, positive (N, M), and its standard error.

    DeLong et al. (1988): a sample moves the AUC of its column by its placement, the share of the other class that it is
    on the right side of (ties half), less the AUC. Summed over columns first, as the columns of a sample err together.
    """
    influence, areas = np.zeros(len(scores)), []
    for score, is_positive in zip(scores.T.astype(np.float64), positive.T, strict=True):
        placement = rankdata(score)
        for group in (is_positive, ~is_positive):
            placement[group] = (placement[group] - rankdata(score[group])) / (~group).sum()
        placement[~is_positive] = 1 - placement[~is_positive]
        area = placement[is_positive].mean()
        influence += (placement - area) / np.where(is_positive, is_positive.sum(), (~is_positive).sum())
        areas.append(area)
    return float(np.mean(areas)), float(np.sqrt((influence**2).sum())) / len(areas)
