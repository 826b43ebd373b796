"""A shard: some rows of a gallery as a folder. Written in one step, never changed, mapped when it is read.

vectors.npy    (n, W) float16, unit length
patients.npy   (n,) uint64, a code of each row's patient, 0 where none is known
lines.npy      (n + 1,) int64, where each record begins
records.jsonl  what each row is
ivf.faiss      the same vectors in FAISS's lists, where the engine is FAISS
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from revtaf.data.array_file import read_array
from revtaf.errors import UserError
from revtaf.files import atomic_folder, parse_json, regular_file, sha256, told_as_damage

VECTORS, PATIENTS, LINES, RECORDS, LISTS = "vectors.npy", "patients.npy", "lines.npy", "records.jsonl", "ivf.faiss"
_TEXTS = ("id", "study", "patient", "split")  # of every record
REMEDY = "copy the index again, or build it again"


def patient_code(patient: str) -> int:
    """64 bits of a hash; 0 for nobody."""
    return int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=8).digest(), "little") if patient else 0


def write_shard(
    folder: Path, vectors: np.ndarray, records: Sequence[dict], more: Callable[[Path], None] | None = None
) -> dict[str, dict]:
    """Write `vectors` (n, W) and a record of each; `more` writes further files. Returns bytes and SHA-256 by name."""
    with atomic_folder(folder) as partial:
        ends = [0]
        with open(partial / RECORDS, "wb") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                ends.append(file.tell())
        codes = [patient_code(record["patient"]) for record in records]
        for name, array in (
            (VECTORS, vectors.astype(np.float16, copy=False)),
            (PATIENTS, np.array(codes, dtype=np.uint64)),
            (LINES, np.array(ends, dtype=np.int64)),
        ):
            with open(partial / name, "wb") as file:  # np.save's own writing says nothing of use when the disk is full
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
                file.write(np.ascontiguousarray(array).tobytes())
        if more is not None:
            more(partial)
        return describe(partial)


def describe(folder: Path) -> dict[str, dict]:
    """Bytes and SHA-256 of every file of a folder."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def check_files(folder: Path, files: dict[str, dict], verify: bool) -> None:
    """UserError where a file is missing or has another size; with `verify` also where its content has changed."""
    for name, expected in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise UserError(f"{path} is missing; {REMEDY}") from None
        if size != expected["bytes"]:
            raise UserError(f"{path} is damaged: {size} bytes, {expected['bytes']} were written; {REMEDY}")
        if verify and sha256(path) != expected["sha256"]:
            raise UserError(f"{path} is damaged: its SHA-256 is not the one in the index's manifest; {REMEDY}")


def _sound(record: object) -> bool:
    """Whether it is a record of a report or of an image, as they are written here."""
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in _TEXTS):
        return False
    if "text" in record:
        files = record.get("images")
        return isinstance(record["text"], str) and isinstance(files, list) and all(isinstance(f, str) for f in files)
    return isinstance(record.get("image"), str) and isinstance(record.get("report"), int)


class MappedShard:
    """An open shard. `vectors` and `patients` are mapped; records are read one at a time."""

    def __init__(self, folder: Path, rows: int, width: int):
        self.folder = folder
        # "c": pages that nobody writes to stay those of the file, and PyTorch does not warn of read-only memory.
        self.vectors = self._map(VECTORS, np.float16, (rows, width))
        self.patients = self._map(PATIENTS, np.uint64, (rows,))
        self._lines = self._map(LINES, np.int64, (rows + 1,))
        self._records = open(regular_file(folder / RECORDS), "rb")  # now: a later build may remove the folder

    def __len__(self) -> int:
        return len(self.vectors)

    def record(self, row: int) -> dict:
        """What a row of this shard is."""
        begin, end = int(self._lines[row]), int(self._lines[row + 1])
        with told_as_damage(self.folder / LINES, REMEDY):
            self._records.seek(begin)
            line = self._records.read(end - begin)
        return self._parsed(line, row)

    def records(self) -> Iterator[dict]:
        """All of them, in order."""
        self._records.seek(0)
        for row, line in enumerate(self._records.read().split(b"\n")[: len(self)]):
            yield self._parsed(line, row)

    def _parsed(self, line: bytes, row: int) -> dict:
        try:
            record = parse_json(line.decode("utf-8"))
        except ValueError as error:
            raise UserError(f"{self.folder / RECORDS}, line {row + 1}: damaged ({error}); {REMEDY}") from None
        if not _sound(record):
            raise UserError(f"{self.folder / RECORDS}, line {row + 1}: damaged (not what a row is); {REMEDY}")
        return record

    def _map(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        array = read_array(path, REMEDY, "c")
        if array.dtype != dtype or array.shape != shape:
            wanted = f"{np.dtype(dtype)} {shape}"
            raise UserError(f"{path}: {array.dtype} {array.shape}, the manifest says {wanted}; {REMEDY}")
        return array
