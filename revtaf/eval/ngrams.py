"""Counts of word n-grams (n = 1 .. 4) as sparse matrices, which BLEU and CIDEr are sums over.

Every n-gram is a number, found from the number of its first n - 1 words and that of its last word; counting is then
sorting integers, some ten times faster than dictionaries of tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from scipy.sparse import csr_matrix

ORDERS = (1, 2, 3, 4)


class NGrams:
    """The n-grams that occur in `texts`, words being what `str.split` gives. Numbers follow the alphabet of words,
    so that they do not depend on the order of the texts."""

    def __init__(self, texts: Sequence[str]):
        split = [text.split() for text in texts]
        self._words = {word: i for i, word in enumerate(sorted(set(chain.from_iterable(split))))}
        self._keys: list[np.ndarray] = []  # for n = 2, 3, 4: the sorted keys; a key's place is the n-gram's number
        grams, words, rows = self._encode(split)
        for n in ORDERS[1:]:
            keys = self._longer(grams, words, rows, n)
            known, grams = np.unique(keys, return_inverse=True)
            if known.size and known[0] < 0:  # -1 marks what runs over the end of a text
                known, grams = known[1:], grams - 1
            self._keys.append(known)

    def counts(self, texts: Sequence[str]) -> list[csr_matrix]:
        """For each order a float64 matrix (texts, n-grams of that order); unknown n-grams are not counted."""
        grams, words, rows = self._encode([text.split() for text in texts])
        matrices = [_matrix(rows, grams, (len(texts), len(self._words)))]
        for n, known in zip(ORDERS[1:], self._keys, strict=True):
            keys = self._longer(grams, words, rows, n)
            known = known if known.size else np.array([-2])  # no key is -2: nothing is found
            grams = np.minimum(np.searchsorted(known, keys), known.size - 1)
            grams[known[grams] != keys] = -1
            matrices.append(_matrix(rows[: grams.size], grams, (len(texts), known.size)))
        return matrices

    def _encode(self, split: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The number of each word as 1-gram and as word (-1: unknown), and the text in which it stands."""
        words = np.array([self._words.get(word, -1) for word in chain.from_iterable(split)], dtype=np.int64)
        return words, words, np.repeat(np.arange(len(split)), [len(text) for text in split])

    def _longer(self, grams: np.ndarray, words: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
        """Keys of the n-grams from the numbers of the (n-1)-grams; -1 at an end of text or an unknown part."""
        last = words[n - 1 :]
        first = grams[: last.size]
        keys = first * len(self._words) + last
        keys[(first < 0) | (last < 0) | (rows[: last.size] != rows[n - 1 :])] = -1
        return keys


def _matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    known = columns >= 0
    return csr_matrix((np.ones(known.sum()), (rows[known], columns[known])), shape=shape)  # sums what occurs twice


def columns_of_references(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """Lists of references, one list a sample, as one list of N texts for each place in the lists; "" where a sample
    has fewer."""
    most = max(len(texts) for texts in references)
    return [[texts[place] if place < len(texts) else "" for texts in references] for place in range(most)]
