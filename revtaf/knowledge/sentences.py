"""Sentences for the rules: what a report of any form states, as clauses of words without marks.

Prose, lists, tables and answers come out alike. "Pneumothorax: No" becomes "no pneumothorax", so that the scope rules,
which know triggers before and after a finding, need to know nothing of forms. In reading order:

1. Marks and table rows. A row of a table is an item "finding: answer".
2. Lines. A bullet, a label with a colon, an answer before it, or a capital behind a line that is complete starts a new
   item; any other line break is a fold in running text. Blank lines end an item.
3. Sentences: full stops, semicolons, exclamation marks.
4. A label and what follows its colon (`_labelled`).
5. Findings and answers that follow one another without any mark (`_answers`), as cleaning leaves a list.
"""

from __future__ import annotations

import re
from functools import lru_cache

from revtaf.data.text import says_nothing
from revtaf.knowledge.scope import leading_trigger
from revtaf.knowledge.spelling import one_spelling, same_marks

LONGEST = 300  # words of a sentence: no report has one, a run-away decoder has, and scopes cost its square
_LONGEST_LABEL = 7  # words
_LONGEST_VALUE = 12  # words that a label is joined to
_CACHED = 1 << 16

# Cleaning glues "a/b" to "ab"; a finding inside a longer word is set free ("consolidationatelectasis").
_GLUED = re.compile(
    r"(?<=[a-z]{4})(?<!lymph)(?<!papill)(?<!angio)"
    r"(?=(?:atelecta|consolidation|effusion|pneumonia|pneumothora|edema|opacit|infiltrat|scarring|tortuosity|fibrosis))"
)
_LIST_NUMBER = re.compile(r"(?:(?<=^)|(?<=[\s.]))\d{1,2}[.)](?=\s)")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|(?<=[a-z]{2})\.(?=[a-z])|[;!]|\n")
_DEIDENTIFIED = re.compile(r"\bx{2,}\b|_+")
_NO_WORD = re.compile(r"[^a-z0-9]+")

# Answers ---------------------------------------------------------------------------------------------------------

_SEEN = "seen|present|identified|visuali[sz]ed|noted|detected|evident|demonstrated|appreciated|observed|found|apparent|visible"
_NO = (
    rf"no|none(?: (?:\w+ly )?(?:{_SEEN}))?|nil|absent|negative|not (?:\w+ly )?(?:{_SEEN})|no evidence(?: of (?:this|it|such))?"
    rf"|false|excluded|ruled out|denied|resolved|not any|without|n|0"
)
_YES = rf"(?:yes|present|positive|true|confirmed|{_SEEN}|y|1)"
_UNSURE = "uncertain|unsure|unclear|equivocal|indeterminate|questionable|possible|possibly|maybe|probable|suspected|borderline"
_SILENT = (
    "n/a|na|n a|not (?:applicable|available|assessed|assessable|mentioned|stated|reported|specified|evaluated|addressed|commented)"
    "|unknown|null|nan|blank|unspecified|not (?:commented|reported) on"
)
_IS_NO, _IS_UNSURE, _IS_SILENT = (re.compile(rf"(?:{words})") for words in (_NO, _UNSURE, _SILENT))
_BEGINS_YES = re.compile(rf"{_YES}\b")
_ANSWER = rf"(?:{_SILENT}|{_NO}|{_YES}|{_UNSURE})"
_BEGINS_ANSWER = re.compile(rf"\W*({_ANSWER})\b[\W_]*")
_BARE = r"(?:no|none|yes|absent|present|negative|positive|nil|not (?:seen|present|identified|visuali[sz]ed))"
_BOTH_SIDES = re.compile(
    r"\b(?:left|right)\b.*\b(?:yes|present|positive|small|tiny|trace|minimal|mild|moderate|large|severe)\b.*\b(?:left|right)\b"
)
# An answer without a colon: "Pneumothorax - none - ...", "pneumothorax (no)", "pneumothorax? No", "pneumothorax = 0".
_DASHED = re.compile(rf"\s+-+\s*(?={_BARE}\s*(?:$|[.;,(\n]|\s-))")
_BRACKETED = re.compile(rf"\s*[(\[]\s*({_BARE}|n|y)\s*[)\]]")
_ASKED = re.compile(rf"\?\s*(?={_BARE}\b)")
_EQUALS = re.compile(r"\s*(?:=>?|->|\t)\s*")
_QUESTION = re.compile(r"^(?:is|are|was|were) there (?:an? |any )?(?:evidence of )?(?=\w)")
_SIGNS = re.compile(r"(?<!\w)([-+])\s?ve\b")
_COLUMNS = re.compile(rf"(?<=\w)[ \t]{{2,}}(?=(?i:{_BARE})\s*(?:$|\n|[A-Z]))")

