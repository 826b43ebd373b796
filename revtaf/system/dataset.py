"""Samples and batches: images from disk, reports as tokens, everything else from the packed features."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from revtaf.data.annotations import Study
from revtaf.data.images import augment, augment_strongly, read_image, resize_crop, to_tensor
from revtaf.errors import UserError
from revtaf.features.arrays import Features
from revtaf.settings import EncoderSettings
from revtaf.tokenizer import ReportTokenizer

TOKENISED_AT_ONCE = 8192  # reports


@dataclass
class Batch:
    """B samples; `rows` are their positions in the split."""

    rows: Tensor  # (B,) long
    images: Tensor  # (B, 3, H, W) float32, or the patches (B, P, W) that a frozen encoder made of them
    tokens: Tensor  # (B, T) long: report, [SEP], then [PAD]
    statuses: Tensor  # (B, K) long
    scores: Tensor  # (B, 75) float32
    codes: Tensor  # (B, 75) long
    memory: Tensor  # (B, K_m) long
    retriever_inputs: Tensor  # (B, F) float32, what an image is retrieved by: the scores, or an embedding

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with every tensor on the device, called by accelerate, too."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return Batch(**moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, called by the loader where there is CUDA."""
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def __len__(self) -> int:
        return len(self.rows)


class ReportDataset(Dataset):
    """One split of a data set."""

    def __init__(
        self,
        studies: list[Study],
        features: Features,
        reports: list[str],
        tokenizer: ReportTokenizer,
        images: Path,
        settings: EncoderSettings,
        max_tokens: int,
        train: bool,
        seed: int,
        packed: np.ndarray | None = None,
    ):
        """packed: (N, R, R) uint8, the images at `settings.resize`, in place of their files."""
        if [s.id for s in studies] != features.ids:
            raise UserError("features and annotation list different samples; delete the features folder")
        self.ids, self.studies, self.features = features.ids, studies, features
        self.images, self.packed = Path(images), packed
        self.settings, self.train, self.seed = settings, train, seed
        self.patches: np.ndarray | None = None  # (N, P, W) float16: what a frozen encoder sees, in place of the images
        self.pad = tokenizer.pad
        self.tokens, self.offsets = _tokens(reports, tokenizer, max_tokens)

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each report, its end included."""
        return np.diff(self.offsets)

    def crop(self, row: int):
        """The grey image (size, size) that the model sees at evaluation."""
        return resize_crop(self._read(row), self.settings.resize, self.settings.image_size)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[int, Tensor]:
        """key is (epoch, row) in training, where the epoch seeds the augmentation; else the row."""
        epoch, row = key if isinstance(key, tuple) else (0, key)
        if self.patches is not None:
            return row, torch.from_numpy(self.patches[row].astype(np.float32))
        if not self.train:
            return row, to_tensor(self.crop(row), self.settings.inputs)
        draw = np.random.default_rng((self.seed, epoch, row))
        s = self.settings
        transform = augment_strongly if s.augment == "strong" else augment
        return row, to_tensor(transform(self._read(row), s.resize, s.image_size, s.rotation, draw), s.inputs)

    def _read(self, row: int):
        if self.packed is not None:
            return Image.fromarray(self.packed[row])
        return read_image(self.images / self.studies[row].image_path[0])

    def collate(self, samples: list[tuple[int, Tensor]]) -> Batch:
        """(row, image) of each sample -> a batch; reports are padded to the longest among them."""
        rows = np.array([row for row, _ in samples])
        reports = [self.tokens[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        tokens = torch.full((len(rows), max(map(len, reports))), self.pad, dtype=torch.long)
        for i, ids in enumerate(reports):
            tokens[i, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        f = self.features
        return Batch(
            rows=torch.from_numpy(rows),
            images=torch.stack([image for _, image in samples]),
            tokens=tokens,
            statuses=torch.from_numpy(f.statuses[rows].astype(np.int64)),
            scores=torch.from_numpy(f.scores[rows].astype(np.float32)),
            codes=torch.from_numpy(f.codes[rows].astype(np.int64)),
            memory=torch.from_numpy(f.memory[rows].astype(np.int64)),
            retriever_inputs=torch.from_numpy(f.retriever_inputs[rows].astype(np.float32)),
        )


def replaced(tokens: Tensor, rows: np.ndarray, reports: list[list[int]], pad: int) -> Tensor:
    """A batch's tokens (B, T) with other reports, ended, where `rows` (B,) is true; padded to the longest."""
    width = max([tokens.shape[1], *map(len, reports)])
    result = torch.full((len(tokens), width), pad, dtype=tokens.dtype, device=tokens.device)
    result[:, : tokens.shape[1]] = tokens
    for row, ids in zip(np.flatnonzero(rows), reports, strict=True):
        result[row] = pad
        result[row, : len(ids)] = torch.tensor(ids, dtype=tokens.dtype, device=tokens.device)
    return result


def _tokens(reports: list[str], tokenizer: ReportTokenizer, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all reports, each ended and cut to `longest`, end to end; report i begins at offsets[i]."""
    pieces, lengths = [], [0]
    for start in range(0, len(reports), TOKENISED_AT_ONCE):
        for ids in tokenizer.encode(reports[start : start + TOKENISED_AT_ONCE]):
            pieces.append(np.array(ids[: longest - 1] + [tokenizer.end], dtype=np.int32))
            lengths.append(len(pieces[-1]))
    return np.concatenate(pieces), np.cumsum(lengths)
