"""Rule labeler `rules-v3`: a report -> 18 categories x {blank, positive, negative, uncertain}.

The paper labels reports with CheXbert (section 3.3, [27]). DIFFERS: this is a CheXpert-like labeler without
weights and without a parser, for use where CheXbert is not at hand. Clinical-efficacy numbers that rest on it
are not comparable with CheXbert's. The rules and the measured agreement are in docs/labeler.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from revtaf.knowledge.scope import RULES, Scoped, alternatives, analyse, load_phrases
from revtaf.knowledge.sentences import split_sentences
from revtaf.labels import (
    BLANK,
    CATEGORIES,
    CHEXPERT_CATEGORIES,
    NEGATIVE,
    NO_FINDING,
    POSITIVE,
    UNCERTAIN,
)

# Aggregation over the mentions of one category: positive beats uncertain beats negative (CheXpert).
_STRENGTH = {BLANK: 0, NEGATIVE: 1, UNCERTAIN: 2, POSITIVE: 3}
_PREDICATES = ("abnormal", "normal", "borderline", "stable")
# A predicate before its subject: adjectives ("normal heart"), or a noun and "of the" ("tortuosity of the").
_NO_GAP = "the|is|are|was|were|has|have|appears?|remains?|shows?|there|stable|unchanged"
_GAP_BEFORE = re.compile(
    r" (?:changes? )?(?:(?:is|are) (?:again )?(?:seen|noted|present|identified) )?"
    r"(?:(?:of|in|along|within|at|involving|to|for) )?(?:both )?(?:the )?"
    rf"(?:(?:(?!(?:{_NO_GAP})\b)\w+ ){{0,4}}"
    rf"|(?:(?!(?:{_NO_GAP}|of|in|within|on|at|from|to|by|with|without|no)\b)\w+ ){{0,10}})"
)
_DENIED = re.compile(r"\bnot(?: \w+)? $")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|appears?|remains?|shows?|demonstrates?|there)\b")
_LONGEST_GAP_AFTER = 90
_CACHED_SENTENCES = 1 << 16


def _chexpert_patterns(folder: str, category: str) -> list[str]:
    """A CheXpert phrase file as expressions: a phrase matches from a word start, `_` is a blank."""
    name = category.replace("/", "_").replace(" ", "_")
    try:
        phrases = load_phrases(f"chexpert/{folder}/{name}.txt")
    except FileNotFoundError:
        return []
    patterns = []
    for phrase in phrases:
        words = re.escape(phrase.strip("_").replace("-", " ").replace("_", " ").strip())
        patterns.append(words if phrase.endswith("_") else words + r"\w*")
    return patterns


@dataclass(frozen=True)
class CategoryRules:
    """The compiled rules of one category; see phrases/categories.yaml."""

    mention: re.Pattern[str] | None
    unmention: re.Pattern[str] | None
    subject: re.Pattern[str] | None
    predicate: re.Pattern[str] | None

    def statuses(self, scoped: Scoped) -> Iterator[int]:
        """The status of every mention in one sentence."""
        if self.mention:
            mentions = [m.span() for m in self.mention.finditer(scoped.text)]
            if mentions and self.unmention:
                excluded = [m.span() for m in self.unmention.finditer(scoped.text)]
                mentions = [(s, e) for s, e in mentions if not any(s < f and b < e for b, f in excluded)]
            for start, end in mentions:
                yield scoped.status(start, end)
        if self.subject:
            for subject in self.subject.finditer(scoped.text):
                status = self._predicated(scoped, *subject.span())
                if status != BLANK:
                    yield status

    def _predicated(self, scoped: Scoped, start: int, end: int) -> int:
        """What the nearest predicate of the clause says about the anatomy at [start, end)."""
        low, high = scoped.clause(start, end)
        best, best_rank = BLANK, None
        for match in self.predicate.finditer(scoped.text, low, high):
            kind = match.lastgroup
            if match.end() <= start:
                gap = scoped.text[match.end() : start]
                if not _GAP_BEFORE.fullmatch(gap):
                    continue
            elif match.start() >= end:
                gap = scoped.text[end : match.start()]
                if len(gap) > _LONGEST_GAP_AFTER or len(_VERB.findall(gap)) > 1:
                    continue
            else:
                continue
            rank = (kind == "stable", gap.count(" "))
            if best_rank is None or rank < best_rank:
                best, best_rank = _predicate_status(scoped, kind, match.start(), match.end()), rank
        return best


def _predicate_status(scoped: Scoped, kind: str, start: int, end: int) -> int:
    if kind in ("borderline", "stable"):
        return UNCERTAIN
    if kind == "abnormal":
        return scoped.status(start, end)
    # The scope of a "no" before it belongs to another finding: only "not normal" denies normality.
    return POSITIVE if _DENIED.search(scoped.text[:start]) else NEGATIVE


def _compile_finding(category: str, rules: dict) -> CategoryRules:
    mention, unmention = list(rules.get("mention", [])), list(rules.get("unmention", []))
    if category in CHEXPERT_CATEGORIES and rules.get("chexpert", True):
        mention += _chexpert_patterns("mention", category)
        unmention += _chexpert_patterns("unmention", category)
    predicate = None
    if "subject" in rules:
        # "not enlarged" and "upper limits of normal" must win over the words inside them.
        entries = [(p, kind) for kind in _PREDICATES for p in rules.get(kind, [])]
        entries.sort(key=lambda entry: -len(entry[0]))
        groups = {kind: [p for p, k in entries if k == kind] for kind in _PREDICATES}
        order = sorted((k for k in groups if groups[k]), key=_PREDICATES[::-1].index)
        predicate = re.compile(r"\b(?:" + "|".join(f"(?P<{kind}>{'|'.join(groups[kind])})" for kind in order) + r")\b")
    return CategoryRules(
        mention=alternatives(mention) if mention else None,
        unmention=alternatives(unmention) if unmention else None,
        subject=alternatives(rules["subject"]) if "subject" in rules else None,
        predicate=predicate,
    )


def _compile_rules() -> tuple[CategoryRules, ...]:
    rules = load_phrases("categories.yaml")
    unknown = set(rules) - set(CATEGORIES)
    if unknown:
        raise ValueError(f"phrases/categories.yaml: unknown categories {sorted(unknown)}")
    return tuple(_compile_finding(category, rules.get(category, {})) for category in CATEGORIES)


_FINDINGS = _compile_rules()


def stronger(one: int, other: int) -> int:
    """The status that survives when one category is mentioned twice."""
    return one if _STRENGTH[one] >= _STRENGTH[other] else other


@lru_cache(maxsize=_CACHED_SENTENCES)
def label_sentence(sentence: str) -> tuple[tuple[int, int], ...]:
    """(category, status) pairs of a normalised sentence; NO_FINDING stands for its blocking list."""
    scoped = analyse(sentence)
    found = []
    for category, finding in enumerate(_FINDINGS):
        status = BLANK
        for mention in finding.statuses(scoped):
            status = stronger(status, mention)
        if status != BLANK:
            found.append((category, status))
    return tuple(found)


class RuleLabeler:
    """Labels raw or cleaned reports; raw text keeps slightly more (semicolons, words cleaning glues)."""

    name = RULES
    categories = CATEGORIES

    def label(self, reports: Sequence[str]) -> np.ndarray:
        """(N, 18) uint8: 0 blank, 1 positive, 2 negative, 3 uncertain; `no finding` is 0 or 1."""
        if isinstance(reports, str):
            raise TypeError("expected a sequence of reports, got one string")
        labels = np.zeros((len(reports), len(CATEGORIES)), dtype=np.uint8)
        for row, report in zip(labels, reports, strict=True):
            sentences = split_sentences(report)
            for sentence in sentences:
                for category, status in label_sentence(sentence):
                    row[category] = stronger(int(row[category]), status)
            row[NO_FINDING] = no_finding(row) if sentences else BLANK
        return labels


_SUPPORT_DEVICES = CATEGORIES.index("support devices")


def no_finding(statuses: np.ndarray) -> np.ndarray:
    """(..., K) statuses -> (...): 1 if nothing but support devices is positive or uncertain, else 0. What stands at
    NO_FINDING itself, the blocking list, counts.

    DIFFERS: the four auxiliary categories block as well (CheXpert has none of them).
    """
    stated = (statuses == POSITIVE) | (statuses == UNCERTAIN)
    stated[..., _SUPPORT_DEVICES] = False
    return np.where(stated.any(-1), BLANK, POSITIVE)
