"""What METEOR's 23 statistics of a pair, or of a whole corpus, are worth: the published formula.

With m the matches, weighted by their kind and by content (.75) against function words (.25), over the lengths weighted
alike: precision P and recall R,

    F = P R / (.15 R + .85 P),    METEOR = F (1 - .6 (chunks / matched words)^.2).

Denkowski and Lavie 2014, parameters for English. `tests/eval/test_meteor.py` holds it against the jar.
"""

from __future__ import annotations

import numpy as np

# Of one pair: length of hypothesis and reference, function words of each; then for the four kinds of match the matched
# content words of hypothesis and reference and the matched function words of each; chunks; matched words of each.
STATISTICS = 23
_LENGTH, _FUNCTION, _MATCHES, _CHUNKS, _MATCHED = slice(0, 2), slice(2, 4), slice(4, 20), 20, slice(21, 23)

_ALPHA = 0.85  # recall over precision
_BETA, _GAMMA = 0.2, 0.6  # exponent and weight of the fragmentation
_FAMILY = np.array([0.75, 0.25])  # content words, function words
_KINDS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


def additive(statistics: np.ndarray) -> np.ndarray:
    """Statistics (N, 23) whose rows may be summed.

    A pair that matches completely and in one piece is not fragmented: the jar adds no chunk for it, while its
    statistics of the single pair say 1.
    """
    whole = (statistics[:, _MATCHED] == statistics[:, _LENGTH]).all(axis=1) & (statistics[:, _CHUNKS] == 1)
    summable = statistics.copy()
    summable[whole, _CHUNKS] = 0
    return summable


def value(sums: np.ndarray) -> np.ndarray:
    """METEOR in 0 .. 1 (...) of sums (..., 23) of additive statistics; 0 where nothing matches."""
    sums = np.asarray(sums, dtype=float)
    # (..., kind, content or function, hypothesis or reference)
    matches = sums[..., _MATCHES].reshape(*sums.shape[:-1], len(_KINDS), 2, 2)
    weighted = np.einsum("...kft,k,f->...t", matches, _KINDS, _FAMILY)
    function = sums[..., _FUNCTION]
    length = _FAMILY[0] * (sums[..., _LENGTH] - function) + _FAMILY[1] * function
    precision, recall = np.moveaxis(_ratio(weighted, length), -1, 0)
    f = _ratio(precision * recall, (1 - _ALPHA) * recall + _ALPHA * precision)
    fragmentation = _ratio(sums[..., _CHUNKS], sums[..., _MATCHED].sum(axis=-1) / 2)
    return f * (1 - _GAMMA * fragmentation**_BETA)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where there is nothing to divide by: an empty text."""
    above = np.asarray(above, dtype=float)
    return np.divide(above, below, out=np.zeros_like(above), where=np.asarray(below) > 0)
