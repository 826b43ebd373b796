"""IU X-Ray from Open-i's raw files: which studies are used, in which split, with which text and images.

Study ids are R2Gen's ("CXR2384_IM-0942"). A study without an image or without a text in the chosen sections is dropped
and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from revtaf.data.annotations import SPLITS, Annotations, Study
from revtaf.data.sources.access import check_missing
from revtaf.data.sources.iu_xray.open_i import (
    ARCHIVES,
    FOLDER,
    OpenIReport,
    find_images,
    frontal_first,
    read_open_i,
    read_projections,
    view,
)
from revtaf.data.sources.iu_xray.r2gen import SHOWN, check_id, read_splits
from revtaf.data.sources.manifest import packed_rows
from revtaf.data.sources.splits import random_split
from revtaf.data.sources.views import FRONTAL
from revtaf.data.text import says_nothing
from revtaf.errors import UserError
from revtaf.files import atomic_write, digest, sha256

MANIFEST_COLUMNS = "id images findings impression indication comparison mesh_major mesh_automatic split".split()
# The blank before the mark goes with it where a blank, punctuation or the end follows.
_REMOVED_WORD = re.compile(r"\s+XXXX(?=[\s.,;:)]|$)|XXXX")


class RawStudy(NamedTuple):
    """A study that is kept: split, report as published, and the texts and images that the annotation takes."""

    split: str
    original: OpenIReport
    report: str
    indication: str
    images: tuple[str, ...]  # file names, frontal first


def read_raw(
    source: Path,
    split: str,
    test: Path | None,
    seed: int,
    blanks: str,
    sections: str,
    missing: str,
    projections: Path | None,
) -> tuple[list[RawStudy], Path, dict[str, Any]]:
    """The studies of `source`, its image folder, and a record of what was read; options as in `prepare_iu_xray`."""
    reports, archive = read_open_i(source)
    if archive is None:
        places = f"{', '.join(ARCHIVES)} or {FOLDER}/"
        raise UserError(f"{source}: no Open-i reports in it; expected {places}; docs/data.md says how to get them")
    splits, split_record = _assign_splits(reports, archive, split, test, seed)
    images, files = find_images(source)
    views = _read_views(projections, reports, archive)

    studies, dropped, absent, total, frontal = [], Counter(), [], 0, 0
    for number, part in splits.items():
        original = reports[number]
        texts = (original.findings, original.impression, original.indication)
        report, impression, indication = map(drop_blanks, texts) if blanks == "drop" else texts
        report, told = ("" if says_nothing(text) else text for text in (report, impression))
        if sections == "findings+impression":  # either may be absent, as in MIMIC-CXR
            report = f"{report} {told}".strip()
        if not original.images or not report:
            dropped[f"without {sections}" if original.images else "without images"] += 1
            continue
        present = [image for image in frontal_first(original.images, views) if image.key in files]
        absent += [image.name for image in original.images if image.key not in files]
        total += len(original.images)
        if not present:
            dropped["without an image file"] += 1
            continue
        frontal += view(present[0], views) == FRONTAL
        studies.append(RawStudy(part, original, report, indication, tuple(files[image.key] for image in present)))
    if not studies:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        raise UserError(
            f"{images}: no study of {archive} is left ({told}); expected images named CXR1_1_IM-0001-3001.png or "
            "2384_IM-0942-1001.jpg (R2Gen's 0.png and 1.png do not tell which image they are)"
        )
    if missing == "error":
        check_missing(images, absent, total, "; get them, or leave them out with --missing drop")
    if absent:
        print(f"left out {len(absent):,} of {total:,} images that are not in {images}")
    for reason, count in sorted(dropped.items()):
        print(f"dropped {count:,} studies {reason}")
    record = {
        "open_i_digest": digest([reports[number] for number in sorted(reports)]),  # packed or not, the same
        "split": split_record,
        "blanks": blanks,
        "sections": sections,
        "projections_sha256": sha256(projections) if projections else None,
        "first_image_known_frontal": frontal,
        "missing_images": len(absent),
        "dropped": dict(sorted(dropped.items())),
    }
    return studies, images, record


def _assign_splits(
    reports: dict[str, OpenIReport], archive: Path, split: str, test: Path | None, seed: int
) -> tuple[dict[str, str], dict[str, Any]]:
    """The split of each report that is used, by number, and a record of it."""
    if split not in ("whole", "random"):
        return _splits_of_file(reports, archive, Path(split), test)
    if test is not None:
        raise UserError(f"--test {test}: with --split {split} the test split is made here; leave --test out")
    numbers = sorted(reports, key=lambda number: int(number[3:]))
    if split == "whole":
        return dict.fromkeys(numbers, "test"), {"kind": split}
    return {number: random_split(number, seed) for number in numbers}, {"kind": split, "seed": seed}


def _splits_of_file(
    reports: dict[str, OpenIReport], archive: Path, path: Path, test: Path | None
) -> tuple[dict[str, str], dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"--split {path}: expected whole, random or an R2Gen annotation file; there is no such file")
    entries = read_splits(path, test, check_id)
    known = {name: report for report in reports.values() for name in (report.number, report.study_id)}
    splits: dict[str, str] = {}
    absent, reworded, count = [], [], 0
    for split, entry in ((split, entry) for split, part in entries.items() for entry in part):
        count += 1
        report = known.get(entry["id"])
        if report is None:
            absent.append(entry["id"])
            continue
        if report.number in splits:
            raise UserError(f"{path}: {entry['id']}: {report.number} appears twice; each report belongs to one split")
        splits[report.number] = split
        if " ".join(entry["report"].split()) != report.findings:
            reworded.append(entry["id"])
    if not splits:
        raise UserError(f"{path}: none of its {count} ids is in {archive}; name the annotation of this collection")
    for what, ids in (("ids are not in", absent), ("texts differ from", reworded)):
        shown = f" ({', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''})" if ids else ""
        print(f"{path}: {len(ids):,} of {count:,} {what} {archive}{shown}")
    return splits, {"kind": "file", "sha256": sha256(path), "absent": len(absent), "reworded": len(reworded)}


def _read_views(projections: Path | None, reports: dict[str, OpenIReport], archive: Path) -> dict[str, int]:
    if projections is None:
        return {}
    views = read_projections(projections)
    if not any(image.key in views for report in reports.values() for image in report.images):
        raise UserError(f"{projections}: names no image of {archive}; expected Kaggle's indiana_projections.csv")
    return views


def drop_blanks(text: str) -> str:
    """Without the `XXXX` that stand for removed words; empty where nothing but punctuation is left."""
    text = " ".join(_REMOVED_WORD.sub("", text).split())
    return text if re.search(r"\w", text) else ""


def raw_annotations(studies: list[RawStudy]) -> Annotations:
    """The annotation, by split; the number of a report stands for its patient. Empty splits are left out."""
    annotations: Annotations = {split: [] for split in SPLITS}
    for study in studies:
        sample, number = study.original.study_id, study.original.number
        entry = Study(
            sample, study.images, study.report, subject_id=number, study_id=sample, indication=study.indication
        )
        annotations[study.split].append(entry)
    return {split: entries for split, entries in annotations.items() if entries}


def write_manifest(path: Path, studies: list[RawStudy]) -> None:
    """One row of MANIFEST_COLUMNS per study; images and MeSH terms joined by ";". The same bytes on every run."""
    with atomic_write(path) as partial, packed_rows(partial) as rows:
        rows.writerow(MANIFEST_COLUMNS)
        for split, original, _, _, images in studies:
            texts = (original.findings, original.impression, original.indication, original.comparison)
            terms = (";".join(original.mesh_major), ";".join(original.mesh_automatic))
            rows.writerow((original.study_id, ";".join(images), *texts, *terms, split))
