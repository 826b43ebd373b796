"""Texts of multimodal LLMs as a row of the table (paper Table 4, supplement section 4): read, cleaned, joined by id.

The paper cleans an LLM's answer in two steps: (1) "extract only the Findings section [..] and consolidate it into an
individual report"; (2) "remove numbers, line breaks, and other unnecessary elements, limiting the text length to 200
characters". It prints no code for them. Each reading made here is one function that says what it does.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from revtaf.data.text import clean_report, sentences
from revtaf.errors import UserError
from revtaf.eval.record_files import id_of, listed, plain, read_table
from revtaf.files import read_json

MAX_CHARACTERS = 200  # supplement, section 4

_OTHER = (
    r"(?:(?:final |overall |summary |clinical |additional )?(?:impressions?|conclusions?|recommendations?|summary"
    r"|assessment|diagnos[ie]s|interpretation|follow[- ]?up|plan|notes?|comments?)|differential diagnos[ie]s"
    r"|(?:imaging )?techniques?|comparisons?|(?:clinical |patient |medical )?(?:history|information|indications?)"
    r"|reason for (?:exam\w*|study)|exam(?:ination)?(?: type| date)?|study(?: type| date)?|views?|modality|procedure"
    r"|limitations?|disclaimer|signed|signature|date|patient(?: name| id)?)"
)
_TITLE = r"(?:(?:radiology|radiological|radiographic|imaging|chest|x-?ray|cxr|professional|medical) ){0,4}report"
_FINDINGS = r"findings?(?: and impressions?)?"
# A heading stands at the start of a line, with or without Markdown or a list number, and ends in a colon, in the bold
# mark or with its line; within a line (the prompt asks for one paragraph) it follows a full stop and needs its colon.
# Words before "findings" ("Radiographic findings:") need the colon or the mark: "No acute findings" is a finding.
_HEADING = re.compile(
    r"(?:^[ \t>#*_\-–•]*(?:\d+[.)][ \t]*[*_]*)?|(?<=[.!?])[ \t]+[*_]*(?=[^\n:]{1,60}:))"
    rf"(?:(?P<findings>{_FINDINGS}|(?!no |there )(?:[a-z][\w-]* ){{1,3}}{_FINDINGS}(?=[^\n]{{0,30}}[:*_]))"
    rf"|(?P<title>{_TITLE})|(?P<other>{_OTHER}(?: ?(?:/|&|and) ?{_OTHER})*))"
    r"(?:[ \t]*\([^()\n]*\))?(?:[*_]*[ \t]*:[ \t]*[*_]*|[*_]{2,}[ \t]*|[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Output:
    """What one model answered for one image. seconds: how long it took, None where nobody measured it."""

    text: str
    seconds: float | None = None


@dataclass(frozen=True)
class LlmSample:
    """A row to score. prediction: cleaned as the paper says, then in the form of `as_decoder_text`."""

    id: str
    reference: str
    prediction: str
    output: Output


def clean_output(text: str) -> str:
    """Both cleaning steps of the supplement: the findings as one plain line of at most 200 characters."""
    return cut(without_blanks(without_numbers(without_markdown(findings_only(text)))))


def findings_only(text: str) -> str:
    """Step 1. The text below every Findings heading, in order, joined by line breaks.

    A section ends at the next heading of another section; anatomical ones ("Lungs:") belong to the findings.
    Without a Findings heading, all text outside the other sections counts: the prompt asked for findings alone.
    Where that leaves nothing, the headings alone are dropped, so that an answer is not lost for its layout.
    """
    text = re.sub(r"\r\n?", "\n", text)
    sections: list[tuple[str, str]] = []
    kind, start = "title", 0
    for heading in _HEADING.finditer(text):
        sections.append((kind, text[start : heading.start()].strip()))
        kind, start = heading.lastgroup, heading.end()
    sections.append((kind, text[start:].strip()))
    for wanted in (("findings",), ("title",), ("findings", "title", "other")):
        found = [part for kind, part in sections if kind in wanted and re.search(r"\w", part)]
        if found:
            return "\n".join(found)
    return ""


def without_markdown(text: str) -> str:
    """Step 2, "other unnecessary elements": marks and bullets go, the words they mark stay."""
    text = re.sub(r"^[ \t]*(?:```.*|~~~.*|[-*_=|: \t]{3,})$", "", text, flags=re.MULTILINE)  # fences, rules
    text = re.sub(r"!?\[([^\[\]\n]*)\]\([^()\n]*\)", r"\1", text)  # links
    text = re.sub(r"^[ \t]*(?:#+|>+|[-+*•–])[ \t]+", "", text, flags=re.MULTILINE)
    return re.sub(r"[*`|]|_{2,}|(?<!\w)_|_(?!\w)|<br ?/?>", " ", text)


def without_numbers(text: str) -> str:
    """Step 2, numbers: list numbers with their mark, then every other number; "2.5 cm" becomes "cm"."""
    text = re.sub(r"^[ \t]*\(?\d+[.)](?=\s|$)", "", text, flags=re.MULTILINE)  # a list, line by line,
    text = re.sub(r"(?<=[.:;,])[ \t]+\(?\d+[.)](?=\s)", " ", text)  # or within its line
    return re.sub(r"\d+(?:[.,]\d+)*", "", text)


def without_blanks(text: str) -> str:
    """Step 2, line breaks: one line with single blanks; what a removed number left behind is tidied."""
    text = re.sub(r"\s+", " ", plain(text))
    text = re.sub(r"\(\s*\)|\[\s*\]", "", text)
    return re.sub(r"\s+([.,;:!?)])", r"\1", re.sub(r" {2,}", " ", text)).strip()


def cut(text: str) -> str:
    """Step 2, length: the first 200 characters as printed, in the middle of a word where they end there."""
    return text[:MAX_CHARACTERS].rstrip()


def as_decoder_text(text: str) -> str:
    """A written text in the form that a report decoder prints: "Heart, normal. Clear." -> "heart normal. clear.".

    DIFFERS: the paper prints no such step. References are lower-cased and stripped of punctuation before they
    are scored; a decoder has learned that form, an LLM has not, and would lose points for its commas and capitals.
    """
    cleaned = clean_report(text, max_words=None).removesuffix(" .").strip()
    return "".join(f"{' '.join(s.split())}. " for s in sentences(cleaned) if s.strip(" .")).strip()


def read_outputs(path: str | Path) -> dict[str, Output]:
    """The answers of one model by id, in the order of the file.

    A JSON object {id: text}, or records as `record_files.read_table` reads them (a JSON list, JSONL, CSV) with "id",
    "text" or "prediction", and "seconds" where known; further fields are ignored. Raises UserError naming the file, the
    entry and the fix.
    """
    path = Path(path)
    content = read_json(path, "LLM outputs") if path.suffix.lower() == ".json" else None
    if isinstance(content, dict):
        # Read again for its pairs: a dict has forgotten that an id came twice.
        pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
        named = ((f"{path}, key {name!r}", {"id": name}, value) for name, value in pairs)
        rows = [(at, row | (dict(v) if isinstance(v, tuple) else {"text": v})) for at, row, v in named]
    else:
        rows = read_table(path)
    outputs: dict[str, Output] = {}
    duplicates: list[str] = []
    for where, row in rows:
        name = id_of(where, row)
        if name in outputs:
            duplicates.append(name)
        outputs[name] = _output(f"{where} (id {name})", row)
    if duplicates:
        raise UserError(f"{path}: {len(duplicates):,} duplicate ids: {listed(duplicates)}; keep one output of each")
    if not outputs:
        raise UserError(f"{path}: no outputs; expected {{id: text}} or records with 'id' and 'text'")
    return outputs


def to_samples(
    outputs: Mapping[str, Output], references: Mapping[str, str] | Iterable[tuple[str, str]]
) -> list[LlmSample]:
    """Join by id, in the order of the references (id, raw report).

    Raises UserError listing duplicate ids of the references, references without output, outputs without reference.
    """
    pairs = list(references.items() if isinstance(references, Mapping) else references)
    counts = Counter(name for name, _ in pairs)
    problems = (
        ("ids that occur more than once among the references", [name for name, count in counts.items() if count > 1]),
        ("references without an output", [name for name in counts if name not in outputs]),
        ("outputs without a reference", [name for name in outputs if name not in counts]),
    )
    if found := [f"{len(ids):,} {what}: {listed(ids)}" for what, ids in problems if ids]:
        raise UserError(
            f"LLM outputs do not match the references: {'; '.join(found)}. Score the same ids on both sides"
        )
    return [
        LlmSample(name, reference, as_decoder_text(clean_output(outputs[name].text)), outputs[name])
        for name, reference in pairs
    ]


def mean_seconds(samples: Iterable[LlmSample]) -> float | None:
    """Seconds per sample, the Time column of Table 4; None unless every sample has been timed."""
    seconds = [sample.output.seconds for sample in samples]
    return sum(seconds) / len(seconds) if seconds and None not in seconds else None


def _output(where: str, row: dict) -> Output:
    given = [field for field in ("text", "prediction") if field in row]
    if len(given) != 1:
        raise UserError(f"{where}: expected 'text' or 'prediction', got {'both' if given else 'neither'}")
    text = row[given[0]]
    if not isinstance(text, str):
        raise UserError(f"{where}: field '{given[0]}': expected a text, got {type(text).__name__}")
    seconds = row.get("seconds")
    if seconds in (None, ""):
        return Output(text)
    try:
        number = math.nan if isinstance(seconds, bool) else float(seconds)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"{where}: field 'seconds': expected a number of seconds, got {seconds!r:.60}")
    return Output(text, number)
