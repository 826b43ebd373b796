"""Which entities a report mentions, whether it asserts them, and where (paper sections 3.3 and 3.4).

The paper takes entities and positions from AGXNet and MedKLIP, which read them out of RadGraph's graphs.
DIFFERS: a lexicon (phrases/entities.yaml, phrases/positions.yaml) and the scope rules of the rule labeler stand
in for RadGraph. Presence is what the text says of the word, not pathology: "clear lungs" mentions `clear` as
present. A hedged mention ("may represent edema") counts as present.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from revtaf.knowledge.scope import Scoped, alternatives, analyse, load_phrases
from revtaf.knowledge.sentences import split_sentences
from revtaf.labels import ENTITIES, NEGATIVE, NORMAL_ENTITIES, POSITIONS, UNSPECIFIED_POSITION

PRESENT, ABSENT, NOT_MENTIONED = 1, 0, -1

# Anatomy that takes its side from the text: (left, right, side not stated).
FAMILIES = {
    "hilar": ("left_hilar", "right_hilar", "hilar_unspec"),
    "pleural": ("left_pleural", "right_pleural", "pleural_unspec"),
    "diaphragm": ("left_diaphragm", "right_diaphragm", "diaphragm_unspec"),
    "costophrenic": ("left_costophrenic", "right_costophrenic", "costophrenic_unspec"),
    "lung": ("left_lung_unspec", "right_lung_unspec", "unspecified"),
}
_SIDES = ("left", "right", "both")
# Places that say less than an entity's own anatomy with a side.
_VAGUE = (None, "pulmonary", "parenchymal", "interstitium", "other")
# "not clear", "no longer stable": a word for normality is denied by its direct neighbour only.
_DENIED_NORMAL = re.compile(r"\b(?:not|no longer|never|neither|nor)(?: \w+ly| entirely| well| as)? $")
_CACHED_SENTENCES = 1 << 16


@dataclass
class Mentions:
    """What N reports say about the 75 entities.

    presence: (N, 75) int8, 1 present, 0 stated absent, -1 not mentioned.
    position: (N, 75) uint8, index into POSITIONS; UNSPECIFIED_POSITION where absent or unknown.
    """

    presence: np.ndarray
    position: np.ndarray


@dataclass(frozen=True)
class _Lexeme:
    forms: re.Pattern[str]
    always: str | None
    default: str | None


def _compile_entities() -> tuple[_Lexeme, ...]:
    entries = load_phrases("entities.yaml")
    if set(entries) != set(ENTITIES):
        raise ValueError(f"phrases/entities.yaml: wrong entities {sorted(set(entries) ^ set(ENTITIES))}")
    known = set(FAMILIES) | set(POSITIONS) | {None}
    lexicon = []
    for entity in ENTITIES:
        entry = entries[entity]
        always, default = entry.get("at"), entry.get("default")
        if {always, default} - known:
            raise ValueError(f"phrases/entities.yaml: {entity}: unknown position {always or default}")
        lexicon.append(_Lexeme(alternatives(entry["forms"]), always, default))
    return tuple(lexicon)


def _compile_positions() -> tuple[re.Pattern[str], tuple[str, ...]]:
    names, parts = [], []
    for entry in load_phrases("positions.yaml"):
        ((name, patterns),) = entry.items()
        if name not in POSITIONS and name not in _SIDES:
            raise ValueError(f"phrases/positions.yaml: unknown position {name}")
        parts.append(f"(?P<p{len(names)}>{'|'.join(patterns)})")
        names.append(name)
    return re.compile(r"\b(?:" + "|".join(parts) + r")\b"), tuple(names)


_LEXICON = _compile_entities()
_PLACES, _PLACE_NAMES = _compile_positions()


def _side(place: str) -> str | None:
    return next((side for side in _SIDES if side in place.split("_")), None)


def _resolve(anatomy: str | None, side: str | None) -> str:
    """A position from a position, or from a family and a side."""
    if anatomy in FAMILIES:
        return FAMILIES[anatomy][_SIDES.index(side or "both")]
    return anatomy or "unspecified"


def _nearest(span: tuple[int, int], places: list[tuple[int, int, str]]) -> str | None:
    """The name of the place nearest to a span; in a tie the one before it ("left base opacity")."""
    start, end = span
    near = min(places, key=lambda p: (max(p[0] - end, start - p[1], 0), p[0] > start), default=None)
    return near[2] if near else None


def _locate(lexeme: _Lexeme, span: tuple[int, int], places: list[tuple[int, int, str]]) -> str:
    """The nearest place that the clause names, else the entity's own anatomy with the nearest side."""
    sided = _nearest(span, [place for place in places if _side(place[2])])
    side = _side(sided) if sided else None
    if lexeme.always:
        return _resolve(lexeme.always, side)
    named = _nearest(span, [place for place in places if place[2] not in _SIDES])
    if lexeme.default == "lung":
        # A zone says more than "airspace" or "interstitial", even from farther away.
        precise = _nearest(span, [place for place in places if place[2] not in _VAGUE + _SIDES])
        if precise is None and side in _SIDES[:2]:
            return _resolve("lung", side)
        return _sided(precise or named, side)
    if lexeme.default in FAMILIES and named in _VAGUE:
        return _resolve(lexeme.default, side)
    return _sided(named or lexeme.default, side)


