"""The items of a report: its lines where they are items, the rows of its tables, its bullets.

Language models and structured reports write them; running text is folded, and a fold ends nothing. A row becomes
"finding: answer". Where line breaks have become blanks, as in files of predictions, bullets, rows, boxes and
capitalised labels still tell the items. The items beneath a header ("Negative for:") each have it before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from revtaf.knowledge.answers import ANSWER, BARE
from revtaf.knowledge.boxes import boxes_as_answers, ticked_line
from revtaf.knowledge.headers import is_header
from revtaf.knowledge.records import records_as_lines
from revtaf.knowledge.tables import SIDES, rows_as_lines

_BULLET = re.compile(
    r"\s*(?:[-*+>\u2022]+\s+|-(?=[A-Za-z])(?!ve\b)|#{1,6}\s+|(?:\(?\d{1,2}[.)]|\([a-z0-9]\)|[a-z]\)|[ivx]+\.)\s+)"
)
_LABEL_LINE = re.compile(r"[A-Za-z][A-Za-z0-9 ,/&()'\-]{1,60}:(?!\d)")
_GOES_ON = re.compile(
    r"(?:,|\b(?:a|an|the|of|in|on|at|to|with|without|no|and|or|for|by|from|is|are|was|were|has|have|not|any|new|likely))$",
    re.IGNORECASE,
)
_CAPITAL = re.compile(r"[A-Z][a-z]+\b|A\s")
_ANSWERED_LINE = re.compile(r"(?:[\w/-]+\s+){1,5}(?:no|none|yes|nil|absent|negative|present|positive)$", re.IGNORECASE)
_LABEL_IN_LINE = re.compile(r"(?<=[a-z0-9)])\s+(?=[A-Z][A-Za-z]*(?: [A-Za-z/&-]+){0,4}:\s)")
_FLAT_BULLETS = re.compile(r"(?:^|[:.;\n])\s*- ")
_FLAT_DASH = re.compile(rf"(?:^|(?<=\s))- (?!{BARE}\s*(?:$|[-.;,\n]))", re.IGNORECASE)
_GLUED_DASH = re.compile(r"(?m)(?:^|(?<=\s))-(?=[A-Za-z])(?!ve\b)")
_STAR = re.compile(r"(?:^|(?<=\s))\*\s*(?=\w)")
_STAR_BEHIND = re.compile(r"(?<=[\w:.])\*")
_ENUMERATED = re.compile(r"(?:^|(?<=\s))(?:\((?:\d{1,2}|[a-h])\)|\d{1,2}[.)]|[a-h]\))\s+(?=[A-Za-z])")
_FIRST_TWO = re.compile(r"(?:^|\s)\(?(?:1[.)]|a\))\s.*\s\(?(?:2[.)]|b\))\s", re.DOTALL)
_HEADING = re.compile(r"(?m)^\s*#{1,6} +([^\n:.]{1,60}?)[ \t*]*$\n+(?!\s*(?:#|\||$))")
_MARKED = re.compile(r"[.;:!?\n](?=.)", re.DOTALL)
# In a text of several lines whose breaks became blanks, and without any mark: a capital begins the next line.
_FLAT_LINE = re.compile(
    r"(?<=[a-z])(?<! a)(?<! an)(?<! in)(?<! of)(?<! no)(?<! or)(?<! and)(?<! the)(?<! with)"
    r" {1,3}(?=[A-Z][a-z]+(?: [a-z]|$))"
)
_STATEMENT = re.compile(r" (?:No|Small|Mild|Moderate|Large|Normal|There|Heart|Lungs|Left|Right|Bilateral|Stable) [a-z]")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|there|shows?|may|be)\b")
_COLUMNS = re.compile(rf"(?<=\w)[ \t]{{2,}}(?=(?i:{BARE})\s*(?:$|\n|[A-Z]))")
# Lines of a few words without any full stop are items in capitals or small letters as well, unless one breaks off.
_LONGEST_ITEM = 8  # words
_BREAKS_OFF = re.compile(
    r"(?:focal|large|small|acute|pleural|mild|moderate|left|right|lower|upper|bilateral|patchy|interstitial|pulmonary|new"
    r"|evidence|signs?|lobe|lung|cardiac|significant|definite|chronic|other|abnormal)$",
    re.IGNORECASE,
)
_CONTINUES = re.compile(r"(?:and|or|of|in|on|at|to|with|without|is|are|was|were|but|which|that|for)\b", re.IGNORECASE)
_NAME = re.compile(r"(?:[A-Za-z/-]+ ){0,3}[A-Za-z/-]+")
_WORD_OF_STATE = re.compile(
    rf"(?:{ANSWER}|(?:mildly |borderline )?(?:normal|unremarkable|clear|enlarged|intact|stable|small|mild|moderate"
    r"|large|severe|trace|tiny|minimal)(?: (?:in|for) \w+)?|within normal limits|wnl)\.?",
    re.IGNORECASE,
)
# "pneumothorax:", next line "present: no"
_ASKED_BELOW = re.compile(r":\s+(?:present|presence|status|answer|value|result|state|severity|size)\s*:", re.IGNORECASE)


_NAMED = re.compile(
    r"(?:^|(?<=[\s.;,]))(?:finding|label|condition|observation|question|q)\s*:\s*([^:\n]{2,80}?)[.,;?]?\s+"
    r"(?:status|answer|a|result|present|presence|value)\s*:[ \t]*",
    re.IGNORECASE,
)
_ANSWER_BELOW = re.compile(rf"\?\s*\n\s*(?={ANSWER}\b)", re.IGNORECASE)
_SEMICOLON = re.compile(rf"(?<=\w);(?={BARE}\b)", re.IGNORECASE)
_LEADERS = re.compile(r"[ \t]*(?:\.[ \t]?){4,}")


def items(text: str) -> list[str]:
    """The items of a report: its tables' rows, its lines where they are items, else the text as it is."""
    text = _named_answers(records_as_lines(text.replace("\r", "\n")))
    if "|" in text:
        text = rows_as_lines(text)
    if "  " in text or "\t" in text:
        text = _COLUMNS.sub(": ", text)
    text = _marks_on_lines(text)
    if ":" in text:
        text = _LABEL_IN_LINE.sub("\n", _ASKED_BELOW.sub(":", text))
    text = boxes_as_answers(text)
    if not _MARKED.search(text) and (len(_FLAT_LINE.findall(text)) > 1 or _STATEMENT.search(text)):
        text = _FLAT_LINE.sub("\n", text)
    return _unfolded(text.splitlines()) if "\n" in text or "[" in text else [text]


