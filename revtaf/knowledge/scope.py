"""Sentences and scopes: what a report asserts, denies, or leaves open (DIFFERS: own rules, no parser).

The CheXpert labeler (Irvin et al. 2019) asks a dependency parser. Here words act at a distance instead, as in
NegEx and ConText: a trigger ("no", "may represent") covers what follows it, or what stands before it ("is not
seen", "cannot be excluded"), up to the end of its clause. The triggers are in phrases/scope.yaml.

Precedence, for one mention:
  1. "... cannot be excluded" after it: uncertain.
  2. The nearest trigger before it in the clause decides; a weak one ("concerning for") leaves a negation alone.
  3. A negation before or after it beats an uncertainty on the other side.
  4. No trigger: positive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from revtaf.labels import NEGATIVE, POSITIVE, UNCERTAIN

# "versus" reaches back over its neighbour only, not over the finding that is being explained.
_AROUND_REACH = 28
_CACHED_SENTENCES = 1 << 16

# Cleaning glues "a/b" to "ab"; a finding inside a longer word is set free ("consolidationatelectasis").
_GLUED = re.compile(
    r"(?<=[a-z]{4})(?<!lymph)(?<!papill)(?<!angio)"
    r"(?=(?:atelecta|consolidation|effusion|pneumonia|pneumothora|edema|opacit|infiltrat|scarring|tortuosity|fibrosis))"
)
_LIST_NUMBER = re.compile(r"(?:(?<=^)|(?<=[\s.]))\d{1,2}[.)](?=\s)")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|(?<=[a-z]{2})\.(?=[a-z])|[;:!]|\n\s*\n")
_DEIDENTIFIED = re.compile(r"\bx{2,}\b|_+")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_AFTER = {
    "negation_after": NEGATIVE,
    "uncertain_after": UNCERTAIN,
    "uncertain_after_strong": UNCERTAIN,
    "uncertain_around": UNCERTAIN,
}
# A word that ends the reach of a trigger towards what stands before it.
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|there|shows?|remains?|appears?|may|might|could|demonstrates?|with|"
    r"without|no|present|seen|noted)\b"
)


def load_phrases(name: str) -> Any:
    """The content of phrases/NAME: parsed if YAML, else the non-empty lines."""
    text = (files("revtaf.knowledge") / "phrases" / name).read_text(encoding="utf-8")
    if name.endswith(".yaml"):
        return yaml.safe_load(text)
    return [line for line in text.splitlines() if line.strip()]


LONGEST = 300  # words of a sentence: no report has one, a run-away decoder has, and scopes cost its square


def split_sentences(report: str) -> list[str]:
    """Normalised sentences of a raw or of a cleaned report: words and single blanks, nothing else.

    Not a split of `revtaf.data.text`: the rules want clauses without marks, from whatever a report holds.
    Commas and hyphens carry no rule because cleaned text has lost the former; semicolons, colons and blank
    lines end a sentence in raw text. De-identification marks (XXXX, ___) vanish.
    """
    text = _LIST_NUMBER.sub(" . ", report.lower())
    sentences = []
    for part in _SENTENCE_END.split(text):
        sentence = _NO_WORD.sub(" ", _DEIDENTIFIED.sub(" ", part.replace("'", ""))).strip()
        if sentence:
            words = _GLUED.sub(" ", sentence).replace(" andor ", " and or ").split(" ")
            sentences += [" ".join(words[i : i + LONGEST]) for i in range(0, len(words), LONGEST)]
    return sentences


def alternatives(patterns: list[str]) -> re.Pattern[str]:
    """One expression for many, each from a word start to a word end; the longest entry is tried first."""
    ordered = sorted(patterns, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(f"(?:{p})" for p in ordered) + r")\b")


def _compile_triggers() -> re.Pattern[str]:
    kinds = load_phrases("scope.yaml")
    entries = [(pattern, kind) for kind, patterns in kinds.items() for pattern in patterns]
    entries.sort(key=lambda entry: (entry[1] != "pseudo", -len(entry[0])))
    groups = {kind: 0 for kind in kinds}
    parts = []
    for pattern, kind in entries:
        groups[kind] += 1
        parts.append(f"(?P<{kind}__{groups[kind]}>{pattern})")
    return re.compile(r"\b(?:" + "|".join(parts) + r")\b")


_TRIGGERS = _compile_triggers()


@dataclass(frozen=True)
class Trigger:
    """What changes the meaning of words nearby: characters [start, end) of the sentence, its kind in scope.yaml."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Scoped:
    """A normalised sentence with its triggers in reading order."""

    text: str
    triggers: tuple[Trigger, ...]

    def clause(self, start: int, end: int) -> tuple[int, int]:
        """Character range of the clause around a span."""
        low, high = 0, len(self.text)
        for trigger in self.triggers:
            if trigger.kind == "stop":
                if trigger.start <= start:
                    low = trigger.start
                elif trigger.start >= end:
                    high = trigger.start
                    break
        return low, high

    def status(self, start: int, end: int) -> int:
        """POSITIVE, NEGATIVE or UNCERTAIN for the words at [start, end)."""
        low, high = self.clause(start, end)
        before = after = POSITIVE
        for trigger in self.triggers:
            if low <= trigger.start and trigger.end <= start:
                before = _carried(trigger.kind, before)
            elif end <= trigger.start and trigger.end <= high and trigger.kind in _AFTER:
                gap = self.text[end : trigger.start]
                if _VERB.search(gap) or (trigger.kind == "uncertain_around" and len(gap) > _AROUND_REACH):
                    break
                if trigger.kind == "uncertain_after_strong":
                    return UNCERTAIN
                after = _AFTER[trigger.kind]
                break
        if NEGATIVE in (before, after):
            return NEGATIVE
        return UNCERTAIN if UNCERTAIN in (before, after) else POSITIVE


def _carried(kind: str, status: int) -> int:
    """The status that a trigger passes on to the words after it, given the one that reaches it."""
    if kind == "negation_before":
        return NEGATIVE
    if kind in ("uncertain_before", "uncertain_around"):
        return UNCERTAIN
    if kind == "uncertain_before_weak":
        return NEGATIVE if status == NEGATIVE else UNCERTAIN
    if kind == "stop_negation" and status == NEGATIVE:
        return POSITIVE
    return status


@lru_cache(maxsize=_CACHED_SENTENCES)
def analyse(sentence: str) -> Scoped:
    """Find the triggers of a normalised sentence."""
    found = tuple(Trigger(m.start(), m.end(), m.lastgroup.split("__")[0]) for m in _TRIGGERS.finditer(sentence))
    return Scoped(sentence, tuple(t for t in found if t.kind != "pseudo"))
