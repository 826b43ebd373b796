"""Long computations over many rows, in blocks that are files: interrupted, continued, shared between processes.

A block's content depends on its rows alone, so who computed it, and after how many interruptions, leaves no trace in
the result. Several processes (`Shard`) take every n-th block each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from revtaf.data.annotations import Study
from revtaf.data.array_file import read_array
from revtaf.data.images import read_image
from revtaf.errors import UserError
from revtaf.files import atomic_write

ROWS = 2048  # of a block: seconds to minutes of work, which is what an interruption can cost
FEW = 64  # rows and fewer are done before anybody has read a bar
READERS = min(32, os.cpu_count() or 4)  # threads that decode images

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`: which blocks a process computes."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """ "0/4" is the first of four."""
        try:
            index, count = (int(part) for part in text.split("/"))
        except ValueError:
            index, count = -1, 0
        if not 0 <= index < count:
            raise UserError(f"--shard: expected I/N with 0 <= I < N, such as 0/4, got {text!r}")
        return cls(index, count)

    def takes(self, block: int) -> bool:
        """Whether block number `block` is this part's."""
        return block % self.count == self.index


WHOLE = Shard()


class Waiting(Exception):
    """Other processes have not finished their blocks yet."""


class Blocks:
    """`count` rows in blocks of `rows`, each one file of `folder`."""

    suffix = ".safetensors"

    def __init__(self, folder: Path, count: int, title: str, rows: int | None = None):
        self.folder, self.count, self.title, self.rows = folder, count, title, rows or ROWS
        self.paths = [folder / f"{block:05d}{self.suffix}" for block in range(-(-count // self.rows))]

    def compute(self, arrays_of: Callable[[slice], Arrays], shard: Shard) -> None:
        """Every missing block of this shard; `arrays_of` gets the rows of a block."""
        todo = [b for b, path in enumerate(self.paths) if shard.takes(b) and not path.exists()]
        for block in tqdm(todo, desc=self.title, unit="block", leave=False, disable=not todo or self.count <= FEW):
            rows = slice(block * self.rows, min((block + 1) * self.rows, self.count))
            content = arrays_of(rows)
            with atomic_write(self.paths[block]) as unfinished:
                self._save(unfinished, content)

    def read(self) -> Arrays:
        """All rows, in order. Raises Waiting where blocks are missing."""
        self.require()
        parts = [_read(load_file, path) for path in self.paths]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def require(self) -> None:
        """Raises Waiting where blocks are missing."""
        missing = sum(not path.exists() for path in self.paths)
        if missing:
            raise Waiting(f"{self.title}: {missing} of {len(self.paths)} blocks are still missing")

    def _save(self, path: Path, arrays: Arrays) -> None:
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path)


class PixelBlocks(Blocks):
    """The same for images (N, S, S) uint8, which stay on disk: `images[rows]` reads what is asked for."""

    suffix = ".npy"

    def map(self) -> PixelBlocks:
        """The rows of all blocks, mapped. Raises Waiting where blocks are missing."""
        self.require()
        self.parts = [read_array(path, "delete it, it is made again", "r") for path in self.paths]
        return self

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """rows (n,) int -> (n, S, S)."""
        return np.stack([self.parts[row // self.rows][row % self.rows] for row in rows.tolist()])

    def _save(self, path: Path, pixels: np.ndarray) -> None:
        with open(path, "wb") as file:  # np.save's own writing says nothing of use when the disk is full
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(pixels))
            file.write(pixels.tobytes())


def _read(load: Callable, path: Path):
    try:
        return load(path)
    except Exception as error:  # safetensors and numpy raise many kinds here; all mean: not what was written
        raise UserError(f"{path} is damaged ({error}); delete it, it is made again") from None


def read_pixels(
    studies: Sequence[Study], images: Path, size: int, see: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """The first image of every study as `see` wants it, (N, size, size) uint8; all must be readable."""
    pixels = np.empty((len(studies), size, size), dtype=np.uint8)
    with ThreadPoolExecutor(READERS) as pool:
        seen = pool.map(lambda study: see(read_image(Path(images) / study.image_path[0])), studies)
        bar = tqdm(seen, desc="images", total=len(studies), leave=False, disable=len(studies) <= FEW)
        for i, image in enumerate(bar):
            pixels[i] = image
    return pixels
