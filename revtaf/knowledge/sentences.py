"""Sentences for the rules: what a report of any form states, as clauses of words without marks.

Prose, lists, tables and answers come out alike: `revtaf.knowledge.lists` finds the items of a report, full stops,
semicolons and exclamation marks their sentences, `revtaf.knowledge.answers` puts labels and answers into words,
`revtaf.knowledge.spelling` writes every word one way.
"""

from __future__ import annotations

import re
from functools import lru_cache

from revtaf.data.text import says_nothing
from revtaf.knowledge.answers import answered
from revtaf.knowledge.lists import items
from revtaf.knowledge.spelling import normalised, same_marks

_CACHED = 1 << 16
_LIST_NUMBER = re.compile(r"(?:(?<=^)|(?<=[\s.]))\d{1,2}[.)](?=\s)")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|(?<=[a-z]{2})\.(?=[a-z])|[;!]|\n")


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
    text = _LIST_NUMBER.sub(" . ", "\n".join(items(text)).lower())
    sentences = []
    for part in _SENTENCE_END.split(text):
        sentences += _part_sentences(part)
    if open_end and sentences:
        sentences[-1:] = normalised(part)
    return sentences


@lru_cache(maxsize=_CACHED)
def _part_sentences(part: str) -> tuple[str, ...]:
    """`answered`, remembered: sentences repeat."""
    return tuple(answered(part))
