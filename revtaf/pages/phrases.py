"""Phrases that two texts share, in colours, as in the paper's Figure 3."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from revtaf.data.text import readable, readable_sentences
from revtaf.pages.cards import Piece, closest_sentence, content_words, joined

PALETTE = ("#cfe3f5", "#d9efdd", "#fbe3c0", "#ecd9f2", "#f7d3d6", "#d7eef0", "#e9e6b8", "#dedede", "#f3d9c4")
_DENIAL = re.compile(r"\b(?:no|not|without|free|negative|absent|resolved)\b")


def coloured(reference: str, texts: Mapping[str, str]) -> dict[str, list[Piece]]:
    """The reference (under "") and each text in pieces, marked by colours: each reference sentence has a colour, and so
    have the words that a sentence of a text shares with its closest reference sentence. Nothing is marked where one of
    the two denies and the other does not. An empty text has no pieces."""
    sentences = readable_sentences(reference)
    known = [content_words(s) for s in sentences]
    used: set[int] = set()
    result = {}
    for name, text in texts.items():
        parts = []
        for sentence in readable_sentences(text):
            best = closest_sentence(sentence, known)
            if best is None or _denies(sentence) != _denies(sentences[best]):
                parts.append([Piece(sentence)])
                continue
            used.add(best)
            parts.append(_marked(sentence, content_words(sentence) & known[best], best))
        result[name] = joined(parts)
    marked = [_marked(s, known[i], i) if i in used else [Piece(s)] for i, s in enumerate(sentences)]
    return {"": joined(marked)} | result


def _denies(sentence: str) -> bool:
    return _DENIAL.search(readable(sentence).lower()) is not None


def _marked(sentence: str, words: frozenset[str], number: int) -> list[Piece]:
    """The sentence with `words` in the colour of reference sentence `number`; neighbours share one mark."""
    pieces = re.split(r"([\w-]+)", sentence)  # words at odd places, what stands between them at even ones
    wanted = [i % 2 == 1 and piece.lower() in words for i, piece in enumerate(pieces)]
    for i in range(2, len(pieces) - 1, 2):  # a blank between two shared words belongs to them
        wanted[i] = wanted[i - 1] and wanted[i + 1] and pieces[i].isspace()
    colour = PALETTE[number % len(PALETTE)]
    groups = itertools.groupby(zip(wanted, pieces, strict=True), key=lambda pair: pair[0])
    return [Piece("".join(piece for _, piece in group), colour if shared else "") for shared, group in groups]
