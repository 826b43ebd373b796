"""Features of a data set, packed: a folder with one safetensors file, the ids and a manifest.

Row i of every array belongs to sample i of the split. Ragged data (the sentences of a report) is a flat array and
its offsets. Texts that repeat are stored once, as rows of a table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, write_json


@dataclass
class Features:
    """One split. N samples, K categories, 75 entities, U unique sentences, W text width."""

    ids: list[str]
    patients: list[str]
    statuses: np.ndarray  # (N, K) uint8
    scores: np.ndarray  # (N, 75) float32, P(present)
    codes: np.ndarray  # (N, 75) uint16, rows of the triplet table
    memory: np.ndarray  # (N, K_m) int32, rows of the training split

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class ReferenceTexts:
    """The retrieval memory's texts: the training reports, their sentences, and the triplet table."""

    sentences: np.ndarray  # (U, W) float32
    sentence_ids: np.ndarray  # (sum of lengths,) int32
    offsets: np.ndarray  # (N + 1,) int64: report i owns sentence_ids[offsets[i]:offsets[i + 1]]
    reports: np.ndarray  # (N, W) float32, whole reports, for the classifier's memory
    triplets: np.ndarray  # (3900, W) float32


def save_arrays(folder: str | Path, record: Features | ReferenceTexts, producer: dict) -> None:
    """Write a folder in one step; `producer` says what made it and is checked on reading."""
    arrays, lists = {}, {}
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, np.ndarray):
            arrays[f.name] = np.ascontiguousarray(value)
        else:
            lists[f.name] = value
    with atomic_folder(folder) as partial:
        save_file(arrays, partial / "arrays.safetensors")
        shapes = {name: [str(a.dtype), *a.shape] for name, a in arrays.items()}
        write_json(partial / "manifest.json", {"producer": producer, "arrays": shapes, **lists}, indent=None)


def load_arrays(folder: str | Path, kind: type, producer: dict):
    """Read a folder written by `save_arrays`; UserError where it is damaged or made by something else."""
    folder = Path(folder)
    manifest = read_json(folder / "manifest.json", "feature manifest")
    if manifest.get("producer") != producer:
        raise UserError(f"{folder}: made by {manifest.get('producer')}, expected {producer}; delete the folder")
    try:
        arrays = load_file(folder / "arrays.safetensors")
    except Exception as error:
        raise UserError(f"{folder}/arrays.safetensors is damaged ({error}); delete the folder") from None
    for name, (dtype, *shape) in manifest["arrays"].items():
        found = arrays.get(name)
        if found is None or str(found.dtype) != dtype or list(found.shape) != shape:
            raise UserError(f"{folder}/arrays.safetensors: '{name}' differs from the manifest; delete the folder")
    values = {f.name: arrays.get(f.name, manifest.get(f.name)) for f in fields(kind)}
    return kind(**values)
