"""R2Gen's package of IU X-Ray: `annotation.json` with its split, and `images/`.

Images lie flat ("2384_IM-0942-1001.jpg") or in one folder per study ("CXR2384_IM-0942/0.png"). Where Open-i's XML
lies beside them, it fills missing indications and checks numbers and texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from revtaf.data.annotations import SPLITS, Annotations, Study
from revtaf.data.image_names import find_file
from revtaf.data.sources.access import SHOWN, check_missing, inside, is_file
from revtaf.data.sources.iu_xray.open_i import OpenIReport, read_open_i
from revtaf.data.text import says_nothing
from revtaf.errors import UserError
from revtaf.files import read_json, sha256

_ID = re.compile(r"(CXR\d+)(?:_(.+))?")

Entry = dict[str, Any]
Splits = dict[str, list[Entry]]


def read_package(source: Path, annotation: Path, test: Path | None) -> tuple[Annotations, dict[str, Any]]:
    """The studies that have a report, with image paths below `source/images`, and a record of what was read."""
    if not annotation.is_file():
        raise UserError(
            f"IU X-Ray annotation not found: {annotation}; name it with --annotation, "
            "or read Open-i's raw files with --split whole, random or FILE"
        )
    entries = read_splits(annotation, test, _check_entry)
    splits = {split: [s for s in studies if not says_nothing(s["report"])] for split, studies in entries.items()}
    splits = {split: studies for split, studies in splits.items() if studies}
    if not splits:
        raise UserError(f"{annotation}: no study with a report in it; name another file with --annotation")
    dropped = sum(map(len, entries.values())) - sum(map(len, splits.values()))
    if dropped:
        print(f"dropped {dropped} studies whose report is empty or says nothing (None, see impression, ___)")
    images = source / "images"
    if not images.is_dir():
        raise UserError(f"image folder not found: {images}; docs/data.md says how to get the images")
    paths = [path for studies in splits.values() for study in studies for path in study["image_path"]]
    missing = [path for path in paths if not (is_file(images / path) or find_file(images / path))]
    check_missing(images, missing, len(paths), "")
    reports, archive = read_open_i(source)
    record = {
        "annotation_sha256": sha256(annotation),
        "dropped_empty_reports": dropped,
        "open_i": _compare(splits, reports, archive) if archive else None,
    }
    return {split: [_study(s, reports) for s in studies] for split, studies in splits.items()}, record


def read_splits(path: Path, test: Path | None, check: Callable[[str, object], Entry]) -> Splits:
    """Entries by split, each passed through `check(where, entry)`; `test` is a second file with the test split."""
    splits = _read_file(path, check)
    if test is not None:
        extra = _read_file(test, check)
        if "test" in splits or "test" not in extra:
            raise UserError(f"{path} and {test}: expected a test split in the second one only")
        splits["test"] = extra["test"]
    counted = Counter(entry["id"] for entries in splits.values() for entry in entries)
    if twice := [sample for sample, n in counted.items() if n > 1]:
        raise UserError(f"{path}: ids must be unique; more than once: {', '.join(twice[:SHOWN])}")
    return splits


def _read_file(path: Path, check: Callable[[str, object], Entry]) -> Splits:
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
    splits = {}
    for split in (s for s in SPLITS if s in content):
        if not isinstance(content[split], list):
            raise UserError(f"{path}: split '{split}': expected a list of studies")
        splits[split] = [check(f"{path}: split '{split}', entry {i}", entry) for i, entry in enumerate(content[split])]
    return {split: entries for split, entries in splits.items() if entries}


def check_id(where: str, entry: object) -> Entry:
    """Id and report of an entry; raises UserError where there is no Open-i id."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object, got {type(entry).__name__}")
    sample, report = entry.get("id"), entry.get("report") or ""
    if not isinstance(sample, str) or not _ID.fullmatch(sample):
        raise UserError(f"{where}: field 'id': expected an Open-i id such as CXR2384_IM-0942, got {sample!r}")
    if not isinstance(report, str):
        raise UserError(f"{where} (id {sample}): field 'report': expected a text, got {report!r}")
    return {"id": sample, "report": report}


def _check_entry(where: str, entry: object) -> Entry:
    checked = check_id(where, entry)
    where, paths, indication = f"{where} (id {checked['id']})", entry.get("image_path"), entry.get("indication") or ""
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not paths or not all(isinstance(p, str) and inside(p) for p in paths):
        raise UserError(f"{where}: field 'image_path': expected file names below images/, got {paths!r}")
    if not isinstance(indication, str):
        raise UserError(f"{where}: field 'indication': expected a text, got {indication!r}")
    return checked | {"image_path": paths, "indication": indication}


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
        elif accession and not any(accession in image.name for image in original.images):
            renamed.append(study["id"])
    agree = total - len(absent) - len(renamed) - len(reworded)
    problems = {"not in it": absent, "with another report text": reworded, "with other images": renamed}
    told = "; ".join(f"{len(ids)} {what} ({', '.join(ids[:SHOWN])})" for what, ids in problems.items() if ids)
    if 2 * agree < total:
        raise UserError(f"{archive} and the annotation disagree on {total - agree} of {total} studies: {told}")
    print(f"Open-i XML: {agree:,} of {total:,} studies agree" + (f"; {told}" if told else ""))
    return {"agree": agree, "absent": len(absent), "reworded": len(reworded), "other_images": len(renamed)}


def _study(entry: Entry, reports: dict[str, OpenIReport]) -> Study:
    number = _ID.fullmatch(entry["id"]).group(1)
    indication = entry["indication"]
    if not indication.strip() and number in reports:
        indication = reports[number].indication
    return Study(
        id=entry["id"],
        image_path=tuple(entry["image_path"]),
        report=entry["report"],
        subject_id=number,
        study_id=entry["id"],
        indication=indication,
    )