# Labels ----------------------------------------------------------------------------------------------------------

_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|there|shows?|remains?|appears?|may|might|could|demonstrates?|reveals?|suggests?"
    r"|represents?|cannot|been|be)\b"
)
_HEADING = re.compile(
    r"(?:(?:final|chest|radiographic|key|main|other|additional|overall|detailed|clinical) )*(?:findings?|impressions?"
    r"|conclusions?|reports?|summary|observations?|interpretation|comparisons?|technique|indications?|history|examination"
    r"|exam|study|assessment|comments?|answers?|labels?|status|results?|views?|findings and impression|text|note)"
)
# A label with one of these words asserts something by itself ("Small left effusion: ...").
_ASSERTED = re.compile(
    r"\b(?:left|right|bilateral|bi\w+ar|small|tiny|trace|minimal|mild|moderate|large|severe|new|stable|unchanged|increas\w+"
    r"|worsen\w+|persistent|patchy|focal|diffuse|known|again|lobe|base|bases|apex|zone|possible|probable|likely)\b"
)
_SIDES = re.compile(r"(?:(?:on )?(?:the )?(?:left|right|bilateral|both|other)(?: (?:side|sided|lung|hemithorax))?)")
# "pneumothorax there is no pneumothorax": a label that cleaning robbed of its colon
_REPEATED = re.compile(r"(?:\w+ ){0,3}?(\w{6,}?)s? (?=there (?:is|are|was|were) .*\b\1)")
_SHARED = re.compile(r"[a-z]{5,}")
_COMMON = frozenset("right upper lower there which chest acute small large their other about".split())

# Lines and tables ------------------------------------------------------------------------------------------------

_BULLET = re.compile(r"\s*(?:[-*+>\u2022]+|#{1,6}|\d{1,2}[.)]|\([a-z0-9]\)|[a-z]\))\s+")
_TICKED = re.compile(r"\s*\[([ xX]?)\]\s*(.+)")
_LABEL_LINE = re.compile(r"[A-Za-z][A-Za-z0-9 ,/&()'\-]{1,60}:(?!\d)")
_GOES_ON = re.compile(
    r"(?:,|\b(?:a|an|the|of|in|on|at|to|with|without|no|and|or|for|by|from|is|are|was|were|has|have|not|any|new|likely))$",
    re.I,
)
_CAPITAL = re.compile(r"[A-Z][a-z]+\b|A\s")
_ANSWERED_LINE = re.compile(
    rf"(?:[\w/-]+\s+){{1,5}}(?:no|none|yes|nil|absent|negative|present|positive)$", re.IGNORECASE
)
_RULE = re.compile(r"[\s|:+=-]+")
_LABEL_IN_LINE = re.compile(r"(?<=[a-z0-9)])\s+(?=[A-Z][A-Za-z]*(?: [A-Za-z/&-]+){0,4}:\s)")
_FLAT_BULLETS = re.compile(r"(?:^|[:.;\n])\s*- ")
_FLAT_RULE = re.compile(r"\|(?:\s*:?-{2,}:?\s*\|)+")
_FLAT_ROW = re.compile(r"\|[ \t]+\|(?=[ \t]*[^\s|])")
_MARKED = re.compile(r"[.;:!?\n](?=.)", re.DOTALL)
_FLAT_TICKS = re.compile(r"\s+(?=\[[ xX]?\]\s)")
# In a text of several lines whose breaks became blanks, and without any mark: a capital begins the next line.
_FLAT_LINE = re.compile(
    r"(?<=[a-z])(?<! a)(?<! an)(?<! in)(?<! of)(?<! no)(?<! or)(?<! and)(?<! the)(?<! with) (?=[A-Z][a-z]+(?: [a-z]|$))"
)


