"""The sections of a MIMIC-CXR report (Johnson et al. 2019): findings, impression, indication, comparison.

The reports are typed, not structured. What is taken for a heading, from the strongest sign to the weakest; which names
are known, and how far they may be misspelt, is in `headings`:

1. a known name at the start of a line, with a colon: in capitals ("FINDINGS:") or capitalised ("Findings:");
   also in capitals with a colon inside a line, behind the end of a sentence ("None. FINDINGS: ...");
   inside findings or impression a capitalised name of another section ("Study: limited") needs a blank line before it;
2. a known name in capitals with a dash, or alone on its line, there also capitalised behind a blank line;
3. a known name in capitals at the start of a paragraph, where what follows begins a sentence ("FINDINGS were told"
   does not) and is not in capitals too;
4. the name of a view with a colon ("CHEST, TWO VIEWS:", "LEFT RIBS, DUAL ENERGY:"), where findings or impression have
   not begun, and not in the paragraph of another heading ("TECHNIQUE:", and "Chest: PA and lateral" below it).

Any other word is text: "the findings: ..." inside a sentence cuts nothing. Decisions that a reader should know:

- "FINDINGS AND IMPRESSION" is findings; the impression is then empty, so that joining the two repeats nothing.
- The body below a view heading is findings where no findings section has text and a sentence in it says more than how
  and why the image was taken; else it is unsectioned. A false sample is worse than a missing one.
- Indication, comparison, examination, technique and notes are one paragraph each. A paragraph behind them that has no
  heading belongs to the findings, impression or view that they interrupt; where there are none, and behind a note, it
  is unsectioned.
- What stands before "FINAL REPORT" (wet reads, provisional findings) is preliminary and left out, and so are such
  readings, signatures, recommendations and notifications behind it. Addenda are left out too, unless the report has no
  other text: they are then read like a report.
- A section that says nothing ("None.", "See impression below.") is empty.
- Text without heading is never declared findings. It is returned as `unsectioned`. So are, as they are safe there,
  texts below headings in lower case, below "REPORT:" or "INTERPRETATION:", and below a view without colon.
- Known limit: in a report in capitals, what follows ". COMPARISON: NONE." on its line is taken for comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from revtaf.data.sources.mimic_cxr.headings import (
    COMPARISON,
    FINDINGS,
    IMPRESSION,
    INDICATION,
    NOTE,
    PICTURES,
    TAKING,
    TITLE,
    UNSECTIONED,
    VIEWS,
    is_capitals,
    is_view,
    kind_of,
    without_times,
)
from revtaf.data.text import says_nothing

BODY = (FINDINGS, IMPRESSION, VIEWS)  # go on until the next known heading, and behind an aside
ASIDE = (INDICATION, COMPARISON, TITLE)
ONE_PARAGRAPH = (*ASIDE, NOTE)

_INSIDE_LINE = re.compile(r"(?<=[.?!:)_])[ \t]*(?=([A-Z][A-Z ,/&()+-]{2,60}?)\s?:)")
_LETTERS = r"[A-Za-z][A-Za-z0-9 ,/&()+#._-]{1,60}?"
_NAMED = re.compile(rf"({_LETTERS})\s*(?:\([^()a-z]{{0,40}}\)\s*)?([:;])")  # "FINDINGS (___):"
_DASHED = re.compile(r"([A-Z][A-Z ,/&()+#0-9_-]{1,60}?)\s+-+(?=\s|$)")
_MOST_WORDS = 6  # of a name without a colon
_UNNAMED = re.compile(r"[A-Z][A-Z0-9 ,/()&'#-]{2,60}:(?=\s|$)")
_FINAL = re.compile(r"\s*FINAL REPORT\b\s*:?(.*)")
_ADDENDUM = re.compile(
    r"\s*(?:(?:FINAL\s)?(?:ADD?ENDU[MN]|ADDENDED REPORT)\b|(?:Final\s)?Addendum(?:\sby\b[^:]{0,60})?\s?:)[ \t]*:?(.*)"
)
_SIGNED = re.compile(r"(?:Electronically\s)?(?:signed|dictated|transcribed|approved|reviewed|read) by\b", re.IGNORECASE)
_SIGNATURE = re.compile(r"(?=.*(?:DR|Dr|MD|M\.D)\b)(?:DR|Dr|MD|M\.D|_{3,}|[\s.,])+")  # "DR. ___ ___" as a paragraph
_GOES_ON = re.compile(r"[a-z]|[A-Z]{3}|[^-a-z]*$")  # "FINDINGS are ...", "FINDINGS ARE ...": a sentence, no heading
# "Findings: discussed with Dr. ___" is a note, and so is a comment of the kind.
_REMARKS = ("COMMENT", "COMMENTS", "NOTE")
_TOLD = re.compile(
    r"(?:(?:were|was|are|is|have been|has been) )?(?:\w+ly )?"
    r"(?:discussed|communicated|conveyed|relayed|telephoned|phoned|called|paged|notified|reported (?:to|by))\b",
    re.IGNORECASE,
)
_RULE = re.compile(r"\s*[_=*-]{5,}\s*")  # "___" alone is a de-identification mark, a longer line divides

# Findings are a sentence of several words that say neither how the image was taken, nor why.
_FEWEST_WORDS, _FEWEST_OWN_WORDS = 3, 2
_TAKEN_WORDS = TAKING | frozenset(
    "IS ARE WAS WERE OBTAINED PROVIDED PORTABLY TAKEN ACQUIRED PERFORMED SUBMITTED PRESENTED FOR REVIEW BY TO FROM "
    "IMAGE IMAGES PROJECTION PROJECTIONS EXAM EXAMINATION STUDY STUDIES TECHNIQUE COMPARISON COMPARED MADE PRIOR "
    "PREVIOUS OUTSIDE HOSPITAL CT MR MRI PET NONE AVAILABLE".split()
)
_WHY = re.compile(
    r"\W*(?:(?:REASON|INDICATION|HISTORY|CLINICAL|QUESTION|EVAL|EVALUATE|ASSESS|RULE OUT|R/O|PLEASE|S/P|STATUS POST)\b"
    r"|[\d_]+[- ]*(?:YEARS?|YO|Y/O|[MF]|MAN|WOMAN)\b)",
    re.IGNORECASE,
)
_IMAGING = PICTURES | frozenset("CT MR MRI PET STUDY STUDIES EXAM EXAMS EXAMINATION EXAMINATIONS PRIOR NONE".split())
_MOST_COMPARED = 100  # pieces of one section; a report has a few, and comparing all pairs of thousands takes long


@dataclass(frozen=True)
class Sections:
    """The texts of one report, each on one line with single blanks; empty where the report has none."""

    findings: str = ""
    impression: str = ""
    indication: str = ""
    comparison: str = ""
    unsectioned: str = ""


def extract_sections(report: str) -> Sections:
    """Split a report as the module's description says. Accepts any text; never raises."""
    final, addendum = _parts(report)
    sections = _read(final)
    if not (sections.findings or sections.impression or sections.unsectioned):
        added = _read(addendum)
        sections = replace(
            added,
            indication=sections.indication or added.indication,
            comparison=sections.comparison or added.comparison,
        )
    return sections


