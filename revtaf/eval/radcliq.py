"""RadCliQ (Yu et al. 2023; supplement, Table 5): a linear blend of four scores, fitted to radiologists' error counts.

The published models are a standardisation and a linear regression, so that they are a formula and no model file is
needed. Lower is better: a perfect report has RadCliQ-v1 -1.4407, one that scores nothing 2.4501.

The paper's "1/RadCliQ-v1" is the inverse of the MEAN over samples, as on the ReXrank leaderboard. It has a pole where
the mean is 0 (about two thirds of the way to perfect), is negative beyond it (-0.694 for perfect reports) and says
nothing about one sample: read it beside RadCliQ-v1 itself, and distrust its intervals near the pole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from revtaf.eval.metric import Metric, mean_metric

SUBSCORES = ("radgraph_combined", "bertscore", "semb", "bleu2")

# From the files CXR-Report-Metric publishes, in the order of SUBSCORES: (mean, scale, coefficient), intercept.
_V0 = (
    (0.5398376, 0.3018344, -0.4796253),
    (0.6312550, 0.2246695, -0.6762171),
    (0.7716798, 0.2475033, -0.4636658),
    (0.4607372, 0.3033667, 0.2165862),
)
_V1 = (
    (0.5379231241355762, 0.3028258411486429, -0.37708368261038905),
    (0.6175725628125001, 0.22430938459304575, -0.37030009974480316),
    (0.7647942121140658, 0.2539439110169773, -0.25261621789593225),
    (0.44738335396242174, 0.2989271671041838, 4.315e-12),
)
_VERSIONS = {"v0": (_V0, 1.6416667), "v1": (_V1, 2.467e-10)}

_SMOOTHED = 0.1  # matches counted for an order without any, as fast_bleu (NLTK's method 1) does


def radcliq(radgraph, bertscore, semb, bleu2, version: str = "v1"):
    """intercept + sum_i coefficient_i (x_i - mean_i) / scale_i, a float; of arrays, an array of their common shape.

    radgraph: RadGraph "combined" (mean of entity and relation F1), 0..1. bertscore: distilroberta-base, layer 5,
    rescaled, idf off. semb: cosine of CheXbert's [CLS] vectors, -1..1. bleu2: `sentence_bleu2`, 0..1; its weight in v1
    is 1e-11. Definitions other than these give numbers that compare with no published one. Raises ValueError.
    """
    if version not in _VERSIONS:
        raise ValueError(f"unknown RadCliQ version {version!r}; expected one of {', '.join(_VERSIONS)}")
    terms, intercept = _VERSIONS[version]
    value = intercept + sum(
        coefficient * (np.asarray(score, dtype=float) - mean) / scale
        for score, (mean, scale, coefficient) in zip((radgraph, bertscore, semb, bleu2), terms, strict=True)
    )
    return float(value) if np.ndim(value) == 0 else value


def metrics(radgraph, bertscore, semb, bleu2) -> dict[str, Metric]:
    """RadCliQ_v0, RadCliQ_v1 and 1/RadCliQ_v1 of N samples; four arrays (N,)."""
    by_version = {f"RadCliQ_{v}": radcliq(radgraph, bertscore, semb, bleu2, v) for v in _VERSIONS}
    found = {name: mean_metric(name, values, higher_is_better=False) for name, values in by_version.items()}
    found["1/RadCliQ_v1"] = Metric("1/RadCliQ_v1", found["RadCliQ_v1"].statistics, inverse_of_mean)
    return found


def inverse_of_mean(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of values and of their number -> 1 / mean (...)."""
    with np.errstate(divide="ignore"):  # at the pole: infinite, as it should be
        return sums[..., 1] / sums[..., 0]


def sentence_bleu2(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """(N,): BLEU-2 of each pair as RadCliQ was fitted with it, which is no BLEU_2 of the tables.

    Words of `text.lower().replace(".", " .")`; geometric mean of the clipped precisions of one and two words, a tenth
    of a match where no pair of words matches, 0 where no word does; brevity penalty.
    """
    return np.array([_bleu2(_words(r), _words(h)) for r, h in zip(references, hypotheses, strict=True)], dtype=float)


def _words(text: str) -> list[str]:
    return text.lower().replace(".", " .").split()


def _bleu2(reference: list[str], hypothesis: list[str]) -> float:
    matched = [(Counter(_ngrams(hypothesis, order)) & Counter(_ngrams(reference, order))).total() for order in (1, 2)]
    if not matched[0]:
        return 0.0
    possible = len(hypothesis), max(1, len(hypothesis) - 1)
    precisions = [(m or _SMOOTHED) / p for m, p in zip(matched, possible, strict=True)]
    brevity = min(1.0, math.exp(1 - len(reference) / len(hypothesis)))
    return brevity * math.sqrt(precisions[0] * precisions[1])


def _ngrams(words: list[str], order: int) -> zip:
    return zip(*(words[i:] for i in range(order)), strict=False)
