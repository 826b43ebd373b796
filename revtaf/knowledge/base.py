"""What the model needs to know about an image and a report, whoever supplies it.

Interfaces. The components fitted on the training set implement them (entity scorer, TF-IDF text encoder, rule
labeler), and so do MedKLIP, Bio_ClinicalBERT, CheXbert, CLIP, and a trained dual encoder that is a system of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # scoring texts needs no torch, and its import takes seconds
    import torch

    from revtaf.config import DataSettings
    from revtaf.data.annotations import Annotations, Study


class EntityScores(NamedTuple):
    """What an image shows: probability (N, 75) float32 in [0, 1]; position (N, 75) uint8, index into
    POSITIONS; present (N, 75) bool, the decision that the local prompt states."""

    probability: np.ndarray
    position: np.ndarray
    present: np.ndarray


class ImageReader(Protocol):
    """Whoever looks at images says how it wants to see them."""

    name: str
    image_size: int

    def pixels(self, image: Image.Image) -> np.ndarray:
        """8-bit grey image -> (image_size, image_size) uint8, in this model's own geometry."""
        ...


class EntityModel(ImageReader, Protocol):
    """Image -> the 75 entities: MedKLIP, or the scorer fitted on the training set."""

    def score(self, images: np.ndarray, device: torch.device, progress: bool = False) -> EntityScores:
        """images (N, S, S) uint8 from `pixels` -> scores, computed on the device."""
        ...


class ImageTextPair(ImageReader, Protocol):
    """Images and texts in one space, where the inner product compares them."""

    width: int

    def encode_images(self, images: np.ndarray, device: torch.device, progress: bool = False) -> np.ndarray:
        """images (N, S, S) uint8 from `pixels` -> (N, width) float32 of length 1."""
        ...

    def encode_texts(self, texts: Sequence[str], device: torch.device, progress: bool = False) -> np.ndarray:
        """(N,) texts -> (N, width) float32 of length 1."""
        ...


class StudyEncoder(Protocol):
    """Images and reports in one space, by a model that another system trained, and read as that system reads them.

    identity changes with the model. source: which one, and what it was trained on. files say which model it is.
    """

    identity: str
    source: str
    files: list[Path]

    def check_unseen(self, data: DataSettings, annotations: Annotations) -> None:
        """UserError where it was trained on studies of the validation or test split."""
        ...

    def encode_images(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """The images of (N,) studies -> (N, D) float32 of length 1."""
        ...

    def encode_reports(self, studies: Sequence[Study]) -> np.ndarray:
        """The reports of (N,) studies -> (N, D) float32 of length 1."""
        ...


class TextEncoder(Protocol):
    """Text -> vector: Bio_ClinicalBERT, or TF-IDF fitted on the training reports. Fixed once it is made."""

    name: str
    width: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) texts -> (N, width) float32."""
        ...


class Labeler(Protocol):
    """Report -> statuses: CheXbert, or phrase rules. `name` stands in the signature of every table."""

    name: str

    def label(self, reports: Sequence[str]) -> np.ndarray:
        """(N,) reports -> (N, 18) uint8: 0 blank, 1 positive, 2 negative, 3 uncertain."""
        ...
