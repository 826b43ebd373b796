"""The items of a report: its lines where they are items, the rows of its tables, its bullets.

Language models and structured reports write them; running text is folded, and a fold ends nothing. A row becomes
"finding: answer". Where line breaks have become blanks, as in files of predictions, bullets, rows, boxes and
capitalised labels still tell the items.
"""

from __future__ import annotations

import re

from revtaf.knowledge.answers import ANSWER, BARE

_BULLET = re.compile(r"\s*(?:[-*+>\u2022]+|#{1,6}|\d{1,2}[.)]|\([a-z0-9]\)|[a-z]\))\s+")
_TICKED = re.compile(r"\s*\[([ xX]?)\]\s*(.+)")
_LABEL_LINE = re.compile(r"[A-Za-z][A-Za-z0-9 ,/&()'\-]{1,60}:(?!\d)")
_GOES_ON = re.compile(
    r"(?:,|\b(?:a|an|the|of|in|on|at|to|with|without|no|and|or|for|by|from|is|are|was|were|has|have|not|any|new|likely))$",
    re.IGNORECASE,
)
_CAPITAL = re.compile(r"[A-Z][a-z]+\b|A\s")
_ANSWERED_LINE = re.compile(r"(?:[\w/-]+\s+){1,5}(?:no|none|yes|nil|absent|negative|present|positive)$", re.IGNORECASE)
_RULE = re.compile(r"[\s|:+=-]+")
_LABEL_IN_LINE = re.compile(r"(?<=[a-z0-9)])\s+(?=[A-Z][A-Za-z]*(?: [A-Za-z/&-]+){0,4}:\s)")
_FLAT_BULLETS = re.compile(r"(?:^|[:.;\n])\s*- ")
_FLAT_RULE = re.compile(r"\|(?:\s*:?-{2,}:?\s*\|)+")
_FLAT_ROW = re.compile(r"\|[ \t]+\|(?=[ \t]*[^\s|])")
_MARKED = re.compile(r"[.;:!?\n](?=.)", re.DOTALL)
_FLAT_TICKS = re.compile(r"(?=\[[ xX]?\]\s)")
# In a text of several lines whose breaks became blanks, and without any mark: a capital begins the next line.
_FLAT_LINE = re.compile(
    r"(?<=[a-z])(?<! a)(?<! an)(?<! in)(?<! of)(?<! no)(?<! or)(?<! and)(?<! the)(?<! with) (?=[A-Z][a-z]+(?: [a-z]|$))"
)
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|there|shows?|may|be)\b")
_SIDES = re.compile(r"(?:(?:on )?(?:the )?(?:left|right|bilateral|both|other)(?: (?:side|sided|lung|hemithorax))?)")
_COLUMNS = re.compile(rf"(?<=\w)[ \t]{{2,}}(?=(?i:{BARE})\s*(?:$|\n|[A-Z]))")


def items(text: str) -> list[str]:
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
            text = re.sub(rf"(?:^|(?<=\s))- (?!{BARE}\s*(?:$|[-.;,\n]))", "\n- ", text, flags=re.IGNORECASE)
    if "[" in text:
        text = _FLAT_TICKS.sub("\n", text)
    if not _MARKED.search(text) and len(_FLAT_LINE.findall(text)) > 1:
        text = _FLAT_LINE.sub("\n", text)
    return _unfolded(text.splitlines()) if "\n" in text or "[" in text else [text]


def _unfolded(lines: list[str]) -> list[str]:
    """Lines joined where a break is a fold in running text."""
    found: list[str] = []
    current, parent = "", ""
    for line in lines:
        content = line.strip()
        bullet = _BULLET.match(line)
        if bullet:
            content = line[bullet.end() :].strip()
        if ticked := _TICKED.fullmatch(content):
            content = f"{ticked[2]}: {'yes' if ticked[1].strip() else 'no'}"
        if not content:
            current = _close(found, current) if not current.endswith(":") else current
            continue
        label = _LABEL_LINE.match(content)
        if label and parent and _SIDES.fullmatch(label[0][:-1].strip().lower()):
            if current == parent:
                current = ""
            _close(found, current)
            current = f"{parent[:-1]} {content}"
            continue
        if current.endswith(":"):
            starts = bool(label)
            parent = current
        else:
            starts = bool(bullet or label or ticked or _starts_item(current, content))
        if starts:
            current = _close(found, current)
        current = f"{current} {content}".strip()
        if current.endswith(":"):
            parent = current
        elif label:
            parent = ""
    _close(found, current)
    return found


def _starts_item(current: str, content: str) -> bool:
    if _ANSWERED_LINE.fullmatch(current):
        return not _VERB.search(current.lower())
    return bool(_CAPITAL.match(content)) and not _GOES_ON.search(current)


def _close(found: list[str], current: str) -> str:
    if current:
        found.append(current)
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
    answer = re.compile(rf"(?:{ANSWER})", re.IGNORECASE)
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
