"""Features of a data set, packed: a folder with one memory-mapped array a file, and a manifest.

Row i of every array belongs to sample i of the split. Ragged data (the sentences of a report) is a flat array and its
offsets. Texts that repeat are stored once, as rows of a table; studies with several images share their report's row.
The manifest names what made the folder, and the SHA-256 of every file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from revtaf import __version__
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, sha256, write_json

MANIFEST = "manifest.json"
Record = TypeVar("Record", "Features", "ReferenceTexts")


@dataclass
class Features:
    """One split. N samples, K categories, 75 entities."""

    ids: list[str]
    patients: list[str]
    statuses: np.ndarray  # (N, K) uint8
    scores: np.ndarray  # (N, 75) float16, P(present)
    codes: np.ndarray  # (N, 75) uint8, row within the entity's own part of the triplet table
    memory: np.ndarray  # (N, K_m) int32, rows of the training split

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class ReferenceTexts:
    """The retrieval memory's texts. N training samples, R distinct reports, U distinct sentences, W text width."""

    report_ids: np.ndarray  # (N,) int32: the report of each training sample
    offsets: np.ndarray  # (R + 1,) int64: report r owns sentence_ids[offsets[r]:offsets[r + 1]]
    sentence_ids: np.ndarray  # (sum of lengths,) int32
    sentences: np.ndarray  # (U, W) float16
    reports: np.ndarray  # (R, V) float16, for the classifier's memory; (0, 0): the mean of a report's sentences
    triplets: np.ndarray  # (75 T, W) float16: T texts for each entity in turn
    nearest: np.ndarray  # (N,) int32: the training sample nearest by statuses, of another patient

    @property
    def memory_width(self) -> int:
        return (self.reports if len(self.reports) else self.sentences).shape[1]


def save_arrays(folder: str | Path, record: Features | ReferenceTexts, producer: dict) -> None:
    """Write a folder in one step; `producer` says what made it and is checked on reading."""
    arrays, lists = {}, {}
    with atomic_folder(folder) as partial:
        for f in fields(record):
            value = getattr(record, f.name)
            if isinstance(value, np.ndarray):
                path = partial / f"{f.name}.npy"
                np.save(path, np.ascontiguousarray(value), allow_pickle=False)
                arrays[f.name] = {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": sha256(path)}
            else:
                lists[f.name] = value
        manifest = {"producer": producer, "version": __version__, "arrays": arrays, **lists}
        write_json(partial / MANIFEST, manifest, indent=None)


def load_arrays(folder: str | Path, kind: type[Record], producer: dict | None = None) -> Record:
    """Map a folder written by `save_arrays`; UserError where it is damaged or, if `producer` is given, made otherwise.

    Every file is hashed once (about 2 GB a second); the arrays stay on disk until a row is asked for.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST, "feature manifest")
    if producer is not None and manifest.get("producer") != producer:
        raise UserError(f"{folder}: made by {manifest.get('producer')}, expected {producer}; delete the folder")
    values = {}
    for f in fields(kind):
        if f.name in manifest.get("arrays", {}):
            values[f.name] = _map(folder / f"{f.name}.npy", manifest["arrays"][f.name])
        elif isinstance(manifest.get(f.name), list):
            values[f.name] = manifest[f.name]
        else:
            raise UserError(f"{folder / MANIFEST}: '{f.name}' is missing; delete the folder, it is made again")
    return kind(**values)


def fingerprint(*folders: str | Path) -> str:
    """Changes with any byte of any array: features fitted anew on another machine are other features."""
    manifests = [read_json(Path(folder) / MANIFEST, "feature manifest") for folder in folders]
    return digest([m["arrays"] for m in manifests])


def _map(path: Path, expected: dict) -> np.ndarray:
    remedy = "delete the folder, it is made again"
    try:
        found = sha256(path)
        array = np.load(path, mmap_mode="r" if expected["shape"] and 0 not in expected["shape"] else None)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    if found != expected["sha256"]:
        raise UserError(
            f"{path} is damaged: SHA-256 {found[:12]}, the manifest says {expected['sha256'][:12]}; {remedy}"
        )
    if [str(array.dtype), list(array.shape)] != [expected["dtype"], expected["shape"]]:
        raise UserError(f"{path}: {array.dtype} {array.shape} differs from the manifest; {remedy}")
    return array
