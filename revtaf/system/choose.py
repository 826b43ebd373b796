"""Which of several candidate reports is taken (docs/method.md section 6.3).

DIFFERS: the paper takes the likeliest beam. Of real reports a finding has a hundred wordings, each less likely than the
sentence that all normal reports share: the likeliest report leaves findings out, and resembles few reports. Taken here
is the candidate that is expected to be most like the report of such an image (minimum Bayes risk). For the reports that
there might be stand the training reports, weighted by what the classifier sees.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from revtaf.eval.cider import Pairwise
from revtaf.eval.protocol import Protocol
from revtaf.eval.texts import label_texts
from revtaf.knowledge.base import Labeler
from revtaf.labels import CHEXPERT_CATEGORIES, NO_FINDING, POSITIVE

REFERENCES = 5_000  # training reports compared with, drawn at random where there are more
CERTAIN = 0.9  # P(positive) of a category that is told as such and not predicted: labels err
_FINDINGS = [i for i in range(len(CHEXPERT_CATEGORIES)) if i != NO_FINDING]
_LEAST = 1e-6  # least probability and frequency of a status


class Consensus:
    """How like the reports of such images a text is."""

    def __init__(
        self, reports: Sequence[str], statuses: np.ndarray, patients: Sequence[str], protocol: Protocol, seed: int = 0
    ):
        """Training reports as they were read, statuses (N, K), patients (N,). K may be 0: all weigh the same."""
        rows = np.arange(len(reports))
        if len(rows) > REFERENCES:
            rows = np.sort(np.random.default_rng(seed).choice(len(rows), REFERENCES, replace=False))
        self._protocol = protocol
        self._pairwise = Pairwise([protocol.reference(reports[row]) for row in rows])
        self._positive = statuses[rows] == POSITIVE
        self.usual = self._positive.mean(0)
        self._patients = np.array([patients[row] for row in rows])

    def weights(self, positive: np.ndarray, patients: Sequence[str]) -> np.ndarray:
        """Calibrated P(positive) (B, K) and patients (B,) of images -> weights of the training reports (B, R), sum 1.

        Proportional to prod_k P(y_k | image) / P(y_k), y_k: whether the report has category k as positive, P(y_k): its
        share of the reports; 0 for the own patient's.
        """
        usual = self.usual.clip(_LEAST, 1 - _LEAST)
        seen = positive.astype(np.float64).clip(_LEAST, 1 - _LEAST)
        evidence = np.log(seen / usual) @ self._positive.T + np.log((1 - seen) / (1 - usual)) @ ~self._positive.T
        evidence = np.where(np.array(patients)[:, None] == self._patients, -np.inf, evidence)
        most = evidence.max(1, keepdims=True)
        found = np.exp(evidence - np.where(np.isfinite(most), most, 0))
        return found / np.maximum(found.sum(1, keepdims=True), 1e-300)  # all are the own patient's: all 0

    def expected(self, texts: Sequence[Sequence[str]], positive: np.ndarray, patients: Sequence[str]) -> np.ndarray:
        """Of N texts for each of B images the CIDEr that each is expected to have, (B, N); -inf without a word."""
        weights = self.weights(positive, patients)
        processed = [[self._protocol.hypothesis(text) for text in each] for each in texts]
        found = np.stack([self._pairwise(each) @ w for each, w in zip(processed, weights, strict=True)])
        return np.where([[bool(text.strip()) for text in each] for each in processed], found, -np.inf)


def with_told(positive: np.ndarray, statuses: np.ndarray, told: Collection[int], usual: np.ndarray) -> np.ndarray:
    """P(positive) (B, K), with that of the categories in `told` as their `statuses` (B, K) say: CERTAIN or more, or a
    tenth of the usual share (K,). Against the share a rare finding that is told absent would count as present."""
    certain = np.where(statuses == POSITIVE, np.maximum(CERTAIN, usual), (1 - CERTAIN) * usual)
    return np.where(np.isin(np.arange(positive.shape[1]), list(told)), certain, positive)


def disagreements(texts: Sequence[Sequence[str]], statuses: np.ndarray, labeler: Labeler) -> np.ndarray:
    """Of N texts for each of B prompts, statuses (B, K): how many of CheXpert's 13 findings either has as positive and
    the other has not, (B, N)."""
    read = label_texts(labeler, [text for each in texts for text in each])
    read = read.reshape(len(texts), -1, read.shape[1])
    wrong = (read[..., _FINDINGS] == POSITIVE) != (statuses[:, None, _FINDINGS] == POSITIVE)
    return wrong.sum(2)


def best(scores: np.ndarray) -> np.ndarray:
    """(B, N) -> the place of the best, (B,). Among equals, to nine digits, the first: the beam's."""
    return np.round(scores, 9).argmax(1)
