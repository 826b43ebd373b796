"""Leakage checks on samples: does anything of a split stand in another, or retrieve itself?

Pure functions over annotations and row arrays; `revtaf.audit.audit` runs them. Whether labels were used is another
question: `revtaf.audit.labels`. Terms (docs/method.md section 9.1): a query is the sample that a report is written for;
references are the training samples that it may see, as classifier memory, as training reference or as retrieved report.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from revtaf.data.annotations import Study, silent
from revtaf.data.image_names import find_file
from revtaf.data.text import clean_report
from revtaf.files import sha256

OK, NOTE, LEAK, NOT_CHECKED = "ok", "note", "LEAK", "not checked"
_ALIKE = "two sets may number alike: are these the same?"


@dataclass(frozen=True)
class Line:
    """One check. `count` of `of` samples (or pairs, entities: the detail says) have what was looked for.

    verdict: "ok", "note" (worth knowing, no leak), "LEAK", or "not checked" with the reason as detail.
    """

    check: str
    split: str
    count: int
    of: int
    verdict: str
    detail: str = ""


@dataclass(frozen=True)
class Part:
    """The studies that a run uses as train, val or test; the set they come from, and its image folder."""

    source: str
    images: Path
    studies: list[Study]


def overlaps(parts: dict[str, Part], hash_images: bool = False) -> list[Line]:
    """The same image, study or patient in two parts; pairs in the order of `parts`, train first.

    count: samples of the second part that also stand in the first. Patients and studies are known by subject_id and
    study_id. Two sets may number their patients alike, so an equal name across sets is a note, not a leak; an equal
    image is a leak everywhere. `hash_images` reads every file (SHA-256), and finds an image under two names.
    """
    names = list(parts)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    keys: list[tuple[str, str, Callable[[Part], list[tuple]]]] = [
        ("image file", "image", _paths),
        ("study", "study_id", lambda part: [_study_key(s) for s in part.studies]),
        ("patient", "subject_id", lambda part: [(s.subject_id,) if s.subject_id else () for s in part.studies]),
    ]
    lines = []
    if hash_images:
        hashes = _hashes(parts.values())
        keys.insert(1, ("image content", "readable image", lambda part: _contents(part, hashes)))
    else:
        lines.append(Line("image content", "all", 0, 0, NOT_CHECKED, "not asked for: it reads every image file"))
    for check, field, keys_of in keys:
        known = {name: keys_of(part) for name, part in parts.items()}
        for a, b in pairs:
            same_set = parts[a].source == parts[b].source or check.startswith("image")
            lines.append(_overlap(check, field, (a, b), known, parts[b].studies, same_set))
    return lines


def repeated_reports(split: str, queries: Sequence[Study], train: Sequence[Study]) -> Line:
    """Reports of a split that stand word for word (`clean_report`) in the training split: what copying can score."""
    in_train = Counter(clean_report(s.report) for s in train)
    texts = Counter(text for s in queries if (text := clean_report(s.report)) in in_train)
    count = texts.total()
    detail = "no report repeats a training report"
    if count:
        text, times = texts.most_common(1)[0]
        short = text if len(text) <= 60 else text[:57].rstrip() + "..."
        detail = f"{count / len(queries):.1%}; most often, {times} here and {in_train[text]} in train: '{short}'"
    return Line("report word for word", f"train/{split}", count, len(queries), NOTE if count else OK, detail)


def silent_reports(split: str, studies: Sequence[Study]) -> Line:
    """Reports that say nothing ("See impression."): a score by them is one by no statement about the image."""
    found = silent(studies)
    detail = f"None, See impression, ___ and the like; the first is {found[0].id}" if found else "each says something"
    return Line("report says nothing", split, len(found), len(studies), NOTE if found else OK, detail)


def references(
    check: str, split: str, rows: np.ndarray, queries: Sequence[Study], train: Sequence[Study], same_set: bool = True
) -> Line:
    """Do the references (Q, k), rows of the training split, keep clear of each query's sample, study and patient?

    A row outside of the training split is a leak as well: what stands there is no training sample. count and of are
    (query, reference) pairs. A sample without subject_id is its study, then itself (`Study.patient`). same_set: whether
    the queries are of the set that `train` is of; of another, an equal name is a note, as in `overlaps`.
    """
    if not rows.size:
        return Line(check, split, 0, 0, NOT_CHECKED, "there are no references")
    outside = (rows < 0) | (rows >= len(train))
    inside = np.where(outside, 0, rows)
    found = {}
    for what, key in (("itself", lambda s: s.id), ("its study", _study_name), ("its patient", lambda s: s.patient)):
        mine, theirs = _codes([key(s) for s in queries], [key(s) for s in train])
        found[what] = (theirs[inside] == mine[:, None]) & ~outside
    bad = outside | np.any(list(found.values()), axis=0)
    detail = "no query sees itself, its study or its patient"
    if bad.any():
        q, column = (int(i) for i in np.argwhere(bad)[0])
        counts = ", ".join(f"{what} {int(hits.sum()):,}" for what, hits in found.items())
        detail = f"{counts}, outside of train {int(outside.sum()):,}; first: {queries[q].id} -> row {rows[q, column]}"
        if not same_set and (bad & ~outside).any():
            detail += f"; {_ALIKE}"
    leak = bad.any() if same_set else outside.any()
    verdict = LEAK if leak else NOTE if bad.any() else OK
    return Line(check, split, int(bad.sum()), rows.size, verdict, detail)


def retrieved(
    name: str, records: Sequence[dict], queries: Sequence[Study], train: Sequence[Study], same_set: bool = True
) -> Line:
    """Retrieved reports of a predictions.jsonl (`id`, `retrieved_id`): never the query's own, always from train.

    queries: every study of the set that the predictions were made on. Records of other studies are left out, and
    counted. same_set: see `references`.
    """
    check = "retrieved report"
    by_id = {s.id: s for s in queries}
    row = {s.id: i for i, s in enumerate(train)}
    used = [r for r in records if r.get("retrieved_id") is not None]
    known = [r for r in used if r.get("id") in by_id]
    if not known:
        reason = "predictions of other studies than this data set's" if used else "the run retrieves no report"
        return Line(check, name, 0, len(records), NOT_CHECKED, reason)
    rows = np.array([[row.get(r["retrieved_id"], -1)] for r in known])
    line = references(check, name, rows, [by_id[r["id"]] for r in known], train, same_set)
    left_out = len(used) - len(known)
    more = f"; {left_out} predictions of unknown studies left out" if left_out else ""
    return Line(check, name, line.count, line.of, line.verdict, line.detail + more)


def _overlap(
    check: str, field: str, pair: tuple[str, str], known: dict[str, list[tuple]], studies: list[Study], same_set: bool
) -> Line:
    first, second = (known[name] for name in pair)
    split = "/".join(pair)
    nameless = {name: sum(not keys for keys in known[name]) for name in pair}
    for name in pair:
        if nameless[name] == len(known[name]):
            detail = f"no sample of {name} has a {field}"
            if check == "patient":
                detail += "; the study, then the sample itself, stands for the patient"
            return Line(check, split, 0, len(second), NOT_CHECKED, detail)
    there = {key for keys in first for key in keys}
    hits = [i for i, keys in enumerate(second) if not there.isdisjoint(keys)]
    parts = []
    if hits:
        parts.append(f"first: {studies[hits[0]].id}")
        if not same_set:
            parts.append(_ALIKE)
    for name, missing in nameless.items():
        if missing:
            parts.append(f"{missing:,} of {name} without {field}, not compared")
    verdict = (LEAK if same_set else NOTE) if hits else NOTE if sum(nameless.values()) else OK
    return Line(check, split, len(hits), len(second), verdict, "; ".join(parts))


def _paths(part: Part) -> list[tuple[str, ...]]:
    """Where the images lie, whatever the system that the names were written on."""
    root = os.path.realpath(part.images)
    return [tuple(os.path.normpath(os.path.join(root, _spelled(p))) for p in s.image_path) for s in part.studies]


def _spelled(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _hashes(parts: Iterable[Part]) -> dict[str, str]:
    """SHA-256 of every image file that can be read, by path."""
    files = sorted({path for part in parts for paths in _paths(part) for path in paths})
    hashing = tqdm(files, desc="hashing images", leave=False)
    return {path: sha256(found) for path in hashing if (found := find_file(path))}


def _contents(part: Part, hashes: dict[str, str]) -> list[tuple[str, ...]]:
    return [tuple(hashes[path] for path in paths if path in hashes) for paths in _paths(part)]


def _study_key(study: Study) -> tuple:
    """Some sets number the studies of each patient from 1: a study is known by both names."""
    return ((study.subject_id, study.study_id),) if study.study_id else ()


def _study_name(study: Study) -> str:
    return "\0".join(_study_key(study)[0]) if study.study_id else ""


def _codes(queries: list[str], train: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (Q,), (N,) that are equal where the names are equal and not empty."""
    code: dict[str, int] = {name: i for i, name in enumerate(dict.fromkeys(train))}
    code.pop("", None)
    return np.array([code.get(n, -1) for n in queries]), np.array([code.get(n, -2) for n in train])
