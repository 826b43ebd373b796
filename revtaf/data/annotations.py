"""The annotation file: one JSON schema for every data set, checked on reading.

Compatible with the files that the field exchanges: R2Gen and PromptMRG's
`{"train": [..], "val": [..], "test": [..]}` and the flat list used for IU X-Ray (each entry may name its
`split`; without one it belongs to "test"). Unknown fields are ignored, so that those files load as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from revtaf.config import SPLITS, WHOLE_SET
from revtaf.data.text import Language, clean_for, says_nothing
from revtaf.errors import UserError
from revtaf.files import read_json, write_json
from revtaf.labels import CATEGORIES, CHEXPERT_CATEGORIES, STATUSES

LABEL_COUNTS = (len(CHEXPERT_CATEGORIES), len(CATEGORIES))


@dataclass(frozen=True)
class Box:
    """A finding drawn in the image. `xyxy` in fractions of width and height, origin at the top left."""

    category: str
    xyxy: tuple[float, float, float, float]
    side: str = ""
    zone: str = ""


@dataclass(frozen=True)
class Study:
    """One sample: the image(s) of a study and its report.

    `labels` holds one status (0 blank, 1 positive, 2 negative, 3 uncertain) per category: 18, or 14 where
    the auxiliary categories are unknown, or nothing where nobody labelled the report yet.
    """

    id: str
    image_path: tuple[str, ...]
    report: str
    labels: tuple[int, ...] = ()
    subject_id: str = ""
    study_id: str = ""
    indication: str = ""
    findings_boxes: tuple[Box, ...] = field(default=())
    impression: str = ""  # where the file has it, and it is no part of `report`

    @property
    def patient(self) -> str:
        """Whose image this is; the study, then the sample itself, where the file does not say."""
        return self.subject_id or self.study_id or self.id


Annotations = dict[str, list[Study]]
_CLEANED_AT_ONCE = 3  # splits whose cleaned reports are remembered
_cleaned: list[tuple[list[Study], tuple[int, Language], list[str]]] = []


def clean_reports(studies: Sequence[Study], max_words: int, language: Language = "en") -> list[str]:
    """The cleaned report of every study (`revtaf.data.text.clean_for`). Remembered: features, tokenizer and data sets
    of a run all ask for the same."""
    for known, how, texts in _cleaned:
        same = how == (max_words, language) and len(known) == len(studies)
        if same and all(a is b for a, b in zip(known, studies, strict=True)):
            return texts
    texts = [clean_for(language, study.report, max_words) for study in studies]
    _cleaned.insert(0, (list(studies), (max_words, language), texts))
    del _cleaned[_CLEANED_AT_ONCE:]
    return texts


def silent(studies: Sequence[Study]) -> list[Study]:
    """The studies whose report says nothing ("None.", "See impression.", "___"): no sample to learn or to score by."""
    return [study for study in studies if says_nothing(study.report)]


def load_annotations(path: str | Path) -> Annotations:
    """Read and check an annotation file. Raises UserError naming file, split, index and field.

    The last two files are remembered for as long as the process lives, as many parts of a command ask for the same one
    (3.6 s at MIMIC-CXR's size); a file that has changed is read again. The lists are the caller's own.
    """
    path = Path(path)
    try:
        found = path.stat()
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError:  # reading says what is wrong
        stamp = ()
    return {split: list(studies) for split, studies in _parse(path, stamp).items()}


@lru_cache(maxsize=2)
def _parse(path: Path, _: tuple[int, ...]) -> Annotations:
    """The file named `path`; what tells this file and its content from others is part of what it is remembered by."""
    content = read_json(path, "annotation file")
    if isinstance(content, list):
        content = _by_split(path, content)
    if not isinstance(content, dict) or not set(content) & set(SPLITS):
        raise UserError(f"{path}: expected an object with the splits train, val and test, or a list of studies")
    unknown = sorted(set(content) - set(SPLITS))
    if unknown:
        raise UserError(f"{path}: unknown split {unknown[0]!r}; the splits are {', '.join(SPLITS)}")
    splits = {name: content[name] for name in SPLITS if name in content}
    seen: dict[str, str] = {}
    annotations: Annotations = {}
    for split, entries in splits.items():
        if not isinstance(entries, list):
            raise UserError(f"{path}: split '{split}': expected a list, got {_kind(entries)}")
        annotations[split] = [_study(path, split, i, entry, seen) for i, entry in enumerate(entries)]
    return annotations


def parts_of(split: str, annotations: Annotations) -> list[str]:
    """The splits that "val", "val+test" or "whole" means in this file: those that are asked for, or that hold a study.

    Of what is asked for by name, none need be there.
    """
    return [name for name in SPLITS if annotations.get(name)] if split == WHOLE_SET else split.split("+")


def save_annotations(path: str | Path, annotations: Annotations) -> None:
    """Write in the same schema, without the fields that are empty. Never leaves half a file behind."""
    write_json(path, {split: [_entry(s) for s in studies] for split, studies in annotations.items()})


def _by_split(path: Path, entries: list) -> dict[str, list]:
    splits: dict[str, list] = {}
    for i, entry in enumerate(entries):
        split = entry.get("split", "test") if isinstance(entry, dict) else "test"
        if split not in SPLITS:
            raise UserError(f"{path}: entry {i}: split must be one of {SPLITS}, got {split!r}")
        splits.setdefault(split, []).append(entry)
    return splits


def _study(path: Path, split: str, index: int, entry: object, seen: dict[str, str]) -> Study:
    where = f"{path}: split '{split}', entry {index}"
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object, got {_kind(entry)}")
    for name in ("id", "image_path", "report"):
        if name not in entry:
            raise UserError(f"{where}: the field '{name}' is missing")
    sample = str(_typed(where, entry, "id", (str, int)))
    if not sample.strip():
        raise UserError(f"{where}: field 'id' is empty; give each study an id of its own")
    where = f"{where} (id {sample})"
    if sample in seen:
        raise UserError(f"{where}: duplicate id, first seen in {seen[sample]}; ids must be unique")
    seen[sample] = f"split '{split}', entry {index}"

    images = entry["image_path"]
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not images or not all(isinstance(p, str) and p.strip() for p in images):
        raise UserError(f"{where}: field 'image_path': expected a list of file names, got {images!r}")
    report = _typed(where, entry, "report", (str,))
    if not report.strip():
        raise UserError(f"{where}: field 'report' is empty; drop the study or give its report")
    return Study(
        id=sample,
        image_path=tuple(images),
        report=report,
        labels=_labels(where, entry.get("labels")),
        subject_id=str(_typed(where, entry, "subject_id", (str, int), "")),
        study_id=str(_typed(where, entry, "study_id", (str, int), "")),
        indication=_typed(where, entry, "indication", (str,), ""),
        findings_boxes=_boxes(where, entry.get("findings_boxes")),
        impression=_typed(where, entry, "impression", (str,), ""),
    )


def _typed(where: str, entry: dict, name: str, types: tuple[type, ...], default=None):
    value = entry.get(name, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, types) or isinstance(value, bool):
        wanted = " or ".join({"str": "a text", "int": "a number"}[t.__name__] for t in types)
        raise UserError(f"{where}: field '{name}': expected {wanted}, got {_kind(value)}")
    return value


def _labels(where: str, labels: object) -> tuple[int, ...]:
    if labels is None or labels == []:
        return ()
    if not isinstance(labels, (list, tuple)) or len(labels) not in LABEL_COUNTS:
        got = f"{len(labels)}" if isinstance(labels, (list, tuple)) else _kind(labels)
        raise UserError(f"{where}: field 'labels': expected 14 or 18 statuses, got {got}")
    for category, status in zip(CATEGORIES, labels, strict=False):
        if type(status) is not int or not 0 <= status < len(STATUSES):
            raise UserError(
                f"{where}: field 'labels': unknown status {status!r} for '{category}'; "
                "use 0 blank, 1 positive, 2 negative, 3 uncertain"
            )
    return tuple(labels)


def _boxes(where: str, boxes: object) -> tuple[Box, ...]:
    if boxes is not None and not isinstance(boxes, list):
        raise UserError(f"{where}: field 'findings_boxes': expected a list, got {_kind(boxes)}")
    return tuple(_box(where, b) for b in boxes or ())


def _box(where: str, box: object) -> Box:
    try:
        xyxy = tuple(float(v) for v in box["xyxy"])
        result = Box(box["category"], xyxy, box.get("side", ""), box.get("zone", ""))
        left, top, right, bottom = xyxy
        if result.category not in CATEGORIES or not all(isinstance(t, str) for t in (result.side, result.zone)):
            raise ValueError
        if not all(map(math.isfinite, xyxy)) or not 0 <= left <= right <= 1 or not 0 <= top <= bottom <= 1:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{where}: field 'findings_boxes': expected {{'category': one of the 18, "
            f"'xyxy': four fractions from 0 to 1 (left, top, right, bottom), 'side' and 'zone': texts}}, "
            f"got {json.dumps(box)[:120]}"
        ) from None
    return result


def _entry(study: Study) -> dict:
    return {name: value for name, value in asdict(study).items() if value}


def _kind(value: object) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
