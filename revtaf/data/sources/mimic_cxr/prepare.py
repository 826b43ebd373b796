"""MIMIC-CXR (Johnson et al. 2019) as PhysioNet ships it -> our annotation.

Images, split and views come from MIMIC-CXR-JPG, report texts from MIMIC-CXR. Tables and archive are read in
place, reports one at a time, and the output is written as a stream, so that memory does not grow with the texts.
The default selection is R2Gen's rule: every image of a study with a findings text is a sample.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from revtaf.data.annotations import SPLITS
from revtaf.data.image_names import find_file
from revtaf.data.sources.access import unreadable
from revtaf.data.sources.mimic_cxr.output import Outcome, write_annotation, write_manifest
from revtaf.data.sources.mimic_cxr.reports import Reports, origin, report_name
from revtaf.data.sources.mimic_cxr.selection import OFFICIAL_STUDIES, PROTOCOLS, VIEWS, Samples, select, select_like
from revtaf.data.sources.mimic_cxr.tables import Image, ImagesByStudy, find_table, read_images, read_labels, shown
from revtaf.data.sources.placing import check_kept, check_out, check_place, place_images
from revtaf.data.text import SECTIONS
from revtaf.errors import UserError
from revtaf.files import atomic_write, sha256, write_json

LABELS = ("none", "chexpert", "negbio")
OFFICIAL_IMAGES = {"train": 368_960, "val": 2_991, "test": 5_159}  # MIMIC-CXR-JPG 2.0.0: 377,110
# The released label tables lack a handful of studies, in whose reports the labelers found no section.
_FEW_UNLABELLED, _SHARE_UNLABELLED = 10, 0.01


def prepare_mimic_cxr(
    jpg: Path,
    reports: Path,
    out: Path,
    *,
    protocol: str = "revtaf",
    sections: str | None = None,
    views: str | None = None,
    one_image_per_study: bool | None = None,
    labels: str = "none",
    like: Path | None = None,
    missing: str = "error",
    copy: bool = False,
) -> Path:
    """Write annotation.json, manifest.csv.gz, source.json and images/ in `out`; returns the annotation's path.

    `jpg` is the folder of MIMIC-CXR-JPG (its tables and `files/`), `reports` is `mimic-cxr-reports.zip` or its
    unpacked tree. `protocol` names the samples of a paper, one of PROTOCOLS; what is given of `sections` ("findings" or
    "findings+impression"), `views` and `one_image_per_study` (those of `selection.select`) replaces its own; `labels`
    takes the 14 statuses of PhysioNet's "chexpert" or "negbio" table, a study without a row there being blank in all.
    With `like`, an annotation in R2Gen's form, ids, splits and order are that file's; where our text is empty, that
    file's own report stands in. `missing` "drop" leaves out images that are not there, as after a download of a part,
    where "error" lists them. `copy` copies the images in use instead of linking their folder; a folder `images` that is
    no such copy is never replaced. Raises UserError for every fault of the input. The annotation is there only when all
    is done; the same input gives the same bytes.
    """
    jpg, reports, out, like = Path(jpg), Path(reports), Path(out), Path(like) if like else None
    if protocol not in PROTOCOLS:
        raise UserError(f"--protocol: expected {', '.join(PROTOCOLS)}, got {protocol!r}")
    named = PROTOCOLS[protocol]
    sections = named.sections if sections is None else sections
    views = named.views if views is None else views
    one_image_per_study = named.one_image_per_study if one_image_per_study is None else one_image_per_study
    _check_options(jpg, sections, views, one_image_per_study, labels, like, missing)
    check_out(out, (jpg, jpg / "files", reports, reports / "files"))
    check_kept(out, like, reports)
    check_place(jpg / "files", out / "images", copy)  # refused now, if at all, not after the reports were read
    tables = {"split": find_table(jpg, "split"), "metadata": find_table(jpg, "metadata")}
    if labels != "none":
        tables["labels"] = find_table(jpg, labels)
    studies = read_images(tables["split"], tables["metadata"])
    samples = select_like(like, studies) if like else select(studies, views, one_image_per_study)
    statuses = _statuses(tables["labels"], samples) if labels != "none" else None
    samples, absent = _with_images(jpg / "files", samples, missing)
    with Reports(reports) as texts:
        _check_reports(texts, studies)
        with atomic_write(out / "annotation.json") as annotation:
            outcome = write_annotation(annotation, samples, texts, sections, statuses, absent)
            _check_outcome(outcome, reports, sections, like)
            with atomic_write(out / "manifest.csv.gz") as manifest:
                not_chosen = f"not in {like.name}" if like else "view"
                dropped = write_manifest(manifest, studies, samples, texts, outcome, f"no {sections}", not_chosen)
                # From here on an old annotation would stand beside images and a manifest of another selection.
                (out / "annotation.json").unlink(missing_ok=True)
                paths = sorted({image.path for image in _used_images(samples, outcome.empty)})
                place_images(jpg / "files", out / "images", paths, copy)
            record = {
                "source": "MIMIC-CXR-JPG and MIMIC-CXR reports (PhysioNet)",
                "options": {
                    "protocol": protocol,
                    "sections": sections,
                    "views": views,
                    "one_image_per_study": one_image_per_study,
                    "labels": labels,
                    "like": like.name if like else None,
                    "missing": missing,
                    "images": "copy" if copy else "link",
                },
                "files": {path.name: sha256(path) for path in (*tables.values(), *([like] if like else []))},
                "reports": {"name": reports.name, "bytes": texts.archive_bytes},
                **_counts(studies, outcome, dropped),
                "patients_in_several_splits": _leaks(samples),
            }
            if statuses is not None:
                record["studies_without_labels"] = len(set().union(*outcome.studies.values()) - set(statuses))
            if like:
                record["like"] = {"reports": outcome.compared, "equal": outcome.equal, "given": len(outcome.given)}
            write_json(out / "source.json", record)
    _print(record, out)
    return out / "annotation.json"


def _check_options(
    jpg: Path,
    sections: str,
    views: str,
    one_image_per_study: bool,
    labels: str,
    like: Path | None,
    missing: str,
) -> None:
    choices = (("sections", sections, SECTIONS), ("views", views, VIEWS), ("labels", labels, LABELS))
    for name, value, known in (*choices, ("missing", missing, ("error", "drop"))):
        if value not in known:
            raise UserError(f"--{name}: expected {', '.join(known)}, got {value!r}")
    if like and (views != "all" or one_image_per_study):
        raise UserError(
            f"--like {like} names the images of every sample; leave out --views, --one-image-per-study and "
            "protocols of studies"
        )
    if not (jpg / "files").is_dir():
        raise UserError(f"MIMIC-CXR-JPG not found: {jpg} has no folder files/; docs/data.md says how to get it")


def _statuses(table: Path, samples: Samples) -> dict[str, tuple[int, ...]]:
    statuses = read_labels(table)
    needed = {sample.study_id for found in samples.values() for sample in found}
    if absent := sorted(needed - set(statuses)):
        if len(absent) > max(_FEW_UNLABELLED, _SHARE_UNLABELLED * len(needed)):
            raise UserError(
                f"{table}: {len(absent):,} of {len(needed):,} studies have no row: {shown(absent)}; download it again"
            )
    return statuses


def _with_images(files: Path, samples: Samples, missing: str) -> tuple[Samples, set[str]]:
    """The samples whose images exist, and the dicom ids of those that do not; UserError where they may not be left out,
    and where one is empty, as the rest of a broken download is. A sample keeps those of its images that are there."""
    needed: dict[str, set[str]] = {}
    for image in _used_images(samples):
        needed.setdefault(image.folder, set()).add(f"{image.dicom_id}.jpg")
    absent: list[str] = []
    empty: list[str] = []
    for folder, names in tqdm(needed.items(), desc="looking for images", unit="study"):
        try:
            with os.scandir(files / folder) as entries:
                sizes = {
                    entry.name: entry.stat().st_size for entry in entries if entry.name in names and entry.is_file()
                }
        except (FileNotFoundError, NotADirectoryError):
            sizes = {}
        except OSError as error:
            raise unreadable(files / folder, error) from None
        absent += [f"{folder}/{name}" for name in sorted(names - set(sizes))]
        empty += [f"{folder}/{name}" for name in sorted(sizes) if not sizes[name]]
    absent = [name for name in absent if not find_file(files / name)]  # as JPG or PNG, it is there
    total = sum(map(len, needed.values()))
    if empty:
        raise UserError(f"{files}: {len(empty):,} of {total:,} images are empty: {shown(empty)}; download them again")
    if not absent:
        return samples, set()
    deeper = "; there is a second files/ in it: move its content up" if (files / "files").is_dir() else ""
    if missing == "error" or len(absent) == total:
        part = "; of a part of the set, --like ANNOTATION names the images, and --missing drop leaves the absent out"
        raise UserError(f"{files}: {len(absent):,} of {total:,} images are missing: {shown(absent)}{deeper or part}")
    gone = {name.rsplit("/", 1)[1].removesuffix(".jpg") for name in absent}
    kept: Samples = {}
    for split, found in samples.items():
        there = ((s, tuple(image for image in s.images if image.dicom_id not in gone)) for s in found)
        kept[split] = [replace(sample, images=images) for sample, images in there if images]
    return kept, gone


def _check_reports(texts: Reports, studies: ImagesByStudy) -> None:
    missing = [
        report_name(images[0].subject_id, study_id)
        for study_id, images in tqdm(studies.items(), desc="looking for reports", unit="study")
        if not texts.has(images[0].subject_id, study_id)
    ]
    if missing:
        raise UserError(
            f"{texts.place}: {len(missing):,} of {len(studies):,} reports are missing: {shown(missing)}"
            + origin(texts.place)
        )


def _check_outcome(outcome: Outcome, reports: Path, sections: str, like: Path | None) -> None:
    if like and outcome.unknown:
        raise UserError(
            f"{like}: {len(outcome.unknown):,} of its images have no {sections} in {reports.name} and no report in "
            f"the file either: {shown(sorted(outcome.unknown))}; give their reports or remove their entries"
        )
    if not outcome.samples:
        raise UserError(f"{reports}: no selected study has a text in {sections}")


def _used_images(samples: Samples, without: set[str] = frozenset()) -> Iterator[Image]:
    images = (image for found in samples.values() for sample in found for image in sample.images)
    return (image for image in images if image.dicom_id not in without)


def _counts(studies: ImagesByStudy, outcome: Outcome, dropped: Counter) -> dict[str, dict[str, int]]:
    return {
        "listed_images": _by_split(Counter(image.split for found in studies.values() for image in found)),
        "listed_studies": _by_split(Counter(found[0].split for found in studies.values())),
        "images": _by_split(outcome.images),
        "studies": _by_split({split: len(found) for split, found in outcome.studies.items()}),
        "samples": _by_split(outcome.samples),
        "dropped_images": dict(sorted(dropped.items())),
    }


def _leaks(samples: Samples) -> int:
    """Patients in more than one split: none in the release's own split, some in others that are in use."""
    patients = ({sample.subject_id for sample in found} for found in samples.values())
    return sum(count > 1 for count in Counter(patient for split in patients for patient in split).values())