def split_sentences(report: str) -> list[str]:
    """Normalised sentences of a raw or of a cleaned report: words and single blanks, nothing else; [] where the report
    says nothing ("None.", "See impression.").

    Not a split of `revtaf.data.text`: the rules want clauses without marks, from whatever a report holds. Commas and
    hyphens carry no rule because cleaned text has lost the former. De-identification marks (XXXX, ___) vanish.
    """
    if says_nothing(report):
        return []
    text = same_marks(report)
    open_end = " . " in text and not text.rstrip().endswith(".")  # cleaned, and cut within a sentence
    text = _LIST_NUMBER.sub(" . ", "\n".join(_items(text)).lower())
    sentences = []
    for part in _SENTENCE_END.split(text):
        sentences += _part_sentences(part)
    if open_end and sentences:
        sentences[-1:] = _normalised(part)
    return sentences


@lru_cache(maxsize=_CACHED)
def _part_sentences(part: str) -> tuple[str, ...]:
    """The sentences of a part in lower case, between two ends of sentences."""
    part = _SIGNS.sub(lambda sign: " negative " if sign[1] == "-" else " positive ", part)
    part = _DASHED.sub(": ", _BRACKETED.sub(r": \1,", _ASKED.sub(": ", _EQUALS.sub(": ", part))))
    found = _labelled(part) if ":" in part else _normalised(part)
    if " there " in part:
        found = [
            sentence[repeated.end() :] if (repeated := _REPEATED.match(sentence)) else sentence for sentence in found
        ]
    return tuple(answer for sentence in found for answer in _answers(sentence))


def _normalised(text: str) -> list[str]:
    """[] or one sentence: words in one spelling between single blanks; several where one is longer than `LONGEST`."""
    text = _DEIDENTIFIED.sub(" ", text.replace("'", "").replace("w/o", "without"))
    sentence = _NO_WORD.sub(" ", text).strip()
    if not sentence:
        return []
    words = " ".join(map(one_spelling, sentence.split(" ")))
    words = _GLUED.sub(" ", words).split(" ")
    return [" ".join(words[i : i + LONGEST]) for i in range(0, len(words), LONGEST)]


# Answers without a colon ------------------------------------------------------------------------------------------

_LAST_ANSWERS = frozenset("no none nil yes absent negative present positive".split())
_STRONG = frozenset("no none nil yes".split())
_NO_ITEM = (
    "is|are|was|were|has|have|had|there|been|be|may|might|could|can|cannot|not|without|with|but|if|shows?|remains?|appears?"
    "|seen|demonstrates?|however|than|when|unless|any|evidence|no|none|nil|yes|absent|negative|present|positive"
)
_ITEM = re.compile(
    rf"(no findings? |(?:(?!(?:{_NO_ITEM})\b)\w+ ){{1,6}})(?:(?:present|seen|visible|identified) (?=no\b|yes\b))?"
    r"(no|none|nil|yes|absent|negative|present|positive)(?: |$)"
)


def _answers(sentence: str) -> list[str]:
    """ "pneumothorax no effusion yes" -> "no pneumothorax", "effusion"; any other sentence as it is.

    The whole sentence must be made of findings, each with its answer behind it. Where one of them is "no", which may
    also look ahead, the last one must be an answer that cannot ("small effusion no pneumothorax present" is no list).
    """
    last = sentence[sentence.rfind(" ") + 1 :]
    if last not in _LAST_ANSWERS:
        return [sentence]
    sentence = _QUESTION.sub("", sentence)
    items, end = [], 0
    while end < len(sentence) and (item := _ITEM.match(sentence, end)):
        items.append((item[1].strip(), item[2]))
        end = item.end()
    if end < len(sentence) or (last not in _STRONG and any(answer == "no" for _, answer in items)):
        return [sentence]
    return [_stated(label, answer) for label, answer in items]


