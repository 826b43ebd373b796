"""BLEU-1 .. BLEU-4 as the COCO evaluation computes them: over the corpus, reference length "closest".

Ten numbers a sample suffice. With the clipped matches c_n, the n-grams of the hypothesis g_n, its length h and that of
the closest reference r, all summed over the corpus,

    BLEU_n = (prod_{k <= n} c_k / g_k)^(1/n) * min(1, exp(1 - r / h)).

Papineni et al. 2002. A mean of the BLEU of samples is another, much lower figure (.081 against .122 on the same texts).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from revtaf.eval.metric import Metric
from revtaf.eval.ngrams import ORDERS, NGrams, columns_of_references

# COCO's guards: an n-gram order without matches gives 1e-15 over its count, not 0; an empty text gives no 0 / 0.
_TINY = 1e-15
_SMALL = 1e-9


def metrics(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> dict[str, Metric]:
    """BLEU_1 .. BLEU_4 over the same statistics."""
    shared = statistics(references, hypotheses)
    return {f"BLEU_{n}": Metric(f"BLEU_{n}", shared, partial(value, order=n)) for n in ORDERS}


def statistics(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> np.ndarray:
    """(N, 10): length of the hypothesis, of its closest reference, then the n-grams of the hypothesis for n = 1 .. 4,
    then how many of them the references hold, each n-gram counted as often as in the reference that has most of it.

    references: N lists of texts. Of two references equally close in length the shorter one counts.
    """
    columns = columns_of_references(references)
    ngrams = NGrams([*hypotheses, *(text for texts in references for text in texts)])
    clip = ngrams.counts(columns[0])
    for column in columns[1:]:
        clip = [most.maximum(counts) for most, counts in zip(clip, ngrams.counts(column), strict=True)]
    length = np.array([len(text.split()) for text in hypotheses])
    closest = [
        min((abs(r - h), r) for r in (len(text.split()) for text in texts))[1]
        for texts, h in zip(references, length, strict=True)
    ]
    guessed = np.maximum(length[:, None] - np.arange(len(ORDERS)), 0)
    correct = [
        np.asarray(counts.minimum(most).sum(axis=1)).ravel()
        for counts, most in zip(ngrams.counts(hypotheses), clip, strict=True)
    ]
    return np.column_stack([length, closest, guessed, *correct]).astype(float)


def value(sums: np.ndarray, order: int) -> np.ndarray:
    """BLEU of sums (..., 10) of statistics, in 0 .. 1 (...)."""
    length, reference = sums[..., 0], sums[..., 1]
    guessed, correct = sums[..., 2 : 2 + order], sums[..., 6 : 6 + order]
    precision = np.prod((correct + _TINY) / (guessed + _SMALL), axis=-1) ** (1 / order)
    ratio = (length + _TINY) / (reference + _SMALL)
    return precision * np.exp(np.minimum(0.0, 1 - 1 / ratio))
