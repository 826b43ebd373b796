"""The page of a search: one HTML file without script or anything from elsewhere, thumbnails inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from revtaf import __version__
from revtaf.data.images import read_image
from revtaf.data.text import readable, readable_sentences
from revtaf.errors import UserError
from revtaf.pages.cards import Piece, joined
from revtaf.pages.environment import fill
from revtaf.pages.images import pixel_data
from revtaf.search.answers import NOTICE, Hit, SearchAnswer, matching, origin, title
from revtaf.search.index import SearchIndex

SIDE = 192  # pixels of a thumbnail's longer side


class ShownHit(NamedTuple):
    """A hit as `search.html` takes it. source: the thumbnail's `src`, "" where its file cannot be read."""

    rank: int
    score: float
    title: str
    origin: str
    source: str
    pieces: list[Piece]
    match: str


class ShownAnswer(NamedTuple):
    """A query, an image or a text, and its hits."""

    asked: str
    source: str
    text: list[Piece]
    of: str
    engine: str
    excluded: str
    hits: list[ShownHit]


def render(answers: Sequence[SearchAnswer], index: SearchIndex, image_root: Path | None = None) -> str:
    """The whole page. image_root: where the index's images are now, if not where they were."""
    model = index.manifest["model"]
    facts = [
        ("index", str(index.folder)),
        ("model", f"system {model['system']}, digest {model['digest']}"),
        *(("rows", f"{len(gallery):,} {kind}") for kind, gallery in index.galleries.items()),
        *(("from", f"{s['annotation']}: {', '.join(s['splits'])}") for s in index.manifest["sources"] if s),
        ("revtaf", __version__),
    ]
    shown = [_answer(answer, image_root) for answer in answers]
    return fill("search.html", title="Search", answers=shown, facts=facts, notice=NOTICE)


def _answer(answer: SearchAnswer, image_root: Path | None) -> ShownAnswer:
    image, text = answer.query.get("image"), answer.query.get("text", "")
    common = {word for hit in answer.hits for word in hit.words}
    return ShownAnswer(
        asked=image or "",
        source=thumbnail(Path(image)) if image else "",
        text=_marked(text, common) if text else [],
        of=answer.of,
        engine=answer.engine,
        excluded=", ".join(answer.excluded_patients),
        hits=[_shown(hit, answer.of, image_root) for hit in answer.hits],
    )


def _shown(hit: Hit, of: str, image_root: Path | None) -> ShownHit:
    if hit.sentence:
        pieces = joined([[Piece(s, "same" * (s == hit.sentence))] for s in readable_sentences(hit.report)])
    else:
        pieces = _marked(hit.report, set(hit.words))
    source = thumbnail((image_root or Path(hit.root)) / hit.images[0]) if hit.images else ""
    return ShownHit(hit.rank, hit.score, title(hit, of), origin(hit), source, pieces, matching(hit))


def thumbnail(path: Path) -> str:
    """An image in small as the value of `src`; "" where it cannot be read: the index is searched without its files."""
    try:
        image = read_image(path)
    except UserError:
        return ""
    image.thumbnail((SIDE, SIDE))
    return pixel_data(np.asarray(image))


def _marked(text: str, words: set[str]) -> list[Piece]:
    """The text, every one of `words` marked."""
    pieces = re.split(r"([\w-]+)", readable(text))
    return [Piece(piece, "shared" * (piece.lower() in words)) for piece in pieces if piece]