def _parts(report: str) -> tuple[list[str], list[str]]:
    """The lines of the final report and those of its addenda; without "FINAL REPORT", all that is no addendum."""
    parts: dict[str, list[str]] = {"before": [], "final": [], "addendum": []}
    part, has_final = "before", False
    for line in report.splitlines():
        if marker := _FINAL.fullmatch(line):
            part, has_final = "final", True
        elif marker := _ADDENDUM.fullmatch(line):
            part = "addendum"
        parts[part] += ["", marker.group(1)] if marker else [line]
    return parts["final" if has_final else "before"], parts["addendum"]


def _read(lines: Iterable[str]) -> Sections:
    pieces: list[tuple[str, list[str]]] = [(UNSECTIONED, [])]  # (kind, its lines), in the order of the report
    resumed = UNSECTIONED  # what a paragraph without heading belongs to, behind a section of one paragraph
    begun = False  # findings or impression
    after_blank = True
    before_findings = False  # an aside between "FINDINGS:" and their first words: the next line may begin them
    for line in _heading_lines(lines):
        kind, written = pieces[-1]
        if not line:
            after_blank = True
            if kind in ONE_PARAGRAPH and written:
                pieces.append((resumed, []))
            continue
        inside = kind in ONE_PARAGRAPH  # a paragraph that ended is followed by a piece of another kind
        in_text = kind in (FINDINGS, IMPRESSION) and bool(written)
        another = kind != VIEWS or (after_blank and line.partition(":")[0].isupper())
        heading = _heading(line, after_blank, in_text, views=another and not (begun or inside))
        if heading:
            before_findings = kind == FINDINGS and not written and heading[0] in ASIDE
            kind, line = heading
            pieces.append((kind, []))
            begun = begun or kind in (FINDINGS, IMPRESSION)
            if kind not in ASIDE:
                resumed = kind if kind in BODY else UNSECTIONED
        elif inside and _UNNAMED.match(line) and (written or _below_view(line) is None):
            pieces.append((resumed, []))
        elif before_findings and written:
            before_findings = False
            if written[-1].endswith(".") and not _IMAGING & set(re.findall(r"[A-Z-]+", line.upper())):
                pieces.append((resumed, []))
        if line:
            pieces[-1][1].append(line)
        after_blank = False

    texts: dict[str, list[str]] = {}
    for kind, written in pieces:
        if text := " ".join(" ".join(written).split()):
            texts.setdefault(kind, []).append(text)
    findings, views, impression = (_stated(texts.get(kind, [])) for kind in (FINDINGS, VIEWS, IMPRESSION))
    rest = texts.get(UNSECTIONED, [])
    if not findings and _says_something(views):
        findings = views
    elif views:
        rest = [*rest, views]
    return Sections(
        findings,
        impression,
        _join(texts.get(INDICATION, [])),
        _join(texts.get(COMPARISON, [])),
        " ".join(rest),
    )


