"""The rows of a report's tables as lines "finding: answer": markdown, "+---+", with line breaks or without."""

from __future__ import annotations

import re

from revtaf.knowledge.answers import ANSWER

_RULE = re.compile(r"[\s|:+=-]+")
_FLAT_RULE = re.compile(r"\|(?:\s*(?::?-{2,}:?|:-:?|-:)\s*\|)+")
_FLAT_ROW = re.compile(r"\|[ \t]+\|(?=[ \t]*[^\s|])")
_OPEN_FLAT_ROW = re.compile(rf"(\|[ \t]*(?i:{ANSWER}))[ \t]+(?=[A-Z][A-Za-z ]+\|)")  # "Effusion | No Edema | Yes"
SIDES = re.compile(
    r"(?:(?:on )?(?:the )?(?:left|right|bilateral|both|other)(?: (?:side|sided|lung|hemithorax))?|[rl]t?)"
)
_ANSWER = re.compile(rf"{ANSWER}\??", re.IGNORECASE)
_CROSS = re.compile(r"x|yes|y|1|\++|\[[xX*]\]", re.IGNORECASE)
_EMPTY = re.compile(r"-*|\[ ?\]")
_BOX = re.compile(r"\[[ xX*]?\]")
_OF_FINDINGS = re.compile(
    r"(?:findings?|abnormalit(?:y|ies)|labels?|conditions?|patholog(?:y|ies)|diagnos[ie]s|category|item|#|no\.?)?",
    re.IGNORECASE,
)
_A_FINDING = re.compile(
    r"pneumo|effusion|o?edema|consolidat|atelecta|cardiomeg|fractur|opaci|nodul|mass|lesion|infiltrat|thicken"
)
_EARLIER = re.compile(r"(?:prior|previous|earlier|last|comparison|history)\b.*", re.IGNORECASE)


def rows_as_lines(text: str) -> str:
    """The text with every row of a table as "label: value"; a heading gives its answers to the columns below."""
    if "\n" not in text.strip():
        text = _flat_table(text)
    rows = text.splitlines()
    lines, heading, within = [], [], False
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        if _RULE.fullmatch(row) and ("|" in row or "+" in row):
            continue
        if "|" not in row:
            lines.append(row)
            heading, within = [], False
            continue
        cells = [cell.strip(" \t*") for cell in row.strip().strip("|").split("|")]
        if not within and (("-" in following and _RULE.fullmatch(following)) or _is_heading(cells)):
            heading = cells
        else:
            lines += _row_items(cells, heading)
        within = True
    return "\n".join(lines)


def _is_heading(cells: list[str]) -> bool:
    """Whether a row without a rule below it names columns of answers: "Finding | Present | Absent"."""
    answers = cells[1:]
    return len(set(answers)) > 1 and bool(_OF_FINDINGS.fullmatch(cells[0])) and all(map(_ANSWER.fullmatch, answers))


def _flat_table(text: str) -> str:
    """A table whose line breaks became blanks, with its lines; the rule below the heading tells the columns."""
    rule = _FLAT_RULE.search(text)
    if not rule:
        return _FLAT_ROW.sub("|\n|", text) if text.startswith("|") else _OPEN_FLAT_ROW.sub(r"\1\n", text)
    columns = rule.group().count("|") - 1
    before, cells = text[: rule.start()], text[rule.end() :].split("|")[1:]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns + 1)]  # a blank stands between two rows
    body = ["|" + "|".join(row) + "|" for row in rows if len(row) == columns]
    rest = " ".join(rows[-1]) if rows and len(rows[-1]) < columns else ""
    return "\n".join([before.strip(), rule.group(), *body, rest])


def _row_items(cells: list[str], heading: list[str]) -> list[str]:
    """The lines of one row; `heading` may name findings, answers or sides."""
    if sum(":" in cell.rstrip(":") for cell in cells) > 1:  # "effusion: none | edema: mild"
        return [f"{cell}." for cell in cells]
    columns = heading if len(heading) == len(cells) else [""] * len(cells)
    of_findings = [bool(_A_FINDING.search(column.lower())) for column in columns]
    if any(of_findings) and all(
        _ANSWER.fullmatch(cell) for cell, found in zip(cells, of_findings, strict=True) if found
    ):
        return [f"{column}: {cell}." for cell, column, found in zip(cells, columns, of_findings, strict=True) if found]
    if len(cells) > 1 and _BOX.fullmatch(cells[0]):
        cells, columns = [cells[1], cells[0], *cells[2:]], [columns[1], columns[0], *columns[2:]]
    if len(cells) > 1 and (not cells[0] or cells[0].strip(".").isdigit()):
        cells, columns = cells[1:], columns[1:]
    label = cells[0]
    rest = [(c, name) for c, name in zip(cells[1:], columns[1:], strict=True) if c and not _EARLIER.fullmatch(name)]
    for cell, column in rest:
        if _CROSS.fullmatch(cell) and _ANSWER.fullmatch(column):  # a cross below "Absent"
            return [f"{label}: {column}."]
    if len(rest) > 1:
        rest = [(cell, column) for cell, column in rest if not _EMPTY.fullmatch(cell)]
    if rest and all(SIDES.fullmatch(column.lower()) for _, column in rest):
        return [f"{column} {label}: {cell}." for cell, column in rest]
    return [f"{label}: {', '.join(cell for cell, _ in rest)}."] if rest else [f"{label}."]
