"""The features of a data set as folders, one for each thing that is made once and found again.

A folder's name is a digest of everything that its content depends on and of nothing else: another seed fits another
scorer, but does not look at the images with MedKLIP again. Unfinished work lies in `.NAME.parts` and is continued; a
half-made folder is never seen under the final name.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from revtaf.data.blocks import WHOLE, Shard, Waiting
from revtaf.features.arrays import fingerprint, read_store, write_store
from revtaf.files import digest
from revtaf.locks import alone

Arrays = dict[str, np.ndarray]
Save = Callable[[Path], None]  # writes further files into the folder
Build = Callable[[Path, Shard], tuple[Arrays, Save | None]]  # gets the folder for unfinished work
log = logging.getLogger("revtaf")


class Missing(Exception):
    """Features that were not made yet, where nothing may be made."""


class FeatureStore:
    """Folders below `root`. `make=False` only finds; a `shard` computes its part and leaves the rest to others.
    `told=False`: of a folder that does not last, nothing is logged."""

    def __init__(self, root: Path, shard: Shard = WHOLE, make: bool = True, told: bool = True):
        self.root, self.shard, self.make, self.told = root, shard, make, told
        self.used: dict[str, Path] = {}  # what this run reads, by name

    def get(self, name: str, producer: dict, build: Build, lists: dict[str, list] | None = None) -> Arrays:
        """The arrays that `producer` describes, made by `build` where they are missing.

        Raises Missing if nothing may be made, Waiting if other shards have to finish first.
        """
        folder = self.root / f"{name}-{digest(producer)}"
        parts = folder.with_name(f".{folder.name}.parts")
        if not folder.exists():
            if not self.make:
                raise Missing(f"{folder} is not there")
            if self.shard.count > 1:
                build(parts, self.shard)
                raise Waiting(f"{name}: one process has to put the parts together")
            with alone(parts):
                if not folder.exists():
                    if self.told:
                        log.info("features: making %s", folder)
                    arrays, save = build(parts, WHOLE)
                    write_store(folder, arrays, producer, lists, save)
        if self.make:
            shutil.rmtree(parts, ignore_errors=True)
        self.used[name] = folder
        return read_store(folder, producer)[0]

    @property
    def key(self) -> str:
        """Changes with what the features in use were made of."""
        return digest(sorted(folder.name for folder in self.used.values()))

    @property
    def fingerprint(self) -> str:
        """Changes with their bytes."""
        return self.fingerprint_without()

    def fingerprint_without(self, *names: str) -> str:
        """The same of all in use but those."""
        return fingerprint(*(self.used[name] for name in sorted(self.used) if name not in names))
