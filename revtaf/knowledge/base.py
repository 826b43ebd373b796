"""What the model needs to know about an image and a report, whoever supplies it.

Three interfaces. The components fitted on the training set implement them here (entity scorer, TF-IDF text
encoder, rule labeler); MedKLIP, Bio_ClinicalBERT and CheXbert implement the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch


class EntityScores(NamedTuple):
    """What an image shows: probability (N, 75) float32 in [0, 1]; position (N, 75) uint8, index into
    POSITIONS; present (N, 75) bool, the decision that the local prompt states."""

    probability: np.ndarray
    position: np.ndarray
    present: np.ndarray


class EntityModel(Protocol):
    name: str

    def score(self, images: np.ndarray, device: torch.device, progress: bool = False) -> EntityScores:
        """images (N, S, S) uint8 -> scores, computed on the device."""
        ...


class TextEncoder(Protocol):
    name: str
    width: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) texts -> (N, width) float32."""
        ...


class Labeler(Protocol):
    name: str

    def label(self, reports: Sequence[str]) -> np.ndarray:
        """(N,) reports -> (N, 18) uint8: 0 blank, 1 positive, 2 negative, 3 uncertain."""
        ...
