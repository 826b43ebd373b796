"""Any data set whose images and reports stand in a table -> our annotation: CSV, JSON, JSON Lines, or Parquet."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from revtaf.data.annotations import SPLITS, Annotations, save_annotations
from revtaf.data.image_names import ImageNames, difference
from revtaf.data.sources.access import check_missing, inside
from revtaf.data.sources.manifest import packed_rows
from revtaf.data.sources.placing import check_kept, check_out, check_place, place_images
from revtaf.data.sources.table.presets import NONE, PRESETS, Columns, columns_of
from revtaf.data.sources.table.rows import Rows, check_columns, join_rows, read_tables
from revtaf.data.sources.table.studies import RANDOM, WHOLE, TableStudy, deal, gather
from revtaf.data.sources.views import FRONTAL
from revtaf.errors import UserError
from revtaf.files import atomic_write, real_path, sha256, write_json
from revtaf.knowledge import english

VIEWS = ("all", "frontal")
MANIFEST_COLUMNS = ("id", "subject_id", "study_id", "split", "selected", "images", "where")


def prepare_table(
    csv: list[Path],
    images: Path,
    out: Path,
    preset: str | None = None,
    join: Path | None = None,
    split: str | None = None,
    seed: int = 0,
    views: str = "all",
    labels: str | None = None,
    missing: str = "error",
    encoding: str = "utf-8",
    copy: bool = False,
    **columns: str | list[str] | None,
) -> Path:
    """Write annotation.json, manifest.csv.gz, source.json and images/ in `out`; returns the annotation's path.

    csv: one table, or several that are a split each by their names. join: a table joined by the column `on`.
    columns: the names of `revtaf.data.sources.table.presets.Columns` that are given; a preset has the others.
    split: a column; "whole", all is test; "random", by patient with `seed`, which is what nothing means, too. A study
    without a split is dealt by its patient. labels: "chexpert" or "ours", in which codes the tables hold statuses, one
    column a category or a list in `labels`. views: "frontal" leaves the other images out. missing: "drop" leaves out
    images that are not there. encoding: of CSV and JSON.

    A study without an image, or whose report says nothing, is dropped and counted. Everything is checked before the
    first byte is written; the same input gives the same bytes. Raises UserError.
    """
    csv, images, out, join = [Path(path) for path in csv], Path(images), Path(out), Path(join) if join else None
    how = split if split in (WHOLE, RANDOM) else None
    chosen = columns_of(preset, split=NONE if how else split, **columns)
    if not images.is_dir():
        raise UserError(f"--images: folder not found: {images}")
    check_out(out, (images,))
    check_kept(out, *csv, join)
    rows, table_splits = read_tables(csv, encoding)
    counted: Counter[str] = Counter()
    if join or preset == "indiana":
        rows, counted["rows without a partner in --join"] = _joined(rows, join, chosen, encoding)
    if table_splits and chosen.split:
        raise UserError(f"--split {chosen.split}: several tables are a split each, by their names; give one of both")
    check_columns(rows, chosen, preset)
    if views == "frontal" and not chosen.view:
        raise UserError("--views frontal needs --view, the column that tells which images are frontal")
    studies = gather(rows, chosen, table_splits if how is None else {}, labels)
    if not chosen.patient:
        print(f"no column of patients (--patient): each {'study' if chosen.study else 'row'} counts as one of its own")
    selected = _select(studies, images, chosen, views, missing, counted)
    kept = [item for item in studies if selected[item.study.id] == "yes"]
    if not kept:
        raise UserError(f"{csv[0]}: no study is left: {dict(Counter(selected.values()))}")
    dealt = deal(kept, how or RANDOM, seed)
    annotations: Annotations = {name: [i.study for i in kept if i.split == name] for name in SPLITS}
    annotations = {name: found for name, found in annotations.items() if found}

    paths = [path for item in kept for path in item.study.image_path]
    check_place(images, out / "images", copy)
    # The annotation goes first and comes last: after an interruption, an old one never stands beside new files.
    (out / "annotation.json").unlink(missing_ok=True)
    place_images(images, out / "images", paths, copy)
    _write_manifest(out / "manifest.csv.gz", studies, selected)
    dropped = Counter(reason for reason in selected.values() if reason != "yes")
    record = {
        "source": "table",
        "preset": preset,
        "columns": {name: value for name, value in vars(chosen).items() if value and name != "note"},
        "files": {path.name: sha256(path) for path in (*csv, *([join] if join else []))},
        "split": {"kind": how or ("column" if chosen.split else "file" if table_splits else RANDOM), "seed": seed},
        "dealt_studies": dealt,
        "options": {"views": views, "labels": labels, "missing": missing, "images": "copy" if copy else "link"},
        "studies": {name: len(found) for name, found in annotations.items()},
        "dropped": dict(sorted(dropped.items())),
        "counted": {name: count for name, count in sorted(counted.items()) if count},
        "patients_in_several_splits": _leaks(annotations),
    }
    reading = english.read([item.study.report for item in kept])
    if reading.foreign:
        record["words_known_to_labelers"] = round(reading.share, 3)
    write_json(out / "source.json", record)
    save_annotations(out / "annotation.json", annotations)
    notes = [PRESETS[preset].note] if preset and PRESETS[preset].note else []
    if reading.foreign:
        notes.append(f"{reading.refusal(str(csv[0]))}. Train with {english.WAYS_OUT}")
    _print(record, notes, out)
    return out / "annotation.json"


def _joined(rows: Rows, join: Path | None, columns: Columns, encoding: str) -> tuple[Rows, int]:
    if join is None:
        raise UserError("--preset indiana: the reports name no files; add --join indiana_projections.csv")
    if not columns.on:
        raise UserError(f"--join {join}: name the column that both tables share, with --on")
    return join_rows(rows, join, columns.on, encoding)


def _select(
    studies: list[TableStudy], images: Path, columns: Columns, views: str, missing: str, counted: Counter[str]
) -> dict[str, str]:
    """id -> "yes" or why not; the files of those that are kept are found and put in, frontal ones first."""
    names = ImageNames(images)
    selected: dict[str, str] = {}
    absent: list[str] = []
    renamed: dict[str, str] = {}
    total = 0
    for item in tqdm(studies, desc="looking for images", unit="study", leave=False):
        wanted = [image for image in item.images if views == "all" or image[0] == FRONTAL]
        if not item.images or not wanted or not item.study.report:
            no_text = f"without {' or '.join(columns.report)}"
            selected[item.study.id] = no_text if not item.study.report else "without a frontal image"
            selected[item.study.id] = "without an image" if not item.images else selected[item.study.id]
            continue
        found = []
        for _, folder, name in sorted(wanted, key=lambda image: image[0]):
            total += 1
            asked, path = _find(item.where, names, images, folder, name)
            if path is None or not (images / path).stat().st_size:
                absent.append(asked if path is None else f"{asked} (empty)")
                continue
            found.append(path)
            if path != asked and len(path.split("/")) == len(asked.replace("\\", "/").split("/")):
                renamed[asked] = path
        selected[item.study.id] = "yes" if found else "without an image file"
        item.study = replace(item.study, image_path=tuple(dict.fromkeys(found)))
    counted["images that are not there"], counted["images named otherwise"] = len(absent), len(renamed)
    if missing == "error":
        fix = "; get them, leave them out with --missing drop, or say with --strip what the names begin with in vain"
        check_missing(images, absent, total, fix)
    if renamed:
        asked, path = next(iter(renamed.items()))
        print(f"{len(renamed):,} images are named otherwise on disk, such as {asked} ({difference(asked, path)})")
    return selected


def _find(where: str, names: ImageNames, images: Path, folder: str, name: str) -> tuple[str, str | None]:
    """What the table asks for, below the image folder, and the file; a folder's column may not be on the disk."""
    for root in {str(images), str(real_path(images))}:
        name = name.removeprefix(f"{root.rstrip('/')}/")
    if not inside(name.replace("\\", "/")) or not inside(f"x/{folder}"):
        raise UserError(
            f"{where}: the image {name!r} is not below --images {images}; take its beginning off with --strip"
        )
    asked = f"{folder}/{name}" if folder else name
    return asked, names.find(asked) or (names.find(name) if folder else None)


