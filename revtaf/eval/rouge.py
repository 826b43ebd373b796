"""ROUGE-L as the COCO evaluation computes it: F of the longest common subsequence, beta 1.2, mean over samples.

Words are what stands between single blanks, so that a doubled or a final blank is an empty word. The field's figures
hold this quirk. Lin 2004; other implementations split and stem otherwise and are not comparable (.269 for .319).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from revtaf.eval.metric import Metric, mean_metric

BETA_SQUARED = 1.2**2


def metric(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Metric:
    """ROUGE_L of N hypotheses, each with its list of references: the best precision and the best recall among them."""
    return mean_metric("ROUGE_L", np.array([_score(r, h) for r, h in zip(references, hypotheses, strict=True)]))


def _score(references: Sequence[str], hypothesis: str) -> float:
    said = hypothesis.split(" ")
    precision = recall = 0.0
    for reference in references:
        words = reference.split(" ")
        common = lcs_length(words, said)
        precision, recall = max(precision, common / len(said)), max(recall, common / len(words))
    if not precision:  # no common word: recall is 0 as well
        return 0.0
    return (1 + BETA_SQUARED) * precision * recall / (recall + BETA_SQUARED * precision)


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence of two lists of words.

    Bit-parallel (Hyyro 2004): the zeros of `row` are the places of `first` where the table of the textbook grows by
    one. A column of the table costs four operations on one integer instead of len(first) comparisons.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = row = (1 << len(first)) - 1
    for word in second:
        matches = row & places.get(word, 0)
        if matches:
            row = ((row + matches) | (row - matches)) & full
    return len(first) - row.bit_count()
