"""Boxes and ticks as answers: "[x] effusion" and "effusion [x]" are yes, "[ ]" is no, "[ ] yes [x] no" is no.

Ticks, crosses and ballot boxes of any font are "[x]" and "[ ]" here (`revtaf.knowledge.spelling.same_marks`).
"""

from __future__ import annotations

import re

from revtaf.knowledge.answers import ANSWER

_ROUND = re.compile(r"\(\s?\)")
_ROUND_BOX = re.compile(r"\(([ xX*]?)\)")
_SIGN = re.compile(r"(?<=:)\s*([-+])(?=\s|$)")  # "pneumothorax: - effusion: +"
_BOX = r"\[[ xX*]?\]"
_OPTION = rf"(?:{ANSWER}|trace|small|tiny|minimal|mild|moderate|large|severe|left|right|bilateral|both"
_OPTION += "|normal|abnormal|enlarged)"
_BOX_THEN_OPTION = re.compile(rf":?\s*((?:{_BOX}\s*{_OPTION}\b[ \t,/|]*){{2,}})", re.IGNORECASE)
_OPTION_THEN_BOX = re.compile(rf":?\s*((?:\b{_OPTION}\s*{_BOX}[ \t,/|]*){{2,}})", re.IGNORECASE)
_STARTS = re.compile(rf"(?:[^\[\]]*:)?\s*(?:[-*+\u2022]\s*|\d{{1,2}}[.)]\s*)*{_BOX}")
_ENDS = re.compile(rf"{_BOX}[\s.]*$")
_BEHIND = re.compile(rf"(?<=\w)\s*:?[ \t]*({_BOX})(?=[\s.,;|]|$)[.,;]?")
_LINE = re.compile(rf"({_BOX})\s*(.+)")
_DENIES = re.compile(r"(?:no|not|without|absent|absence|negative)\b", re.IGNORECASE)


def boxes_as_answers(text: str) -> str:
    """The text with a choice of boxes as the chosen answer, and with a box behind a finding as yes or no. Boxes before
    findings begin lines, which `ticked_line` reads."""
    if _ROUND.search(text):
        text = _ROUND_BOX.sub(r"[\1]", text)
    if "+" in _SIGN.findall(text):
        text = _SIGN.sub(lambda sign: " [x]" if sign[1] == "+" else " [ ]", text)
    if "[" not in text:
        return text
    for pattern in (_BOX_THEN_OPTION, _OPTION_THEN_BOX):
        text = pattern.sub(_chosen, text)
    if _ENDS.search(text) or not _STARTS.match(text):
        return _BEHIND.sub(lambda found: f": {_answer(found[1])}.\n", text)
    return re.sub(rf"(?={_BOX}\s)", "\n", text)


def ticked_line(line: str) -> str:
    """A line that may begin with a box, as what it states; "" for "[ ] No effusion", an unticked denial."""
    found = _LINE.fullmatch(line)
    if not found:
        return line
    box, content = found.groups()
    if ":" in content.rstrip(": "):
        return content
    if _DENIES.match(content):
        return content if _answer(box) == "yes" else ""
    return f"{content}: {_answer(box)}"


def _answer(box: str) -> str:
    return "yes" if box.strip("[] ") else "no"


def _chosen(found: re.Match[str]) -> str:
    """The ticked ones of several options."""
    parts = re.split(rf"({_BOX})", found[1])
    first = 2 if not parts[0].strip() else 0  # where the options stand: behind their boxes, or before them
    boxes, options = parts[1::2], parts[first::2]
    ticked = [option.strip(" \t,/|") for box, option in zip(boxes, options, strict=False) if _answer(box) == "yes"]
    return f": {', '.join(ticked) or 'not stated'}.\n"
