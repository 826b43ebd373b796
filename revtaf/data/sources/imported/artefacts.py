"""Readers of the artefacts that the field exchanges: rows of numbers in JSON, and trees with one .npy an image.

Some of these files hold gigabytes, so nothing is read as a whole: one row or one image at a time. What is wrong with
a row is said with its file and its place; a value that is not finite never gets in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from tqdm import tqdm

from revtaf.data.annotations import Study
from revtaf.data.array_file import read_array
from revtaf.data.image_names import without_suffix
from revtaf.data.sources.access import is_file
from revtaf.errors import UserError
from revtaf.files import read_json, regular_file, sha256
from revtaf.labels import ENTITIES

CHUNK = 1 << 20  # characters read at a time
LONGEST = 1 << 26  # characters of one row; more is a file with a bracket missing, not a row
SCORE_KINDS = ("prob", "logit")

Rows = Iterable[tuple[str, Any]]  # where a row stands, for messages, and its value


def json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The lists (or objects) of a file, one at a time: one on each line, or all within one list."""
    try:
        with open(regular_file(path), encoding="utf-8") as file:
            listed = re.match(r"\s*\[\s*[\[{]", file.read(1024))
            file.seek(0)
            yield from _listed(path, file) if listed else _lines(path, file)
    except FileNotFoundError:
        raise UserError(f"{path} not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from None


def _lines(path: Path, file: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _parsed(f"{path}, line {number}", line)


def _listed(path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    count, closed = 0, False
    for piece in _pieces(path, file):
        piece, where = piece.strip(), f"{path}, row {count}"
        if closed:
            if piece:
                raise UserError(f"{path}: something follows the list of {count:,} rows: {piece[:40]!r}")
        elif piece == "]":
            closed = True
        elif piece:  # the first one opens the outer list, every other one continues it
            if piece[:1] != (expected := "," if count else "["):
                raise UserError(f"{where}: expected {expected!r} before it, got {piece[:40]!r}; the file is damaged")
            yield _parsed(where, piece[1:])
            count += 1
    if not closed:
        raise UserError(f"{path}: the list ends after {count:,} rows without ']'; the file is cut off")


def _pieces(path: Path, file: Any) -> Iterator[str]:
    """The text cut after every closing bracket: as rows are flat, each piece ends one row."""
    rest = ""
    while chunk := file.read(CHUNK):
        *whole, rest = re.split(r"(?<=[\]}])", rest + chunk)
        yield from whole
        if len(rest) > LONGEST:
            raise UserError(f"{path}: a row without end begins with {rest.strip()[:40]!r}; the file is damaged")
    yield rest


def _parsed(where: str, text: str) -> tuple[str, Any]:
    try:
        return where, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}): {text.strip()[:40]!r}") from None


def number_row(where: str, value: Any, what: str, width: int | None = None) -> np.ndarray:
    """A list of numbers -> (width,) int64 or float64, all finite; without a width, of any length but 0."""
    try:
        row = np.asarray(value)
    except ValueError:  # lists of several lengths within the list
        row = np.asarray(None)
    if row.ndim != 1 or row.dtype.kind not in "if" or not len(row):
        raise UserError(f"{where}: {what}: expected a list of numbers, got {json.dumps(value)[:60]}")
    if len(row) != (width or len(row)):
        raise UserError(f"{where}: {what}: expected {width} numbers, got {len(row)}")
    if not np.isfinite(row).all():
        raise UserError(f"{where}: {what}: number {np.flatnonzero(~np.isfinite(row))[0]} is not finite")
    return row


def number_rows(
    rows: Rows, source: Path, what: str, count: int, width: int | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Exactly `count` rows of `width` finite numbers each; without a width, as many as the first row has."""
    found = 0
    for where, value in tqdm(rows, total=count, desc=what, leave=False):
        row = number_row(where, value, what, width)
        width = len(row)
        found += 1
        if found <= count:
            yield where, row
    if found != count:
        raise UserError(f"{source}: {what}: expected {count:,} rows, one for each sample, got {found:,}")


def read_scores(path: Path, count: int, kind: str) -> np.ndarray:
    """`image_region_score_{split}.json` -> (count, 75) float16 in [0, 1], P(present).

    The file's name and the paper do not say whether it holds probabilities or logits. kind "prob": anything outside
    of [0, 1] is an error. kind "logit": the sigmoid is taken; a file with nothing outside of [0, 1] is an error.
    """
    scores = np.empty((count, len(ENTITIES)), dtype=np.float16)
    lowest, highest = np.inf, -np.inf
    for i, (where, row) in enumerate(number_rows(json_rows(path), path, "entity scores", count, len(ENTITIES))):
        lowest, highest = min(lowest, row.min()), max(highest, row.max())
        if kind == "prob" and (lowest < 0 or highest > 1):
            entity = np.flatnonzero((row < 0) | (row > 1))[0]
            raise UserError(
                f"{where}: the score of '{ENTITIES[entity]}' is {row[entity]:g}, outside [0, 1]; "
                "if these are logits of P(present), import them with the score kind 'logit'"
            )
        scores[i] = expit(row.astype(np.float64)) if kind == "logit" else row
    if kind == "logit" and lowest >= 0 and highest <= 1:
        raise UserError(f"{path}: every score is in [0, 1], as probabilities are; import it with the score kind 'prob'")
    return scores


def read_indices(rows: Rows, source: Path, what: str, count: int, database: int) -> np.ndarray:
    """Rows of indices into the `database` training samples -> (count, K) int32, as many in each row."""
    result = None
    for i, (where, row) in enumerate(number_rows(rows, source, what, count)):
        if result is None:
            result = np.empty((count, len(row)), dtype=np.int32)
        result[i] = indices_of(where, row, database)
    return result


def clip_indices(annotation: Path) -> dict[str, Any]:
    """The field of that name, which PromptMRG's annotation has, by sample; not checked yet."""
    content = read_json(annotation, "annotation file")
    entries = content if isinstance(content, list) else [entry for part in content.values() for entry in part]
    if not any("clip_indices" in entry for entry in entries):
        raise UserError(f"{annotation}: no field 'clip_indices'; give the files of the memory indices")
    return {str(entry["id"]): entry.get("clip_indices") for entry in entries}


def indices_of(where: str, row: np.ndarray, database: int) -> np.ndarray:
    """The same numbers as int64; UserError where one is no training sample."""
    wrong = (row != np.floor(row)) | (row < 0) | (row >= database)
    if wrong.any():
        raise UserError(f"{where}: {row[wrong][0]:g} is no training sample; they are numbered from 0 to {database - 1}")
    return row.astype(np.int64)


def read_neighbours(path: Path, train: list[Study]) -> np.ndarray:
    """`hash_distance.json` -> (N,) int32: for each training sample the first neighbour of another patient.

    A row is a list of training samples, nearest first, or an object {neighbour: distance} in that order. How many
    nearest ones were of the own patient is printed: a model trained with those was given its own answer.
    """
    nearest = np.empty(len(train), dtype=np.int32)
    first: Counter[str] = Counter()
    count = 0
    for where, value in tqdm(json_rows(path), total=len(train), desc="neighbours", leave=False):
        if count < len(train):
            if isinstance(value, dict):
                value = [int(key) if key.isdecimal() else key for key in value]
            ranked = indices_of(where, number_row(where, value, "neighbours"), len(train)).tolist()
            first[_relation(train, count, ranked[0])] += 1
            others = (row for row in ranked if train[row].patient != train[count].patient)
            if (found := next(others, None)) is None:
                raise UserError(
                    f"{where}: all {len(ranked):,} neighbours are of the sample's own patient; "
                    "import without the file: neighbours are computed then"
                )
            nearest[count] = found
        count += 1
    if count != len(train):
        raise UserError(f"{path}: neighbours: expected {len(train):,} rows, one for each sample, got {count:,}")
    told = ", ".join(f"{first[name]:,} {name}" for name in ("the sample itself", "the same study", "the same patient"))
    print(f"neighbours: of {count:,} nearest ones {told}; the first of another patient is taken")
    return nearest


def _relation(train: list[Study], row: int, other: int) -> str:
    a, b = train[row], train[other]
    if row == other:
        return "the sample itself"
    if a.patient != b.patient:
        return "another patient"
    return "the same study" if a.study_id == b.study_id != "" else "the same patient"


def files_of(root: Path, names: list[str], what: str) -> list[Path]:
    """The .npy file of every image: `<image path>.npy`, or the same without the image's extension."""
    if not root.is_dir():
        raise UserError(f"{what}: folder not found: {root}")
    best: tuple[list[Path], list[Path]] | None = None
    for name_of in (lambda name: f"{name}.npy", lambda name: f"{without_suffix(name)}.npy"):
        files = [root / name_of(name) for name in names]
        missing = [file for file in files if not is_file(file)]
        if not missing:
            return files
        if best is None or len(missing) < len(best[1]):
            best = files, missing
    first = best[1][0]
    raise UserError(
        f"{what}: {len(best[1]):,} of {len(names):,} files are missing, the first is {first} (neither "
        "'<image path>.npy' nor the name without the image's extension); every image of the annotation needs its own"
    )


def load_embeddings(path: Path, rows: int | None = None, width: int | None = None) -> np.ndarray:
    """One .npy file -> (rows, width) finite floats. UserError where it is anything else."""
    array = read_array(path, "a .npy file of numbers is needed")
    shape, expected = getattr(array, "shape", None), f"({rows or 'N'}, {width or 'W'})"
    if shape is None or array.dtype.kind != "f" or len(shape) != 2 or not all(shape):
        raise UserError(f"{path}: expected floats {expected}, got {getattr(array, 'dtype', type(array))} {shape}")
    if shape[0] != (rows or shape[0]) or shape[1] != (width or shape[1]):
        raise UserError(f"{path}: expected {expected}, got {shape}")
    if not np.isfinite(array).all():
        raise UserError(f"{path}: row {np.flatnonzero(~np.isfinite(array).all(axis=1))[0]} is not finite")
    return array


def common_width(local: Path, reference: Path) -> int:
    """W of two files, of local texts and of sentences. UserError where they differ: they must not."""
    width, other = load_embeddings(local, len(ENTITIES)).shape[1], load_embeddings(reference).shape[1]
    if width != other:
        raise UserError(
            f"{reference}: sentences of width {other}, but {local} has local texts of width {width}. The consistency "
            "constraint (Eq. 12) compares both in one space: both must come from one text encoder. Encode the "
            "sentences of the training reports with the encoder of the local texts, and import those"
        )
    return width


def half(where: str | Path, array: np.ndarray) -> np.ndarray:
    """Finite numbers -> float16, an error of at most 2^-11 of the number (or 2^-25). UserError beyond its range."""
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise UserError(f"{where}: {np.abs(array).max():g} is beyond float16 (65,504); no text embedding is that large")
    return rounded


def describe_file(path: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    """For the manifest: what an imported file was."""
    return {"file": path.name, "sha256": sha256(path), "shape": list(shape)}


def describe_tree(root: Path, files: list[Path], shape: tuple[int, ...]) -> dict[str, Any]:
    """The same for a tree: its digest covers names and sizes, as hashing tens of gigabytes would double the reading."""
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.relative_to(root).as_posix()} {file.stat().st_size}\n".encode())
    return {"file": root.name, "sha256": state.hexdigest(), "shape": list(shape)}
