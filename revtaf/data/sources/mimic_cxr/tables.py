"""The tables of MIMIC-CXR-JPG (Johnson et al. 2019): which images exist, of whom, from where, with which labels.

They are read in place, packed or not. One small record per image stays in memory, 377,110 in the release.
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from revtaf.data.annotations import SPLITS
from revtaf.data.sources.access import SHOWN, names_in
from revtaf.data.sources.views import FRONTAL, view_of
from revtaf.errors import UserError
from revtaf.labels import BLANK, CHEXPERT_CATEGORIES, NEGATIVE, POSITIVE, UNCERTAIN

SPLIT_NAMES = dict(zip(("train", "validate", "test"), SPLITS, strict=True))
_STATUSES = {1.0: POSITIVE, 0.0: NEGATIVE, -1.0: UNCERTAIN}
_NUMBER = re.compile(r"\d{8}")
_DICOM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")


@dataclass(frozen=True, slots=True)
class Image:
    """One radiograph. `view` is the table's ViewPosition in capitals, empty where it is not known."""

    dicom_id: str
    study_id: str
    subject_id: str
    split: str
    view: str

    @property
    def folder(self) -> str:
        """Where the study's images stand below `files/`."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}"

    @property
    def path(self) -> str:
        """The file below `files/`: pNN/pNNNNNNNN/sNNNNNNNN/DICOM_ID.jpg."""
        return f"{self.folder}/{self.dicom_id}.jpg"

    @property
    def frontal(self) -> bool:
        """Whether the view begins with AP or PA; False where none is known."""
        return view_of(self.view) == FRONTAL


ImagesByStudy = dict[str, list[Image]]


def find_table(folder: Path, name: str) -> Path:
    """The one `mimic-cxr-VERSION-name.csv.gz`, or unpacked `.csv`, in the folder. Raises UserError otherwise."""
    held = names_in(folder)
    found = sorted(n for ending in ("csv.gz", "csv") for n in fnmatch.filter(held, f"mimic-cxr-*-{name}.{ending}"))
    if len(found) != 1:
        held = f"found {', '.join(found)}; keep one" if found else "found none; download it"
        raise UserError(f"{folder}: expected one table mimic-cxr-*-{name}.csv.gz, {held}")
    return folder / found[0]


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield ("FILE, line N", the named columns) for every row of a CSV file, packed or not.

    Blank lines are skipped. Raises UserError where a column is absent, a row has another length than the header, or
    the file is damaged.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if absent := [name for name in columns if name not in header]:
                held = ", ".join(header) or "nothing"
                raise UserError(f"{path}: the column {absent[0]!r} is missing; it has: {held}")
            wanted = [header.index(name) for name in columns]
            for row in filter(None, rows):
                where = f"{path}, line {rows.line_num}"
                if len(row) != len(header):
                    raise UserError(f"{where}: expected {len(header)} values, got {len(row)}; download the file again")
                yield where, [row[i].strip() for i in wanted]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged or half-downloaded ({error}); download it again") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV table ({error}); download it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def read_images(split_table: Path, metadata: Path) -> ImagesByStudy:
    """The images by study id: studies as the split table orders them, their images as the metadata does."""
    views: dict[str, tuple[int, str]] = {}
    for where, (dicom_id, view) in read_rows(metadata, ("dicom_id", "ViewPosition")):
        if dicom_id in views:
            raise UserError(f"{where}: the dicom_id {dicom_id} appears twice")
        views[dicom_id] = len(views), sys.intern(view.upper())

    images: ImagesByStudy = {}
    seen: set[str] = set()
    without_view: list[str] = []
    for where, row in read_rows(split_table, ("dicom_id", "study_id", "subject_id", "split")):
        dicom_id, study_id, subject_id = _ids(where, *row[:3])
        if dicom_id in seen:
            raise UserError(f"{where}: the dicom_id {dicom_id} appears twice")
        if row[3] not in SPLIT_NAMES:
            raise UserError(f"{where}: column 'split': expected {', '.join(SPLIT_NAMES)}, got {row[3]!r}")
        seen.add(dicom_id)
        if dicom_id not in views:
            without_view.append(dicom_id)
            continue
        image = Image(dicom_id, study_id, subject_id, SPLIT_NAMES[row[3]], views[dicom_id][1])
        first = images.setdefault(study_id, [image])[0]
        if (first.subject_id, first.split) != (image.subject_id, image.split):
            raise UserError(f"{where}: the study {study_id} has another subject_id or split in an earlier row")
        if first is not image:
            images[study_id].append(image)
    if without_view:
        raise UserError(
            f"{metadata}: lacks {len(without_view):,} images of {split_table.name}: {shown(without_view)}; "
            "use tables of one release"
        )
    if not images:
        raise UserError(f"{split_table}: no image in it; download it again")
    if without_split := [dicom_id for dicom_id in views if dicom_id not in seen]:  # cut off at the end of a line
        raise UserError(
            f"{split_table}: lacks {len(without_split):,} images of {metadata.name}: {shown(without_split)}; "
            "download it again, and use tables of one release"
        )
    for found in images.values():
        found.sort(key=lambda image: views[image.dicom_id][0])
    return images


def read_labels(path: Path) -> dict[str, tuple[int, ...]]:
    """The 14 statuses of every study in the table, in the order of `CHEXPERT_CATEGORIES`."""
    columns = ("subject_id", "study_id", *(category.title() for category in CHEXPERT_CATEGORIES))
    labels: dict[str, tuple[int, ...]] = {}
    alike: dict[tuple[int, ...], tuple[int, ...]] = {}  # few combinations exist; each is kept once
    for where, (subject_id, study_id, *values) in read_rows(path, columns):
        _number(where, "subject_id", subject_id)
        if _number(where, "study_id", study_id) in labels:
            raise UserError(f"{where}: the study {study_id} appears twice")
        statuses = tuple(_status(where, *item) for item in zip(columns[2:], values, strict=True))
        labels[study_id] = alike.setdefault(statuses, statuses)
    return labels


def shown(names: list[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _status(where: str, column: str, value: str) -> int:
    if not value:
        return BLANK
    try:
        return _STATUSES[float(value)]
    except (ValueError, KeyError):
        raise UserError(f"{where}: column {column!r}: expected 1.0, 0.0, -1.0 or nothing, got {value!r}") from None


def _ids(where: str, dicom_id: str, study_id: str, subject_id: str) -> tuple[str, str, str]:
    if not _DICOM.fullmatch(dicom_id):
        raise UserError(f"{where}: column 'dicom_id': expected five groups of eight hex digits, got {dicom_id!r}")
    subject_id, study_id = _number(where, "subject_id", subject_id), _number(where, "study_id", study_id)
    return dicom_id, sys.intern(study_id), sys.intern(subject_id)


def _number(where: str, column: str, value: str) -> str:
    if not _NUMBER.fullmatch(value):
        raise UserError(f"{where}: column {column!r}: expected a number of eight digits, got {value!r}")
    return value
