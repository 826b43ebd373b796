"""IU X-Ray (Open-i, Demner-Fushman et al. 2016) with R2Gen's split -> our annotation.

The source is a folder with R2Gen's `annotation.json` and `images/`, in either of the two layouts in use: flat
("2384_IM-0942-1001.jpg") or one folder per study ("CXR2384_IM-0942/0.png"). Where the original Open-i XML
lies beside them (`ecgen-radiology.tgz` or `ecgen-radiology/`), it fills missing indications and checks
numbers and texts; the archive is read in place and nothing of it is ever extracted.
Open-i numbers reports, not patients: "CXR2384" is the best patient key that exists.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from revtaf.data.annotations import SPLITS, Annotations, Study, save_annotations
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, write_json
from revtaf.labels import CATEGORIES

ARCHIVE = "ecgen-radiology"
SHOWN = 5  # examples in a message, after the count
MAX_XML_BYTES = 1 << 20  # a report is about 10 kB; more is not an Open-i report
_ID = re.compile(r"(CXR\d+)(?:_(.+))?")
_MEMBER = re.compile(r"(?:\./)?(?:[\w-]+/)*\d+\.xml")


Splits = dict[str, list[dict[str, Any]]]


class OpenIReport(NamedTuple):
    findings: str
    indication: str
    images: tuple[str, ...]  # such as "CXR1_1_IM-0001-3001"


def prepare_iu_xray(
    source: Path,
    out: Path,
    labeler: Any,
    annotation: Path | None = None,
    test: Path | None = None,
    copy: bool = False,
) -> Path:
    """Check the source, label its reports and write `out/annotation.json`; returns that path.

    `labeler.label(reports)` gives (N, 18) statuses, `labeler.name` says who gave them.
    `annotation` replaces `source/annotation.json`; `test` is a file with the test split (a list, or an object
    with "test") where the source lacks it. `out/images` becomes a link to the source's images, or a copy of
    those in use with `copy`. Everything is checked before the first byte is written.
    """
    source, out = Path(source), Path(out)
    annotation = Path(annotation) if annotation else source / "annotation.json"
    if not source.is_dir():
        raise UserError(f"IU X-Ray source folder not found: {source}; docs/data.md says how to get it")
    if out.resolve() == source.resolve() or annotation.resolve() == (out / "annotation.json").resolve():
        raise UserError(f"--out {out} is the source: its annotation would be lost; name another folder")
    splits, dropped = _read_splits(annotation)
    if test is not None:
        extra, extra_dropped = _read_splits(Path(test))
        if "test" in splits or "test" not in extra:
            raise UserError(f"{annotation} and {test}: expected a test split in the second one only")
        splits["test"], dropped = extra["test"], dropped + extra_dropped
    if not splits:
        raise UserError(f"{annotation}: no study with a report in it")
    counted = Counter(study["id"] for studies in splits.values() for study in studies)
    if twice := [sample for sample, n in counted.items() if n > 1]:
        raise UserError(f"{annotation}: ids must be unique; more than once: {', '.join(twice[:SHOWN])}")
    paths = [path for studies in splits.values() for study in studies for path in study["image_path"]]
    _check_images(source / "images", paths)
    reports, archive = read_open_i(source)
    agreement = _compare(splits, reports, archive) if archive else None
    annotations = _annotations(splits, reports, labeler)

    place_images(source / "images", out / "images", paths, copy)
    save_annotations(out / "annotation.json", annotations)
    counts = {split: len(studies) for split, studies in annotations.items()}
    record = {
        "source": "IU X-Ray (Open-i)",
        "labeler": str(getattr(labeler, "name", type(labeler).__name__)),
        "annotation_sha256": hashlib.sha256(annotation.read_bytes()).hexdigest(),
        "studies": counts,
        "dropped_empty_reports": dropped,
        "images": "copy" if copy else "link",
        "open_i": agreement,
    }
    write_json(out / "source.json", record)
    if dropped:
        print(f"dropped {dropped} studies without a report")
    print("IU X-Ray: " + ", ".join(f"{split} {n:,}" for split, n in counts.items()) + f" -> {out}")
    return out / "annotation.json"


def _read_splits(path: Path) -> tuple[Splits, int]:
    """Studies by split, without those that have no report, and how many those were."""
    content = read_json(path, "IU X-Ray annotation")
    if isinstance(content, list):  # a flat list: each entry may name its split, else it is a test study
        grouped: dict[str, list] = {}
        for entry in content:
            split = entry.get("split", "test") if isinstance(entry, dict) else "test"
            grouped.setdefault(str(split), []).append(entry)
        content = grouped
    if not isinstance(content, dict) or not set(content) <= set(SPLITS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: expected lists named train, val, test, got {found}")
    splits, dropped = {}, 0
    for split in (s for s in SPLITS if s in content):
        if not isinstance(content[split], list):
            raise UserError(f"{path}: split '{split}': expected a list of studies")
        where = f"{path}: split '{split}', entry"
        checked = [_check_entry(f"{where} {i}", entry) for i, entry in enumerate(content[split])]
        splits[split] = [entry for entry in checked if entry["report"].strip()]
        dropped += len(checked) - len(splits[split])
    return {split: studies for split, studies in splits.items() if studies}, dropped


def _check_entry(where: str, entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object, got {type(entry).__name__}")
    sample, report, indication = entry.get("id"), entry.get("report") or "", entry.get("indication") or ""
    if not isinstance(sample, str) or not _ID.fullmatch(sample):
        raise UserError(f"{where}: field 'id': expected an Open-i id such as CXR2384_IM-0942, got {sample!r}")
    paths = [entry["image_path"]] if isinstance(entry.get("image_path"), str) else entry.get("image_path")
    if not isinstance(paths, list) or not paths or not all(isinstance(p, str) and _inside(p) for p in paths):
        raise UserError(f"{where} (id {sample}): field 'image_path': expected file names below images/, got {paths!r}")
    for name, value in (("report", report), ("indication", indication)):
        if not isinstance(value, str):
            raise UserError(f"{where} (id {sample}): field '{name}': expected a text, got {value!r}")
    return {"id": sample, "image_path": paths, "report": report, "indication": indication}


def _inside(path: str) -> bool:
    return bool(path) and not path.startswith(("/", "\\")) and ".." not in PurePosixPath(path).parts


def _check_images(images: Path, paths: list[str]) -> None:
    if not images.is_dir():
        raise UserError(f"image folder not found: {images}; docs/data.md says how to get the images")
    missing = [path for path in paths if not (images / path).is_file()]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise UserError(
            f"{images}: {len(missing)} of {len(paths)} images are missing: {', '.join(missing[:SHOWN])}{more}"
        )


def read_open_i(source: Path) -> tuple[dict[str, OpenIReport], Path | None]:
    """The XML reports beside an annotation, keyed by CXR number, and where they came from (None: nowhere)."""
    archive, folder = source / f"{ARCHIVE}.tgz", source / ARCHIVE
    if not archive.is_file() and not folder.is_dir():
        return {}, None
    place = archive if archive.is_file() else folder
    reports = {}
    for name, content in _archive_members(archive) if place == archive else _folder_members(folder):
        number, report = _parse_report(f"{place}: {name}", content)
        if number in reports:
            raise UserError(f"{place}: {name}: {number} appears twice")
        reports[number] = report
    if not reports:
        raise UserError(f"{place}: no Open-i report (NUMBER.xml) in it; download it again or remove it")
    return reports, place


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*.xml")):
        yield path.name, path.read_bytes()


def _archive_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                if not _inside(member.name):
                    raise UserError(f"{archive}: refused, the member name {member.name!r} leaves the archive")
                if not member.isfile() or not _MEMBER.fullmatch(member.name):
                    continue
                if member.size > MAX_XML_BYTES:
                    raise UserError(f"{archive}: {member.name} is larger than {MAX_XML_BYTES} bytes")
                yield member.name, tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{archive}: not a readable archive ({error}); download it again") from None


def _parse_report(where: str, content: bytes) -> tuple[str, OpenIReport]:
    # Open-i's files declare no entities; one that does could expand without bound.
    if b"<!ENTITY" in content:
        raise UserError(f"{where}: declares XML entities, not an Open-i report")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{where}: malformed XML: {error}") from None
    number = root.find("uId")
    number = "" if number is None else number.get("id", "")
    if not re.fullmatch(r"CXR\d+", number):
        raise UserError(f"{where}: expected <uId id='CXR...'>, got {number!r}")
    texts = {e.get("Label", ""): " ".join("".join(e.itertext()).split()) for e in root.iter("AbstractText")}
    images = tuple(e.get("id", "") for e in root.iter("parentImage"))
    return number, OpenIReport(texts.get("FINDINGS", ""), texts.get("INDICATION", ""), images)


def _compare(splits: Splits, reports: dict[str, OpenIReport], archive: Path) -> dict[str, int]:
    """Numbers and texts of the annotation against the XML: few differences are told, many are an error."""
    absent, renamed, reworded, total = [], [], [], 0
    for study in (s for studies in splits.values() for s in studies):
        total += 1
        number, accession = _ID.fullmatch(study["id"]).groups()
        original = reports.get(number)
        if original is None:
            absent.append(study["id"])
        elif " ".join(study["report"].split()) != original.findings:
            reworded.append(study["id"])
        elif accession and not any(accession in name for name in original.images):
            renamed.append(study["id"])
    agree = total - len(absent) - len(renamed) - len(reworded)
    problems = {"not in it": absent, "with another report text": reworded, "with other images": renamed}
    told = "; ".join(f"{len(ids)} {what} ({', '.join(ids[:SHOWN])})" for what, ids in problems.items() if ids)
    if 2 * agree < total:
        raise UserError(f"{archive} and the annotation disagree on {total - agree} of {total} studies: {told}")
    print(f"Open-i XML: {agree:,} of {total:,} studies agree" + (f"; {told}" if told else ""))
    return {"agree": agree, "absent": len(absent), "reworded": len(reworded), "other_images": len(renamed)}


def _annotations(splits: Splits, reports: dict[str, OpenIReport], labeler: Any) -> Annotations:
    texts = [study["report"] for studies in splits.values() for study in studies]
    statuses = np.asarray(labeler.label(texts))
    if statuses.shape != (len(texts), len(CATEGORIES)):
        raise ValueError(f"labeler: expected {(len(texts), len(CATEGORIES))} statuses, got {statuses.shape}")
    rows = iter(statuses.tolist())
    return {split: [_study(s, reports, next(rows)) for s in studies] for split, studies in splits.items()}


def _study(entry: dict[str, Any], reports: dict[str, OpenIReport], statuses: list[int]) -> Study:
    number = _ID.fullmatch(entry["id"]).group(1)
    indication = entry["indication"]
    if not indication.strip() and number in reports:
        indication = reports[number].indication
    return Study(
        id=entry["id"],
        image_path=tuple(entry["image_path"]),
        report=entry["report"],
        labels=tuple(statuses),
        subject_id=number,
        study_id=entry["id"],
        indication=indication,
    )


def place_images(images: Path, place: Path, paths: list[str], copy: bool) -> None:
    """Make `place` a link to `images`, or a folder with a copy of each of `paths`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink() and not copy:
        raise UserError(f"{place} is a folder already; remove it, or prepare with --copy to replace it")
    if copy:
        if place.is_symlink():
            place.unlink()
        with atomic_folder(place) as partial:
            for path in paths:
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(images / path, partial / path)
        return
    partial = place.with_name(f".{place.name}.partial-{os.getpid()}")
    try:
        partial.symlink_to(images.resolve(), target_is_directory=True)
    except OSError as error:  # some file systems and Windows accounts know no links
        raise UserError(f"cannot link {place} to {images} ({error}); prepare with --copy") from None
    os.replace(partial, place)
