"""Features of a data set, packed: a folder with one memory-mapped array a file, and a manifest.

Row i of every array belongs to sample i of the split. Ragged data (the sentences of a report) is a flat array and its
offsets. Texts that repeat are stored once, as rows of a table; studies with several images share their report's row.
The manifest names what made the folder, and the SHA-256 of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from revtaf import __version__
from revtaf.data.array_file import read_array
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, sha256, told_as_damage, write_json

MANIFEST = "manifest.json"
REMEDY = "delete the folder, it is made again"
_LISTS = ("ids", "patients")  # fields that are no arrays
Record = TypeVar("Record", "Features", "TextTables")


@dataclass
class Features:
    """One split. N samples, K categories, 75 entities, D numbers of an image embedding."""

    ids: list[str]
    patients: list[str]
    statuses: np.ndarray  # (N, K) uint8
    scores: np.ndarray  # (N, 75) float16, P(present)
    codes: np.ndarray  # (N, 75) uint8, row within the entity's own part of the triplet table
    memory: np.ndarray  # (N, K_m) int32, rows of the training split
    image_vectors: np.ndarray | None = None  # (N, D) float16, where images are retrieved by them (lre.features)

    @property
    def retriever_inputs(self) -> np.ndarray:
        """(N, F) float16, what an image is retrieved by: the entity scores, or the embeddings where there are any."""
        return self.scores if self.image_vectors is None else self.image_vectors

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class TextTables:
    """The training set's texts. N training samples, R distinct reports, U distinct sentences, W text width."""

    report_ids: np.ndarray  # (N,) int32: the report of each training sample
    offsets: np.ndarray  # (R + 1,) int64: report r owns sentence_ids[offsets[r]:offsets[r + 1]]
    sentence_ids: np.ndarray  # (sum of lengths,) int32
    sentences: np.ndarray  # (U, W) float16
    reports: np.ndarray  # (R, V) float16, for the classifier's memory; (0, 0): the mean of a report's sentences
    triplets: np.ndarray  # (75 T, W) float16: T texts for each entity in turn
    nearest: np.ndarray  # (N,) int32: the training sample nearest by statuses, of another patient

    @property
    def memory_width(self) -> int:
        """V, the width of a report's vector in the classifier's memory: CLIP's, or W."""
        return (self.reports if len(self.reports) else self.sentences).shape[1]


def save_arrays(folder: str | Path, record: Features | TextTables, producer: dict) -> None:
    """Write a record; `producer` says what made it."""
    values = {f.name: value for f in fields(record) if (value := getattr(record, f.name)) is not None}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    write_store(folder, arrays, producer, {name: value for name, value in values.items() if name not in arrays})


def load_arrays(folder: str | Path, kind: type[Record]) -> Record:
    """Map a record written by `save_arrays`; UserError where it is damaged or incomplete."""
    arrays, lists = read_store(folder)
    values = {}
    for f in fields(kind):
        value = arrays.get(f.name, lists.get(f.name))
        if value is None and f.default is MISSING:
            raise UserError(f"{Path(folder) / MANIFEST}: '{f.name}' is missing; {REMEDY}")
        if isinstance(value, list) != (f.name in _LISTS):
            raise UserError(
                f"{Path(folder) / MANIFEST}: '{f.name}' is no {'list' if f.name in _LISTS else 'array'}; {REMEDY}"
            )
        values[f.name] = value
    return kind(**values)


def write_store(
    folder: str | Path,
    arrays: Mapping[str, np.ndarray],
    producer: dict,
    lists: Mapping[str, list] | None = None,
    save: Callable[[Path], None] | None = None,
) -> None:
    """Write a folder in one step: arrays, lists (into the manifest), and the files that `save` puts there."""
    with atomic_folder(folder) as partial:
        if save is not None:
            save(partial)
        files = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        shapes = {}
        for name, array in arrays.items():
            path = partial / f"{name}.npy"
            with open(path, "wb") as file:  # np.save's own writing says nothing of use when the disk is full
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
                file.write(np.ascontiguousarray(array).tobytes())
            shapes[name] = {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha256(path)}
        manifest = {"producer": producer, "version": __version__, "arrays": shapes, "files": files, **(lists or {})}
        write_json(partial / MANIFEST, manifest, indent=None)


def read_store(folder: str | Path, producer: dict | None = None) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """The arrays of a folder, mapped, and its lists. UserError where it is damaged or, if `producer` is given, was made
    otherwise.

    Every file is hashed once (about 2 GB a second); the arrays stay on disk until a row is asked for.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST, "feature manifest")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("arrays"), dict):
        raise UserError(f"{folder / MANIFEST} is damaged; {REMEDY}")
    if producer is not None and manifest.get("producer") != producer:
        raise UserError(f"{folder}: made by {manifest.get('producer')}, expected {producer}; delete the folder")
    with told_as_damage(folder, REMEDY):
        for name, expected in manifest.get("files", {}).items():
            _check(folder / name, expected)
        arrays = {name: _map(folder / f"{name}.npy", expected) for name, expected in manifest["arrays"].items()}
    return arrays, {name: value for name, value in manifest.items() if isinstance(value, list)}


def fingerprint(*folders: str | Path) -> str:
    """Changes with any byte of any file: features fitted anew on another machine are other features."""
    manifests = [read_json(Path(folder) / MANIFEST, "feature manifest") for folder in folders]
    with told_as_damage(" or ".join(map(str, folders)), REMEDY):
        return digest([(m["arrays"], m.get("files")) for m in manifests])


def _check(path: Path, expected: str) -> None:
    try:
        found = sha256(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {REMEDY}") from None
    if found != expected:
        raise UserError(f"{path} is damaged: SHA-256 {found[:12]}, the manifest says {expected[:12]}; {REMEDY}")


def _map(path: Path, expected: dict) -> np.ndarray:
    _check(path, expected["sha256"])
    array = read_array(path, REMEDY, None if 0 in expected["shape"] else "r")
    if [str(array.dtype), list(array.shape)] != [expected["dtype"], expected["shape"]]:
        raise UserError(f"{path}: {array.dtype} {array.shape} differs from the manifest; {REMEDY}")
    return array