def _stated(label: str, answer: str) -> str:
    if answer in ("yes", "present", "positive"):
        return label
    # "heart negative": the predicate stays; what it says of a finding is denied
    return f"no {label} negative" if answer == "negative" else f"no {label}"


# A label and its value --------------------------------------------------------------------------------------------


def _labelled(part: str) -> list[str]:
    """The sentences of a part with colons: "a: no b: small c: yes" has three labels, "b" behind the answer of "a"."""
    label, *values = part.split(":")
    sentences = []
    for number, value in enumerate(values):
        following = ""
        if number < len(values) - 1:
            if answer := _BEGINS_ANSWER.match(value):
                value, following = answer[1], value[answer.end() :]
            elif "," in value:
                value, _, following = value.rpartition(",")
        sentences += _valued(label, value)
        label = following
    return sentences


def _valued(label: str, value: str) -> list[str]:
    """The sentences of one label and what stands behind its colon, up to the end of the sentence."""
    if label[-1:].isdigit() and value[:1].isdigit():  # a time, a ratio
        return _normalised(f"{label} {value}")
    first = _normalised(value.split(",")[0])
    names, values = _normalised(label), _normalised(value)
    name = _QUESTION.sub("", names[0]) if names else ""
    if not name or len(names[0].split(" ")) > _LONGEST_LABEL or _VERB.search(name):
        return names + values
    if _HEADING.fullmatch(name):
        return values
    asserted = bool(_ASSERTED.search(name))
    if not values:
        return names if asserted else []
    said, begin = values[0], first[0] if first else ""
    if _IS_SILENT.fullmatch(said):
        return []
    if _IS_NO.fullmatch(begin):
        denied = _stated(name, "negative" if begin == "negative" else "no")
        rest = _normalised(value.partition(",")[2])
        return [denied, *rest]
    if _IS_UNSURE.fullmatch(said) or said == "1 1":
        return [f"possible {name}"]
    shares = bool((set(_SHARED.findall(name)) - _COMMON) & set(_SHARED.findall(said)))
    kind, trigger = leading_trigger(re.sub(r"^there (?:is|are) ", "", said))
    if kind.startswith("negation") and trigger != "not" and not (asserted and shares):
        if asserted:
            return [name, *values]
        found = [f"no {name}", *values]
        if _BOTH_SIDES.search(said):
            found.append(name)
        elif trigger in ("no", "without") and not _VERB.search(said):
            found[:2] = [f"no {name} {begin}", *_normalised(value.partition(",")[2])]
        return found
    if shares:
        return values
    if kind.startswith("uncertain_before") and not re.match(r"(?:may|might|could|would|cannot)\b", said):
        return [f"{said} {name}"]
    if (
        kind.startswith("uncertain_after")
        or _BEGINS_YES.match(said)
        or (not _VERB.search(said) and len(said.split(" ")) <= _LONGEST_VALUE)
    ):
        return [f"{name} {said}"]
    return [name, *values] if asserted else values


# Lines and tables -------------------------------------------------------------------------------------------------


def _items(text: str) -> list[str]:
    """The items of a report: its tables' rows, its lines where they are items, else the text as it is."""
    if "|" in text:
        text = _table_rows(text)
    if "  " in text or "\t" in text:
        text = _COLUMNS.sub(": ", text)
    text = text.replace("*", "\n* " if "\n*" in text else " ") if "**" not in text else text.replace("**", "")
    if ":" in text:
        text = _LABEL_IN_LINE.sub("\n", text)
    if "#" in text:
        text = re.sub(r"#+ ", "\n\n", text)
    if "\u2022" in text:
        text = text.replace("\u2022", "\n\u2022 ")
    if " - " in text or text.startswith("- "):
        if _FLAT_BULLETS.search(text):
            text = re.sub(rf"(?:^|(?<=\s))- (?!{_BARE}\s*(?:$|[-.;,\n]))", "\n- ", text, flags=re.IGNORECASE)
    if "[" in text:
        text = _FLAT_TICKS.sub("\n", text)
    if not _MARKED.search(text) and len(_FLAT_LINE.findall(text)) > 1:
        text = _FLAT_LINE.sub("\n", text)
    return _unfolded(text.splitlines()) if "\n" in text or "[" in text else [text]