def _named_answers(text: str) -> str:
    """The text with "finding: X, status: absent", "X .... absent", "X;absent", an answer below "X?" as "X: absent"."""
    if ":" in text:
        text = _NAMED.sub(r"\n\1: ", text)
    if "?" in text:
        text = _ANSWER_BELOW.sub("? ", text)
    if ";" in text:
        text = _SEMICOLON.sub(": ", text)
    return _LEADERS.sub(": ", text)


def _marks_on_lines(text: str) -> str:
    """Every bullet, heading and number of a list on a line of its own; marks of bold and italic print vanish."""
    if "*" in text:
        text = text.replace("**", "")
        starred = _STAR.search(text) and not _STAR_BEHIND.search(text)
        text = _STAR.sub("\n* ", text) if starred else text.replace("*", " ")
    if "#" in text:
        text = re.sub(r"#+ ", "\n\n", _HEADING.sub(r"\n\n\1: ", text))
    if "\u2022" in text:
        text = text.replace("\u2022", "\n\u2022 ")
    if "-" in text:
        if _FLAT_BULLETS.search(text):
            text = _FLAT_DASH.sub("\n- ", text)
        if re.search(r"(?m)^-(?=[A-Za-z])(?!ve\b)", text):
            text = _GLUED_DASH.sub("\n- ", text)
    if text.startswith("> "):
        text = re.sub(r"(?:^|(?<=\s))> ", "\n> ", text)
    if _FIRST_TWO.search(text):
        text = _ENUMERATED.sub("\n- ", text)
    return text


@dataclass
class _Lines:
    """The items of lines read so far: `current` is still open, `parent` the label and `header` the header above it."""

    found: list[str] = field(default_factory=list)
    current: str = ""
    parent: str = ""
    header: str = ""

    def close(self) -> None:
        if self.current:
            self.found.append(self.current)
        self.current = ""

    def add(self, item: str) -> None:
        self.close()
        self.found.append(item)


def _unfolded(lines: list[str]) -> list[str]:
    """Lines joined where a break is a fold in running text."""
    short = _are_short(lines)
    read = _Lines()
    blank = False
    for line in lines:
        bullet = _BULLET.match(line)
        content = line[bullet.end() if bullet else 0 :].strip()
        ticked = content.startswith("[")
        content = ticked_line(content)
        if not content:
            blank = True
            if not read.current.endswith(":") and not is_header(read.current):
                read.close()
            continue
        _read_line(read, content, bool(bullet or ticked), blank, short)
        blank = False
    read.close()
    return read.found


def _read_line(read: _Lines, content: str, marked: bool, blank: bool, short: bool) -> None:
    """One line that is not blank; `marked`: it has a bullet or a box; `blank`: a blank line stands above it."""
    label = _LABEL_LINE.match(content)
    if read.current and is_header(read.current) and (read.current.endswith(":") or marked):
        read.header, read.current = read.current.rstrip(":") + ":", ""
    if read.header and not label and (marked or not (blank and read.found) and _is_item(content)):
        read.add(f"{read.header} {content}")
        return
    if read.header and not marked:
        read.header = ""
    name = label[0][:-1].strip().lower() if label else ""
    if read.parent and label and SIDES.fullmatch(name):
        if read.current == read.parent:
            read.current = ""
        read.close()
        read.current = f"{read.parent[:-1]} {content}"
        return
    if read.current.endswith(":"):
        read.parent = read.current
    if read.current.endswith(":"):
        starts = bool(label)
    elif _NAME.fullmatch(read.current) and _WORD_OF_STATE.fullmatch(content) and not _VERB.search(read.current.lower()):
        starts, content = False, f": {content}"
    else:
        starts = bool(marked or label or _starts_item(read.current, content, short))
    if starts:
        read.close()
    read.current = f"{read.current} {content}".strip()
    if read.current.endswith(":"):
        read.parent = read.current
    elif label:
        read.parent = ""


def _is_item(content: str) -> bool:
    """Whether a line without a bullet can be an item beneath a header: few words and no verb."""
    return content.count(" ") < _LONGEST_ITEM and not _VERB.search(content.lower())


def _are_short(lines: list[str]) -> bool:
    """Whether a text is several lines of a few words each, without any full stop: a list, hardly running text."""
    lines = [line.strip() for line in lines if line.strip()]
    return len(lines) > 1 and all(line.count(" ") < _LONGEST_ITEM and not re.search(r"[.;:!?]", line) for line in lines)


def _starts_item(current: str, content: str, short: bool) -> bool:
    if _GOES_ON.search(current):
        return False
    if short and not _BREAKS_OFF.search(current) and not _CONTINUES.match(content):
        return True
    if _ANSWERED_LINE.fullmatch(current):
        return not _VERB.search(current.lower())
    return bool(_CAPITAL.match(content))
