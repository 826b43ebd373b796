"""Pairs: an image with its report, and with reports of the same patient that say something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from revtaf.comparators.medfuse.negatives import HardNegatives
from revtaf.comparators.medfuse.settings import ImageTowerSettings
from revtaf.comparators.medfuse.text import SentenceTokens
from revtaf.comparators.medfuse.towers import DualEncoder
from revtaf.data.annotations import Study
from revtaf.data.images import augment, augment_strongly, read_image, resize_crop, to_tensor
from revtaf.eval.ranks import collapse


@dataclass
class PairBatch:
    """B images, M texts: those of the images first, then every distinct negative once."""

    rows: Tensor  # (B,) long
    images: Tensor  # (B, 3, S, S) float32
    tokens: Tensor  # (M, T) long
    negatives: Tensor  # (B, K) long: rows of `tokens`, 0 where there is none
    mask: Tensor  # (B, K) bool
    weights: Tensor  # (B, K) float32
    texts: Tensor  # (B,) long: equal where the texts are

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same batch with every tensor on the device, called by accelerate, too."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return PairBatch(**moved)

    def pin_memory(self) -> PairBatch:
        """The same batch in page-locked memory, called by the loader where there is CUDA."""
        return PairBatch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def __len__(self) -> int:
        return len(self.rows)


class StudyImages:
    """Studies' images as the image encoder sees them; from their files, or from `packed` (N, R, R) uint8."""

    def __init__(self, settings: ImageTowerSettings, images: Path, packed: np.ndarray | None = None):
        self.settings, self.images, self.packed = settings, Path(images), packed

    def plain(self, image: Image.Image) -> Tensor:
        """(3, S, S) of a grey image, as at evaluation."""
        return to_tensor(resize_crop(image, self.settings.resize, self.settings.size), self.settings.norm)

    def read(self, study: Study, row: int) -> Image.Image:
        """The grey image of a study."""
        if self.packed is not None:
            return Image.fromarray(self.packed[row])
        return read_image(self.images / study.image_path[0])

    def varied(self, image: Image.Image, draw: np.random.Generator) -> Tensor:
        """(3, S, S), as in training."""
        s = self.settings
        if s.augment == "none":
            return self.plain(image)
        change = augment_strongly if s.augment == "strong" else augment
        return to_tensor(change(image, s.resize, s.size, s.rotation, draw), s.norm)


class PairDataset(Dataset):
    """The training pairs. What a sample draws depends on (seed, epoch, row) alone."""

    lengths = None

    def __init__(
        self,
        studies: Sequence[Study],
        texts: Sequence[str],
        reader: StudyImages,
        tokens: SentenceTokens,
        hard: HardNegatives,
        encoder: DualEncoder,
        seed: int,
    ):
        self.ids, self.studies = [study.id for study in studies], studies
        self.reader, self.tokens, self.hard, self.seed = reader, tokens, hard, seed
        self.padded = encoder.padded
        self.text_ids = collapse(texts)[0]

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int, Tensor]:
        """(epoch, row) -> epoch, row and the image."""
        epoch, row = key
        draw = np.random.default_rng((self.seed, epoch, row))
        return epoch, row, self.reader.varied(self.reader.read(self.studies[row], row), draw)

    def collate(self, samples: list[tuple[int, int, Tensor]]) -> PairBatch:
        """Samples of one epoch -> a batch."""
        epoch, rows = samples[0][0], np.array([row for _, row, _ in samples])
        asked = self.hard.rows[rows]  # (B, K)
        distinct = sorted(set(asked[asked >= 0].tolist()))
        place = {row: len(rows) + i for i, row in enumerate(distinct)}
        texts = [self._text(epoch, row, 1) for row in rows] + [self._text(epoch, row, 2) for row in distinct]
        places = np.array([[place.get(row, 0) for row in line] for line in asked.tolist()], np.int64)
        return PairBatch(
            rows=torch.from_numpy(rows),
            images=torch.stack([image for _, _, image in samples]),
            tokens=self.padded(texts, self.tokens.tokens),
            negatives=torch.from_numpy(places.reshape(asked.shape)),
            mask=torch.from_numpy(asked >= 0),
            weights=torch.from_numpy(self.hard.weights[rows]),
            texts=torch.from_numpy(self.text_ids[rows]),
        )

    def _text(self, epoch: int, row: int, part: int) -> list[int]:
        return self.tokens.text(row, np.random.default_rng((self.seed, epoch, row, part)))