def _unfolded(lines: list[str]) -> list[str]:
    """Lines joined where a break is a fold in running text."""
    items: list[str] = []
    current, parent = "", ""
    for line in lines:
        content = line.strip()
        bullet = _BULLET.match(line)
        if bullet:
            content = line[bullet.end() :].strip()
        if ticked := _TICKED.fullmatch(content):
            content = f"{ticked[2]}: {'yes' if ticked[1].strip() else 'no'}"
        if not content:
            current = _close(items, current) if not current.endswith(":") else current
            continue
        label = _LABEL_LINE.match(content)
        if label and parent and _SIDES.fullmatch(label[0][:-1].strip().lower()):
            if current == parent:
                current = ""
            _close(items, current)
            current = f"{parent[:-1]} {content}"
            continue
        if current.endswith(":"):
            starts = bool(label)
            parent = current
        else:
            starts = bool(bullet or label or ticked or _starts_item(current, content))
        if starts:
            current = _close(items, current)
        current = f"{current} {content}".strip()
        if current.endswith(":"):
            parent = current
        elif label:
            parent = ""
    _close(items, current)
    return items


def _starts_item(current: str, content: str) -> bool:
    if _ANSWERED_LINE.fullmatch(current):
        return not _VERB.search(current.lower())
    return bool(_CAPITAL.match(content)) and not _GOES_ON.search(current)


def _close(items: list[str], current: str) -> str:
    if current:
        items.append(current)
    return ""


def _table_rows(text: str) -> str:
    """The text with every row of a table as "label: value"; a heading gives its answers to the columns below."""
    if "\n" not in text.strip():
        text = _flat_table(text)
    lines, heading = [], []
    rows = text.splitlines()
    for number, row in enumerate(rows):
        if "|" not in row:
            lines.append(row)
            heading = []
            continue
        if _RULE.fullmatch(row):
            continue
        cells = [cell.strip(" \t*") for cell in row.strip().strip("|").split("|")]
        if number + 1 < len(rows) and "-" in rows[number + 1] and _RULE.fullmatch(rows[number + 1]):
            heading = cells
            continue
        lines += _row_items(cells, heading)
    return "\n".join(lines)


def _flat_table(text: str) -> str:
    """A table whose line breaks became blanks, with its lines; the rule below the heading tells the columns."""
    rule = _FLAT_RULE.search(text)
    if not rule:
        return _FLAT_ROW.sub("|\n|", text)
    columns = rule.group().count("|") - 1
    before, cells = text[: rule.start()], text[rule.end() :].split("|")[1:]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns + 1)]  # a blank stands between two rows
    body = ["|" + "|".join(row) + "|" for row in rows if len(row) == columns]
    rest = " ".join(rows[-1]) if rows and len(rows[-1]) < columns else ""
    return "\n".join([before.strip(), rule.group(), *body, rest])


def _row_items(cells: list[str], heading: list[str]) -> list[str]:
    answer = re.compile(rf"(?:{_ANSWER})", re.IGNORECASE)
    columns = heading if len(heading) == len(cells) else [""] * len(cells)
    if all(map(answer.fullmatch, cells)) and any(columns):  # findings stand in the heading
        return [f"{column}: {cell}." for column, cell in zip(columns, cells, strict=True)]
    if len(cells) > 1 and (not cells[0] or cells[0].strip(".").isdigit()):
        cells, columns = cells[1:], columns[1:]
    label, rest = cells[0], [(cell, column) for cell, column in zip(cells[1:], columns[1:], strict=True) if cell]
    for cell, column in rest:
        if cell.lower() in ("x", "yes", "1") and answer.fullmatch(column):  # a cross below "Absent"
            return [f"{label}: {column}."]
    if rest and all(_SIDES.fullmatch(column.lower()) for _, column in rest):
        return [f"{column} {label}: {cell}." for cell, column in rest]
    return [f"{label}: {', '.join(cell for cell, _ in rest)}."] if rest else [f"{label}."]