def _sided(place: str | None, side: str | None) -> str:
    """`hilar_unspec` and "left" give `left_hilar`; other places stay."""
    for family in ("hilar", "pleural", "diaphragm", "costophrenic"):
        if place in (family, FAMILIES[family][2]):
            return _resolve(family, side)
    return _resolve(place, side)


def _is_absent(scoped: Scoped, entity: str, start: int, end: int) -> bool:
    if entity in NORMAL_ENTITIES:
        return bool(_DENIED_NORMAL.search(scoped.text[:start]))
    return scoped.status(start, end) == NEGATIVE


@lru_cache(maxsize=_CACHED_SENTENCES)
def sentence_mentions(sentence: str) -> tuple[tuple[int, int, int], ...]:
    """(entity, presence, position) of every mention in a normalised sentence, in entity order."""
    scoped = analyse(sentence)
    places = None
    found = []
    for index, (entity, lexeme) in enumerate(zip(ENTITIES, _LEXICON, strict=True)):
        for match in lexeme.forms.finditer(sentence):
            start, end = match.span()
            if _is_absent(scoped, entity, start, end):
                found.append((index, ABSENT, UNSPECIFIED_POSITION))
                continue
            if places is None:
                places = [(*m.span(), _PLACE_NAMES[int(m.lastgroup[1:])]) for m in _PLACES.finditer(sentence)]
            low, high = scoped.clause(start, end)
            place = _locate(lexeme, (start, end), [p for p in places if low <= p[0] and p[1] <= high])
            found.append((index, PRESENT, POSITIONS.index(place)))
    return tuple(found)


def entity_mentions(reports: Sequence[str]) -> Mentions:
    """Presence and position of the 75 entities in raw or cleaned reports.

    Present once beats absent elsewhere. The position is that of the first present mention that has one.
    """
    if isinstance(reports, str):
        raise TypeError("expected a sequence of reports, got one string")
    presence = np.full((len(reports), len(ENTITIES)), NOT_MENTIONED, dtype=np.int8)
    position = np.full((len(reports), len(ENTITIES)), UNSPECIFIED_POSITION, dtype=np.uint8)
    for row, report in enumerate(reports):
        for sentence in split_sentences(report):
            for entity, stated, place in sentence_mentions(sentence):
                presence[row, entity] = max(presence[row, entity], stated)
                if stated == PRESENT and position[row, entity] == UNSPECIFIED_POSITION:
                    position[row, entity] = place
    return Mentions(presence, position)
