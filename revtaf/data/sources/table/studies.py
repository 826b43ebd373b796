"""Rows of a table -> studies: which rows are one study, what it says, and in which split its patient is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import PurePath

from revtaf.data.annotations import SPLITS, Study
from revtaf.data.image_names import without_suffix
from revtaf.data.sources.splits import random_split
from revtaf.data.sources.table.presets import Columns
from revtaf.data.sources.table.rows import Row, Rows, list_of, name_of, split_of, table_of, text_of
from revtaf.data.sources.views import UNKNOWN, view_of
from revtaf.data.text import says_nothing
from revtaf.errors import UserError
from revtaf.eval.labels_file import statuses_of
from revtaf.labels import BLANK, CATEGORIES, STATUSES

WHOLE, RANDOM = "whole", "random"  # in place of a column of splits: all is test, or dealt by patient
SEEDS_TRIED = 10_000


@dataclass
class TableStudy:
    """A study as its rows tell it. images: (view, folder, name) of each image, as the table names them.

    split: "" where no row says one. study.image_path is filled when the files have been found.
    told_in: for each status, the row that it is from.
    """

    where: str  # of its first row
    study: Study
    split: str
    images: list[tuple[int, str, str]] = field(default_factory=list)
    told_in: tuple[str, ...] = ()


def gather(rows: Rows, columns: Columns, table_splits: dict[str, str], codes: str | None) -> list[TableStudy]:
    """One `TableStudy` for every study, in the order of their first rows; without a study column, one for every row.

    table_splits: the split of each table where there are several. codes: of the statuses in the table; None: not read.
    Rows of a study must agree in patient, report, split and every status; empty cells and blank agree with all. Raises
    UserError.
    """
    found: dict[str, TableStudy] = {}
    for where, row in rows:
        read = _read(where, row, columns, table_splits, codes)
        key = read.study.study_id or where
        earlier = found.setdefault(key, read)
        if earlier is not read:
            found[key] = _merged(earlier, read)
    studies = list(found.values())
    ids: dict[str, str] = {}
    for item in studies:
        if not item.study.id:
            item.study = replace(item.study, id=_image_id(item))
        sample = item.study.id
        if sample in ids:
            raise UserError(
                f"{item.where}: the id {sample!r} is that of {ids[sample]} too; where several rows are images of one "
                "study, name what they share with --study COLUMN, else --id COLUMN"
            )
        ids[sample] = item.where
    return studies


def deal(studies: list[TableStudy], how: str, seed: int) -> int:
    """Give every study without a split one; returns how many were dealt out.

    how: WHOLE, all is test; else a patient is in the split of another row of theirs, or dealt out by `random_split`.
    Where no row names a split, each of the three must get a patient: UserError names a seed that does it.
    """
    waiting = [item for item in studies if not item.split]
    known = {item.study.patient: item.split for item in reversed(studies) if item.split}
    for item in waiting:
        item.split = "test" if how == WHOLE else known.get(item.study.patient) or random_split(item.study.patient, seed)
    if how != WHOLE and waiting and not known:
        patients = {item.study.patient for item in studies}
        if len({random_split(patient, seed) for patient in patients}) < len(SPLITS):
            raise UserError(_other_seed(patients, seed))
    return 0 if how == WHOLE else len(waiting)


def _other_seed(patients: set[str], seed: int) -> str:
    fills = (s for s in range(SEEDS_TRIED) if {random_split(patient, s) for patient in patients} == set(SPLITS))
    fix = "give more patients, or a column of splits with --split"
    if len(patients) >= len(SPLITS) and (other := next(fills, None)) is not None:
        fix = f"--seed {other} does, or give a column of splits with --split"
    return f"--seed {seed} deals {len(patients)} patients so that not each of {', '.join(SPLITS)} gets one; {fix}"


def _read(where: str, row: Row, columns: Columns, table_splits: dict[str, str], codes: str | None) -> TableStudy:
    def cell(column: str) -> str:
        return text_of(row.get(column)) if column else ""

    def name(column: str) -> str:
        return name_of(row.get(column)) if column else ""

    parts = [name(column) for column in columns.study]
    study = "_".join(parts) if parts and all(parts) else ""
    texts = (cell(column) for column in columns.report)
    told = {part: cell(getattr(columns, part)) for part in ("indication", "impression")}
    statuses = () if codes is None else tuple(map(int, statuses_of(where, _with_list(where, row), codes)))
    return TableStudy(
        where,
        Study(
            id=name(columns.id) or study,
            image_path=(),
            report=" ".join(text for text in texts if not says_nothing(text)),
            labels=statuses,
            subject_id=name(columns.patient),
            study_id=study,
            **{
                part: "" if says_nothing(text) or getattr(columns, part) in columns.report else text
                for part, text in told.items()
            },
        ),
        table_splits.get(table_of(row)) or split_of(where, columns.split, cell(columns.split)),
        list(_images(where, row, columns)),
        (where,) * len(statuses),
    )


def _images(where: str, row: Row, columns: Columns):
    folder = text_of(row.get(columns.folder)) if columns.folder else ""
    for column in columns.image:
        names = list_of(where, column, row.get(column))
        views = list_of(where, columns.view, row.get(columns.view)) if columns.view else []
        if len(views) != len(names):  # one view for all, or not told image by image
            views = views * len(names) if len(views) == 1 else [""] * len(names)
        for name, view in zip(names, views, strict=True):
            if name := text_of(name).removeprefix(columns.strip):
                yield (view_of(text_of(view)) if columns.view else UNKNOWN), folder, name


def _with_list(where: str, row: Row) -> Row:
    return row if "labels" not in row else {**row, "labels": list_of(where, "labels", row["labels"])}


def _merged(first: TableStudy, other: TableStudy) -> TableStudy:
    """Two rows of one study: what the first leaves out is the other's; its images come behind."""
    named = f"the study {first.study.study_id!r}, begun in {first.where},"
    for name in ("subject_id", "report"):
        a, b = getattr(first.study, name), getattr(other.study, name)
        if a and b and a.split() != b.split():
            what, fix = ("patient", " PATIENT_COLUMN STUDY_COLUMN") if name == "subject_id" else ("report", " COLUMN")
            raise UserError(
                f"{other.where}: {named} has another {what} here; name what tells the studies apart: --study{fix}"
            )
    if first.split and other.split and first.split != other.split:
        raise UserError(f"{other.where}: {named} is in split {first.split!r}, here in {other.split!r}; keep one")
    filled = {
        name: getattr(first.study, name) or getattr(other.study, name)
        for name in ("report", "subject_id", "indication", "impression")
    }
    labels, told_in = _merged_statuses(first, other)
    study = replace(first.study, labels=labels, **filled)
    return TableStudy(first.where, study, first.split or other.split, first.images + other.images, told_in)


def _merged_statuses(first: TableStudy, other: TableStudy) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The statuses of both, a blank giving way to what the other row says, and the row that each is from."""
    labels, told_in = [], []
    pairs = zip_longest(first.study.labels, other.study.labels, fillvalue=BLANK)  # 14 and 18
    rows = zip_longest(first.told_in, other.told_in, fillvalue=other.where)
    for category, (a, b), (row_of_a, row_of_b) in zip(CATEGORIES, pairs, rows, strict=False):
        if a and b and a != b:
            raise UserError(
                f"{row_of_b}: the study {first.study.study_id!r} has {category} {STATUSES[b]} here, and {STATUSES[a]} "
                f"in {row_of_a}; keep one, or name what tells the studies apart: --study COLUMN"
            )
        labels.append(a or b)
        told_in.append(row_of_a if a else row_of_b)
    return tuple(labels), tuple(told_in)


def _image_id(item: TableStudy) -> str:
    """What names a study that has no id and no study: its first image, without the ending."""
    if not item.images:
        return item.where
    _, folder, name = item.images[0]
    path = f"{folder}/{name}" if folder else name
    return without_suffix(str(PurePath(path))) if PurePath(path).name else name
