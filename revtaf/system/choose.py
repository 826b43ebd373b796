"""Which of several candidate reports is taken: the one that says what its prompt says (docs/method.md section 6.3).

DIFFERS: the paper takes the likeliest beam. Of real reports a finding has a hundred wordings, each less likely than the
sentence that all normal reports share: the beam leaves the finding out although its prompt states it. Among sampled
reports every wording comes as often as the decoder believes in it, and one of them mostly says what it should.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from revtaf.eval.texts import label_texts
from revtaf.knowledge.base import Labeler
from revtaf.labels import NO_FINDING, POSITIVE


def choose(
    texts: Sequence[Sequence[str]], likelihood: np.ndarray, statuses: np.ndarray, labeler: Labeler
) -> np.ndarray:
    """Of N candidates for each of B samples the one that is taken, (B,).

    Fewest findings that either the text or the prompt, statuses (B, K), has as positive and the other has not ("no
    finding", which follows from them, aside); of those the likeliest, likelihood (B, N).
    """
    read = label_texts(labeler, [text for each in texts for text in each]).reshape(*likelihood.shape, -1)
    kept = np.arange(min(read.shape[2], statuses.shape[1])) != NO_FINDING
    wrong = (read[..., : len(kept)] == POSITIVE) != (statuses[:, None, : len(kept)] == POSITIVE)
    wrong = wrong[..., kept].sum(2)
    return np.where(wrong == wrong.min(1, keepdims=True), likelihood, -np.inf).argmax(1)
