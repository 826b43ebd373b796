"""CIDEr (CIDEr-D) as the COCO evaluation computes it: clipped cosine of TF-IDF n-gram vectors, mean over samples.

For one reference, with the vectors h_n and r_n of n-gram counts times idf and the difference d of the lengths,

    CIDEr = 10 * mean_{n = 1..4} exp(-d^2 / 72) * sum min(h_n, r_n) r_n / (|h_n| |r_n|),    idf = log(D / df).

COCO takes the document frequencies df from the evaluated references: the figure then changes with the evaluated set and
is 0 for one sample (`is_defined`; tables say n/a). Taken from the training reports instead, it is fixed. Vedantam,
Zitnick, Parikh 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, diags

from revtaf.eval.metric import Metric, mean_metric
from revtaf.eval.ngrams import ORDERS, NGrams, columns_of_references

UNDEFINED = "CIDEr is n/a: it needs two different references"
_SIGMA = 6.0  # of the penalty for a difference in length
_CHUNK = 20_000  # documents counted at a time: MIMIC-CXR has 270,000


def is_defined(documents: Sequence[str]) -> bool:
    """Whether any n-gram gets a weight: of one text, or of the same one many times, every idf is 0."""
    return len({" ".join(text.split()) for text in documents}) > 1


def metric(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str], documents: Sequence[str] | None = None
) -> Metric:
    """CIDEr in 0 .. 10 of N hypotheses, each with its list of references.

    documents: texts, processed as the references are, from which the document frequencies are taken; the references of
    the call (each sample's list one document) where not given.
    """
    columns = columns_of_references(references)
    ngrams = NGrams([*hypotheses, *(text for texts in references for text in texts)])
    counted = [ngrams.counts(column) for column in columns]
    frequencies, total = (
        (_frequencies_of_samples(counted), len(references))
        if documents is None
        else (_frequencies(ngrams, documents), len(documents))
    )
    # COCO: an n-gram in no document counts as if it were in one.
    idf = [np.log(float(total)) - np.log(np.maximum(df, 1.0)) for df in frequencies]
    said = ngrams.counts(hypotheses)
    similarity = sum(_similarity(said, counts, idf) for counts in counted)
    return mean_metric("CIDEr", 10.0 * similarity / np.array([len(texts) for texts in references]))


class Pairwise:
    """CIDEr of any text with each of R given reports, without COCO's clipping; idf from these reports.

    Unclipped it is a sum of products, and a text is compared with all reports at once. A text in which no n-gram is
    repeated has the same value as by `metric`.
    """

    def __init__(self, reports: Sequence[str]):
        """reports: processed as references are."""
        self._ngrams = NGrams(reports)
        counted = self._ngrams.counts(reports)
        total = float(len(reports))
        self._idf = [np.log(total / np.maximum(np.bincount(c.indices, minlength=c.shape[1]), 1.0)) for c in counted]
        self._unknown = np.log(total)  # the idf of an n-gram that is in none of them
        self._lengths = _total(counted[1])
        self._units = [self._unit(c, idf, 0.0).T.tocsr() for c, idf in zip(counted, self._idf, strict=True)]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(T, R), 0 to 10, of T texts processed as hypotheses are."""
        counted = self._ngrams.counts(texts)
        words = np.array([len(text.split()) for text in texts])
        difference = np.maximum(words - 1, 0)[:, None] - self._lengths
        cosines = np.zeros(difference.shape)
        for n, counts, idf, units in zip(ORDERS, counted, self._idf, self._units, strict=True):
            unknown = np.maximum(words - n + 1, 0) - _total(counts)
            cosines += (self._unit(counts, idf, unknown) @ units).toarray()
        return 10.0 * np.exp(-(difference**2) / (2 * _SIGMA**2)) * cosines / len(ORDERS)

    def _unit(self, counts: csr_matrix, idf: np.ndarray, unknown: np.ndarray | float) -> csr_matrix:
        """The rows, weighted and of length 1; `unknown` n-grams, each counted as one of its own, belong to a length."""
        weighted = _weighted(counts, idf)
        norm = np.sqrt(_total(weighted.multiply(weighted)) + unknown * self._unknown**2)
        return (diags(np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)) @ weighted).tocsr()


def _frequencies_of_samples(counted: list[list[csr_matrix]]) -> list[np.ndarray]:
    """For each order, in how many samples an n-gram occurs in any reference."""
    frequencies = []
    for matrices in zip(*counted, strict=True):
        most = matrices[0]
        for counts in matrices[1:]:
            most = most.maximum(counts)
        frequencies.append(np.bincount(most.indices, minlength=most.shape[1]))
    return frequencies


def _frequencies(ngrams: NGrams, documents: Sequence[str]) -> list[np.ndarray]:
    frequencies = None
    for start in range(0, len(documents), _CHUNK):
        counts = ngrams.counts(documents[start : start + _CHUNK])
        found = [np.bincount(c.indices, minlength=c.shape[1]) for c in counts]
        frequencies = found if frequencies is None else [a + b for a, b in zip(frequencies, found, strict=True)]
    return frequencies


def _similarity(said: list[csr_matrix], reference: list[csr_matrix], idf: list[np.ndarray]) -> np.ndarray:
    """(N,): the mean over the orders; 0 where a text has no n-gram of any weight."""
    # COCO's length is the number of pairs of words; a text that is absent or of one word has none.
    difference = _total(said[1]) - _total(reference[1])
    penalty = np.exp(-(difference**2) / (2 * _SIGMA**2))
    cosines = np.zeros(said[0].shape[0])
    for counts, expected, weight in zip(said, reference, idf, strict=True):
        h, r = _weighted(counts, weight), _weighted(expected, weight)
        norm = np.sqrt(_total(h.multiply(h)) * _total(r.multiply(r)))
        shared = _total(h.minimum(r).multiply(r))
        cosines += np.divide(shared, norm, out=np.zeros_like(norm), where=norm > 0)
    return penalty * cosines / len(ORDERS)


def _weighted(counts: csr_matrix, weight: np.ndarray) -> csr_matrix:
    return csr_matrix((counts.data * weight[counts.indices], counts.indices, counts.indptr), shape=counts.shape)


def _total(matrix: csr_matrix) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1)).ravel()