def _heading_lines(lines: Iterable[str]) -> Iterable[str]:
    """Stripped lines, broken where a heading in capitals follows a sentence; dividing lines become blank."""
    for line in lines:
        if _RULE.fullmatch(line):
            yield ""
            continue
        begin = 0
        for found in _INSIDE_LINE.finditer(line):
            if kind_of(found.group(1)):
                yield line[begin : found.start()].strip()
                begin = found.end()
        yield line[begin:].strip()


def _heading(line: str, after_blank: bool, in_text: bool, views: bool) -> tuple[str, str] | None:
    """(kind, rest of the line) where the line opens a section, else None; a view only where `views` may come."""
    untimed = without_times(line)
    if named := _NAMED.match(untimed):
        name, mark, rest = named.group(1), named.group(2), line[named.end() :].lstrip(":- ")
        capitals = is_capitals(name)
        kind = kind_of(name) if capitals or (name[0].isupper() and mark == ":") else None
        if in_text and not after_blank and not capitals and (kind in ASIDE or (kind == FINDINGS and " " in name)):
            return None
        if (kind == FINDINGS or name.upper() in _REMARKS) and _TOLD.match(rest):
            return NOTE, rest
        if kind:
            return kind, rest
    if views and (rest := _below_view(line)) is not None:
        return VIEWS, rest
    if (dashed := _DASHED.match(untimed)) and (kind := kind_of(dashed.group(1))):
        return kind, line[dashed.end() :].strip()
    if (line[0].isupper() and _SIGNED.match(line)) or (after_blank and _SIGNATURE.fullmatch(line)):
        return NOTE, line
    if (line.isupper() or (after_blank and line[0].isupper())) and (kind := kind_of(line)):
        return kind, ""
    return _without_mark(line) if after_blank else None


def _without_mark(line: str) -> tuple[str, str] | None:
    """(kind, rest) where a paragraph begins with a name in capitals and then with a sentence."""
    words = line.split(" ")
    for count in range(min(_MOST_WORDS, len(words) - 1), 0, -1):
        name, rest = " ".join(words[:count]), " ".join(words[count:]).lstrip()
        if name.isupper() and not _GOES_ON.match(rest) and (kind := kind_of(name)):
            return kind, rest.lstrip("- ")
    return None


def _below_view(line: str) -> str | None:
    """What follows the colon of a view heading; None where the line does not open with one."""
    end = without_times(line).find(":")
    if end < 0 or line[0].islower() or not is_view(line[:end]):
        return None
    return line[end + 1 :].strip()


def _says_something(views: str) -> bool:
    """Whether a text below a view heading has a sentence of findings, and is not only a title."""
    if len(re.findall(r"[A-Za-z]{2,}", views)) < _FEWEST_WORDS:
        return False
    for sentence in re.split(r"(?<=[.?!])\s+", views):  # a question is no finding, and has to be told apart
        own = [word for word in re.findall(r"[A-Z]{2,}(?:-[A-Z]+)*", sentence.upper()) if word not in _TAKEN_WORDS]
        if sentence.endswith((".", "!")) and len(own) >= _FEWEST_OWN_WORDS and not _WHY.match(sentence):
            return True
    return False


def _stated(texts: list[str]) -> str:
    """The joined texts; "" where they say nothing ("None.", "See impression below.")."""
    text = _join(texts)
    return "" if says_nothing(text) else text


def _join(texts: list[str]) -> str:
    """The texts in order, without those that another one repeats (the last one stays); case does not count."""
    last: dict[str, str] = {}  # by what is compared
    for text in texts:
        last.pop(key := f" {text.lower()} ", None)
        last[key] = text
    if len(last) > _MOST_COMPARED:
        return " ".join(last.values())
    return " ".join(text for key, text in last.items() if not any(key in other for other in last if other != key))