def _write_manifest(path: Path, studies: list[TableStudy], selected: dict[str, str]) -> None:
    """One row for every study of the table: what became of it."""
    with atomic_write(path) as partial, packed_rows(partial) as rows:
        rows.writerow(MANIFEST_COLUMNS)
        for item in studies:
            listed = item.study.image_path or [name for _, _, name in item.images]
            ids = (item.study.id, item.study.subject_id, item.study.study_id)
            rows.writerow((*ids, item.split, selected[item.study.id], ";".join(listed), item.where))


def _leaks(annotations: Annotations) -> int:
    """Patients in more than one split."""
    patients = ({study.patient for study in studies} for studies in annotations.values())
    return sum(count > 1 for count in Counter(patient for split in patients for patient in split).values())


def _print(record: dict, notes: list[str], out: Path) -> None:
    for reason, count in record["dropped"].items():
        print(f"dropped {count:,} studies {reason}")
    for what, count in record["counted"].items():
        if what != "images named otherwise":
            print(f"left out {count:,} {what}")
    if leaks := record["patients_in_several_splits"]:
        print(f"note: {leaks:,} patients are in more than one split")
    if absent := [split for split in SPLITS if split not in record["studies"]]:
        print(f"note: no study in {' and '.join(absent)}")
    for note in notes:
        print(f"note: {note}")
    dealt = f", {record['dealt_studies']:,} dealt by patient" if record["dealt_studies"] else ""
    print("table: " + ", ".join(f"{name} {n:,}" for name, n in record["studies"].items()) + f"{dealt} -> {out}")