def _by_split(counts: dict[str, int]) -> dict[str, int]:
    return {split: counts[split] for split in SPLITS if counts.get(split)}


def _print(record: dict, out: Path) -> None:
    """Our counts beside the published ones, by split."""
    protocol = PROTOCOLS[record["options"]["protocol"]]
    published = {protocol.unit: f"the {record['options']['protocol']} protocol's paper: {_told(protocol.published)}"}
    for what, ours, known in (
        ("images listed", record["listed_images"], f"release 2.0.0: {_told(OFFICIAL_IMAGES)}"),
        ("studies listed", record["listed_studies"], f"release 2.0.0: {_told(OFFICIAL_STUDIES)}"),
        ("images selected", record["images"], published.get("images", "")),
        ("studies selected", record["studies"], published.get("studies", "")),
        ("samples", record["samples"], ""),
    ):
        print(f"MIMIC-CXR {what}: {_told(ours)}" + (f"  ({known})" if known else ""))
    for reason, count in record["dropped_images"].items():
        print(f"left out, {reason}: {count:,} images")
    if blank := record.get("studies_without_labels"):
        print(f"{blank:,} studies have no row in the label table: all of their statuses are blank")
    if leaks := record["patients_in_several_splits"]:
        print(f"note: {leaks:,} patients are in more than one split")
    if like := record.get("like"):
        print(f"{like['equal']:,} of {like['reports']:,} reports equal those of {record['options']['like']}")
        if like["given"]:
            print(f"{like['given']:,} images keep the report of that file: no such section was found in the raw one")
    print(f"-> {out}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{split} {counts.get(split, 0):,}" for split in SPLITS)
