"""The paper's split: 70, 10 and 20 % of the patients."""

from __future__ import annotations

import numpy as np

from revtaf.data.annotations import SPLITS, Annotations
from revtaf.rng import generator

SHARES = (0.7, 0.1, 0.2)  # of the patients, for train, val and test


def split_by_patient(annotations: Annotations, seed: int) -> Annotations:
    """All studies, split anew: 70, 10 and 20 % of the patients, drawn by the seed. A patient is in one split alone."""
    studies = [study for split in SPLITS for study in annotations.get(split, [])]
    patients = sorted({study.patient for study in studies})
    order = generator(seed, "patients").permutation(len(patients))
    bounds = np.round(np.cumsum(SHARES) * len(patients)).astype(int)
    split_of = {patients[p]: SPLITS[int(np.searchsorted(bounds, place, "right"))] for place, p in enumerate(order)}
    return {split: [study for study in studies if split_of[study.patient] == split] for split in SPLITS}
