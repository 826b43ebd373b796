"""Which training reports an epoch shows, and how often: reports of rare findings more than once."""

from __future__ import annotations

import numpy as np

from revtaf.labels import NO_FINDING, POSITIVE


def repeated_rows(statuses: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Rows of an epoch, (M,) with M >= N, in ascending order: repeat factor sampling (Gupta et al. 2019, LVIS).

    statuses (N, K). A finding that a share f of the reports states as positive has the factor max(1, sqrt(share / f)),
    a report the largest one among its positive findings ("no finding" is none); it is repeated so often, a fraction of
    a repetition by chance. The same rows serve every epoch, so that all epochs have one length.
    """
    positive = statuses == POSITIVE
    positive[:, NO_FINDING] = False
    frequency = positive.mean(0)
    factors = np.sqrt(share / np.maximum(frequency, 1 / len(statuses))).clip(min=1.0)
    wanted = np.where(positive, factors, 1.0).max(1)
    whole = wanted.astype(np.int64)
    times = whole + (draw.random(len(wanted)) < wanted - whole)
    return np.repeat(np.arange(len(statuses)), times)
