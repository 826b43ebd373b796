"""Splits of a set that has none: dealt by a hash, so that no other option can move a patient to another split."""

from __future__ import annotations

from revtaf.files import digest

RANDOM_SPLITS = {"train": 0.7, "val": 0.8, "test": 1.0}  # where each part of 70, 10 and 20 % ends


def random_split(patient: str, seed: int) -> str:
    """70/10/20 by a hash of seed and patient."""
    draw = int(digest(seed, patient), 16) / 16**12
    return next(split for split, end in RANDOM_SPLITS.items() if draw < end)
