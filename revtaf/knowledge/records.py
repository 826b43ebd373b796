"""Reports that a program wrote for programs: JSON and HTML, as lines "finding: answer"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCE = re.compile(r"'{3}\w*")  # backticks are quotes by now
_NAMES = ("finding", "name", "label", "condition", "pathology", "entity", "observation", "abnormality", "structure")
_ANSWERS = ("present", "presence", "status", "answer", "value", "state", "result", "positive")
_DEEPEST = 8  # levels of a record that are read
_LINE_TAG = re.compile(r"</?(?:br|p|div|li|ul|ol|tr|h[1-6]|table|tbody|thead)\b[^<>]{0,99}>", re.IGNORECASE)
_CELL_TAG = re.compile(r"<t[dh]\b[^<>]{0,99}>", re.IGNORECASE)
_TAG = re.compile(r"</?(?:b|strong|i|em|u|span|sup|sub|td|th|html|body|font)\b[^<>]{0,99}>", re.IGNORECASE)

_FIELD = re.compile(r"<(\w{1,40})>([^<>\n]{1,200})</\1>")  # XML


def records_as_lines(text: str) -> str:
    """The text, or where it is a record of JSON its lines; tags of HTML become the line breaks that they show as."""
    if "{" in text or "[" in text:
        bare = _FENCE.sub("", text).strip()
        if bare[:1] in ("{", "["):
            try:
                return "\n".join(_lines("", json.loads(bare), 0))
            except (ValueError, RecursionError):
                return text
    if "<" in text and ">" in text:
        text = _TAG.sub("", _CELL_TAG.sub(" | ", _LINE_TAG.sub("\n", text)))
        text = _FIELD.sub(r"\n\1: \2\n", text)
    return text


def _lines(name: str, value: Any, depth: int) -> Iterator[str]:
    """The lines of a value that a record gives to a name; the innermost name is the one that tells."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        lowered = {str(key).lower(): entry for key, entry in value.items()}
        name = next((str(lowered[key]) for key in _NAMES if isinstance(lowered.get(key), str)), name)
        answer = next((lowered[key] for key in _ANSWERS if key in lowered), None)
        if name and answer is not None and not isinstance(answer, dict | list):
            yield from _lines(name, answer, depth + 1)
            return
        for key, entry in value.items():
            if str(key).lower() not in _NAMES:
                yield from _lines(str(key), entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            yield from _lines(name, entry, depth + 1)
    elif value is not None:
        said = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        yield f"{name.replace('_', ' ')}: {said}".removeprefix(": ")
