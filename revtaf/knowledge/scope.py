"""Scopes: what a report asserts, denies, or leaves open (DIFFERS: own rules, no parser).

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

RULES = "rules-v3"  # the version of the rules and of their phrases; a change that moves a label raises it
# "versus" reaches back over its neighbour only, not over the finding that is being explained.
_AROUND_REACH = 28
_CACHED_SENTENCES = 1 << 16
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


# What the phrase files write as <words>: up to sixteen words of one noun phrase. A verb, a denial, another organ or
# another finding ends it.
_WORDS = (
    r"(?:(?!(?:no|not|nor|without|with|but|is|are|was|were|has|have|had|which|that|there|however|may|might|could|versus|vs"
    r"|remains?|appears?|shows?|demonstrates?|normal|clear|intact|unremarkable|heart|lungs|effusions?|fluid|pneumothora\w+"
    r"|consolidations?|atelectasis|edema|nodules?|cardiomegaly)\b)\w+ ){0,16}"
)
# What they write as <adverbs>: "not clearly or definitely seen".
_ADVERBS = r"(?:(?:\w+ly|and|or|otherwise|now|also|very|quite|much|so|been|be) ){0,8}"


def load_phrases(name: str) -> Any:
    """The content of phrases/NAME: parsed if YAML, with <words> and <adverbs> written out, else the non-empty lines."""
    text = (files("revtaf.knowledge") / "phrases" / name).read_text(encoding="utf-8")
    if name.endswith(".yaml"):
        return yaml.safe_load(text.replace("<words>", _WORDS).replace("<adverbs>", _ADVERBS))
    return [line for line in text.splitlines() if line.strip()]


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
    # (?=\w): no trigger is sought at the end of a word, which is also a boundary
    return re.compile(r"\b(?=\w)(?:" + "|".join(parts) + r")\b")


_TRIGGERS = _compile_triggers()


def leading_trigger(sentence: str) -> tuple[str, str]:
    """(kind, words) of the trigger that a normalised sentence begins with; "" and "" where it begins with none."""
    found = _TRIGGERS.match(sentence)
    return (found.lastgroup.split("__")[0], found.group()) if found else ("", "")


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
    if (
        found and found[0].start == 0 and found[0].kind == "negation_after"
    ):  # "not seen: effusion", nothing stands before
        found = (Trigger(0, found[0].end, "negation_before"), *found[1:])
    return Scoped(sentence, tuple(t for t in found if t.kind != "pseudo"))
