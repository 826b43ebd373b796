"""Batches of a data set: shuffled as a function of (seed, epoch), continued in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from revtaf.config import RunSettings
from revtaf.engine.bad_samples import StrictSet, TolerantSet
from revtaf.engine.system import TrainSet
from revtaf.errors import UserError

BUCKET = 8  # batches that are sorted by length together


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Shuffled batches of (epoch, row), a function of (seed, epoch); may start in the middle of an epoch."""

    def __init__(self, samples: int, batch_size: int, seed: int, processes: int = 1, lengths: np.ndarray | None = None):
        """lengths (samples,): of the reports; those of a batch are then of like length."""
        self.lengths = lengths
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.drop_last = False
        self.epoch, self.start = 0, 0
        self.count = count_batches(samples, batch_size, processes)

    def move_to(self, epoch: int, start: int) -> None:  # not "set_epoch", which accelerate calls by itself
        """Iterate from batch `start` of `epoch` on, both counted from 0."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        draw = np.random.default_rng((self.seed, self.epoch))
        order = draw.permutation(self.samples)
        if self.lengths is not None:
            order = self._bucketed(order, draw)
        for batch in range(self.start, self.count):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, int(row)) for row in chosen]

    def __len__(self) -> int:
        return self.count - self.start

    def _bucketed(self, order: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """`order` with every window of BUCKET whole batches sorted by length, and the batches of all shuffled."""
        size = self.batch_size * BUCKET
        windows = [order[i : i + size] for i in range(0, len(order), size)]
        by_length = np.concatenate([w[np.argsort(self.lengths[w], kind="stable")] for w in windows])
        whole = len(order) // self.batch_size * self.batch_size
        batches = by_length[:whole].reshape(-1, self.batch_size)
        return np.concatenate([draw.permutation(batches).ravel(), by_length[whole:]])


def count_batches(samples: int, batch_size: int, processes: int = 1) -> int:
    """Of an epoch, for all processes together. UserError where there is none."""
    if samples < 2:
        raise UserError(f"training needs at least two samples, there is {samples}")
    # A last batch of a single sample has no neighbour to rank and no batch statistics: leave it out.
    # Several processes get the same number of batches, so that nobody waits for a batch that never comes.
    count = (samples // batch_size + (samples % batch_size > 1)) // processes * processes
    if not count:
        raise UserError(f"{samples} training samples give no batch of {batch_size} for each of {processes} processes")
    return count


class CheckedLoader(DataLoader):
    """Raises the UserError that a data set gave in the place of a batch."""

    def __iter__(self) -> Iterator:
        return map(checked, super().__iter__())


def checked(batch: Any) -> Any:
    """The batch; raises it where it is a UserError."""
    if isinstance(batch, UserError):
        raise batch
    return batch


def train_loader(dataset: TrainSet, batches: EpochBatches, settings: RunSettings) -> DataLoader:
    """Batches in the order of `batches`, collated by the data set; unreadable samples as `data.on_error` says."""
    dataset = TolerantSet(dataset, settings.training_data, settings.run)
    return CheckedLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=dataset.collate,
        num_workers=settings.train.workers,
        pin_memory=torch.cuda.is_available(),
        # Starting to iterate draws a number. From the global stream, a resumed epoch would draw one too many.
        generator=torch.Generator().manual_seed(batches.seed),
    )


def eval_loader(dataset: TrainSet, rows: list[int], batch_size: int, workers: int) -> DataLoader:
    """The samples `rows` in their order; BadImage where one cannot be read."""
    strict = StrictSet(dataset)
    return CheckedLoader(
        strict,
        sampler=rows,
        batch_size=batch_size,
        collate_fn=strict.collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
