"""Predictions of any system: read from JSON Lines, JSON or CSV, checked, and joined by id.

One record holds `id`, `reference` and `prediction`, all raw text, and may name its `subject_id` and `study_id`, and
what a classifier said (`revtaf.eval.classified`); further columns are ignored, so that the `predictions.jsonl` of a
test run is read as it is. Whatever would make a score wrong without a trace (two records of one id, a text that was
processed before) is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from revtaf.data.text import says_nothing
from revtaf.errors import UserError
from revtaf.eval.classified import read_classified
from revtaf.eval.record_files import id_of, listed, optional_id, plain, read_table, require

REQUIRED = ("id", "reference", "prediction")
LONG_WORDS = 1000  # ten times the longest report
_NAMELESS = ("subject_id of ", "study_id of ")  # stand-ins, see `_groups`
_SPACED_STOP = re.compile(r"\s\.(?:\s|$)")


@dataclass(frozen=True)
class Samples:
    """N samples, in the order of the file. Texts are raw; control characters are blanks already.

    subjects, studies: who and which examination a sample belongs to, or None where the file does not say. source:
    the file, for messages. notes: what a reader of the scores should know, one sentence each. prompt, positive: (N, 14
    or 18), statuses of the prompt and P(positive), or None where the file does not say.
    """

    ids: list[str]
    references: list[str]
    predictions: list[str]
    subjects: list[str] | None = None
    studies: list[str] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    prompt: np.ndarray | None = None
    positive: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Samples:
        """These rows, in this order."""
        lists = {name: getattr(self, name) for name in ("ids", "references", "predictions", "subjects", "studies")}
        arrays = {name: getattr(self, name) for name in ("prompt", "positive")}
        kept = {name: None if values is None else [values[row] for row in rows] for name, values in lists.items()}
        return replace(self, **kept, **{n: None if values is None else values[rows] for n, values in arrays.items()})


def read_samples(path: str | Path) -> Samples:
    """The samples of a .jsonl, .json (a list, or an object by id) or .csv file, each also as .gz.

    Empty predictions and very long ones are allowed and noted. Raises UserError naming file and line for a missing
    column, an empty or duplicate id, a value that is no text, or a file that is not UTF-8.
    """
    rows = read_table(path)
    columns: dict[str, list[str]] = {name: [] for name in (*REQUIRED, "subject_id", "study_id")}
    lines: dict[str, list[str]] = {}
    broken = 0
    for where, row in rows:
        sample = id_of(where, row)
        lines.setdefault(sample, []).append(where)
        columns["id"].append(sample)
        texts = [_text(where, row, name) for name in ("reference", "prediction")]
        cleaned = [plain(text) for text in texts]
        broken += cleaned != texts
        columns["reference"].append(cleaned[0])
        columns["prediction"].append(cleaned[1])
        for name in ("subject_id", "study_id"):
            columns[name].append(optional_id(where, row, name))
    if not rows:
        raise UserError(f"{path}: holds no sample; expected records with {', '.join(REQUIRED)}")
    if duplicates := {sample: found for sample, found in lines.items() if len(found) > 1}:
        first = next(iter(duplicates.values()))[1]
        raise UserError(f"{first}: duplicate ids: {listed(duplicates)}; give every sample one record")
    notes = [f"Line breaks or other control characters in {broken} samples were replaced by blanks."] if broken else []
    subjects, studies = _groups(columns, notes)
    notes += text_notes("prediction", columns["prediction"], columns["id"])
    notes += text_notes("reference", columns["reference"], columns["id"])
    texts = columns["id"], columns["reference"], columns["prediction"]
    return Samples(*texts, subjects, studies, str(path), tuple(notes), *read_classified([row for _, row in rows]))


def join(a: Samples, b: Samples) -> tuple[Samples, Samples]:
    """Two systems on the same samples: b in the order of a, with a's references.

    Raises UserError where an id is on one side only, or where references, subjects or studies of an id differ (line
    breaks and repeated blanks aside). Subjects and studies that one file leaves out are taken from the other.
    """
    index = {sample: i for i, sample in enumerate(b.ids)}
    absent = [sample for sample in a.ids if sample not in index]
    surplus = sorted(set(b.ids) - set(a.ids))
    if absent or surplus:
        parts = [f"{len(absent)} ids of {a.source} are missing in {b.source}: {listed(absent)}"] if absent else []
        parts += [f"{len(surplus)} ids of {b.source} are missing in {a.source}: {listed(surplus)}"] if surplus else []
        raise UserError("; ".join(parts) + "; two systems can only be compared on the same samples")
    b = b.take([index[sample] for sample in a.ids])
    for name in ("references", "subjects", "studies"):
        if getattr(a, name) is None or getattr(b, name) is None:
            continue
        pairs = zip(a.ids, getattr(a, name), getattr(b, name), strict=True)
        pairs = (pair for pair in pairs if not any(side.startswith(_NAMELESS) for side in pair[1:]))
        if differing := [sample for sample, x, y in pairs if x.split() != y.split()]:
            raise UserError(
                f"{a.source} and {b.source} have different {name} for {len(differing)} ids: {listed(differing)}; "
                "score both systems against the same file of raw references"
            )
    subjects = a.subjects if a.subjects is not None else b.subjects
    studies = a.studies if a.studies is not None else b.studies
    a = replace(a, subjects=subjects, studies=studies)
    return a, replace(b, references=a.references, subjects=subjects, studies=studies)


def looks_processed(texts: Sequence[str]) -> bool:
    """Whether most of the texts that hold a word have a blank before a full stop, as after post-processing.

    Below 1 % of raw IU X-Ray reports have; all but empty ones do once they are cleaned or post-processed. Double blanks
    alone say nothing: raw reports have them after a full stop, too.
    """
    spoken = [text for text in texts if text.strip(" .")]
    return sum(bool(_SPACED_STOP.search(text)) for text in spoken) > len(spoken) / 2


def refuse_processed(samples: Samples) -> None:
    """Raises UserError where predictions or references were put in the scored spacing before.

    The second pass would double the blanks, and ROUGE-L counts each of them as a word: .017 lower on IU X-Ray.
    """
    for name, texts, raw in (
        ("predictions", samples.predictions, "the decoder's own text"),
        ("references", samples.references, "the report as it was written"),
    ):
        if looks_processed(texts):
            raise UserError(
                f"{samples.source}: the {name} were already post-processed (most have ' . ' for a full stop), and "
                f'the protocol does that itself, exactly once; give {raw}, for example "The lungs are clear. No '
                'effusion."'
            )


def _text(where: str, row: dict, name: str) -> str:
    require(where, row, name)
    if not isinstance(row[name], str):
        raise UserError(f"{where}: column '{name}': expected a text, got {row[name]!r:.60}; an empty one is \"\"")
    return row[name]


def _groups(columns: dict[str, list[str]], notes: list[str]) -> tuple[list[str] | None, list[str] | None]:
    """Subjects and studies. A sample without one is a group of its own: never one large group of the nameless."""
    found: dict[str, list[str] | None] = {}
    for name in ("subject_id", "study_id"):
        values = columns[name]
        nameless = sum(not value for value in values)
        if 0 < nameless < len(values):
            notes.append(f"{nameless} of {len(values)} samples have no {name}; each counts as one of its own.")
        own = columns["id"]
        if name == "subject_id":  # all images of a study show the same person
            own = [study or sample for study, sample in zip(columns["study_id"], own, strict=True)]
        filled = [value or f"{name} of {o}" for value, o in zip(values, own, strict=True)]
        found[name] = filled if nameless < len(values) else None
    return found["subject_id"], found["study_id"]


def text_notes(name: str, texts: Sequence[str], ids: Sequence[str]) -> list[str]:
    """What a reader should know of N texts, "prediction" or "reference": which are empty, say nothing, never end."""
    notes = []
    words = [len(text.split()) for text in texts]
    if empty := sum(n == 0 for n in words):
        notes.append(f"{empty} of {len(words)} {name}s are empty; they count as they are.")
    if silent := sum(n > 0 and says_nothing(text) for n, text in zip(words, texts, strict=True)):
        notes.append(
            f"{silent} of {len(words)} {name}s say nothing ('None.', 'See impression.'); their statuses are blank, "
            "their words count."
        )
    if long := [sample for sample, n in zip(ids, words, strict=True) if n > LONG_WORDS]:
        notes.append(f"{len(long)} {name}s have more than {LONG_WORDS} words (up to {max(words)}): {listed(long)}.")
    return notes
