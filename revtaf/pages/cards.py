"""The sample cards of report.html: image, where the model looked, and the texts side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from revtaf.data.text import readable, readable_sentences
from revtaf.labels import STATUSES
from revtaf.pages.images import pixel_data

# Too frequent in reports to show agreement when they are shared. Negations are kept: they carry the finding.
_STOPWORDS = frozenset(
    "a also an and are as at be been both by for from has have in is it of on or than that the there these this to was "
    "were which with".split()
)
# Below this overlap of content words (Jaccard), two sentences are not about the same thing.
_RELATED = 0.25


@dataclass
class Card:
    """What the page shows of one study. Maps are (gh, gw) weights on the patches, or None without fusion.

    image: (H, W) uint8, exactly the crop that the model saw. sentence, entity: the retrieved report's sentence (GRP)
    and the entity triplet (LRP) whose maps are shown. statuses: category -> status, those that are not blank. A field
    that is None where it may be empty is a part that the system does not have: the page is silent about it.
    """

    id: str
    image: np.ndarray
    reference: str
    hypothesis: str
    retrieved_report: str | None = None
    retrieved_id: str = ""
    retrieval_distance: float | None = None
    statuses: dict[str, str] | None = None
    sentence: str | None = None
    sentence_map: np.ndarray | None = None
    entity: str | None = None
    entity_map: np.ndarray | None = None


class Piece(NamedTuple):
    """A part of a text. mark: "same" (its sentence is in the other text), "shared" (a shared word), a colour, or ""."""

    text: str
    mark: str = ""


class Look(NamedTuple):
    """A picture of a card. source: its `src`, "" where there is no map. quoted: the prompt whose map it is."""

    what: str
    source: str = ""
    quoted: str | None = None
    constant: bool = False


class Tag(NamedTuple):
    """A category with its status. style: the status where it is one of the four, else ""."""

    category: str
    status: str
    style: str


class Shown(NamedTuple):
    """A card as `cards.html` takes it. origin: where the retrieved text is from, "" where nothing is known. retrieved,
    tags: None where the system has no such part."""

    id: str
    looks: list[Look]
    reference: list[Piece]
    generated: list[Piece]
    retrieved: list[Piece] | None
    origin: str
    tags: list[Tag] | None


def overlay(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image under its map, which is min-max scaled and bilinearly enlarged to (H, W)."""
    from matplotlib import colormaps

    weights = np.asarray(weights, dtype=np.float32)
    span = float(weights.max() - weights.min())
    scaled = (weights - weights.min()) / span if span > 0 else np.zeros_like(weights)
    size = (image.shape[1], image.shape[0])
    heat = np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BILINEAR))[..., None]
    colour = colormaps["inferno"](heat[..., 0])[..., :3] * 255
    opacity = 0.15 + 0.5 * heat  # the anatomy stays visible under the highest weight
    return (image[..., None] * (1 - opacity) + colour * opacity).round().astype(np.uint8)


def shown_cards(cards: Sequence[Card]) -> list[Shown]:
    """What the page writes of each card. Raises ValueError where an image is not (H, W) uint8."""
    return [
        Shown(
            id=card.id,
            looks=list(_looks(card)),
            reference=_plain(card.reference),
            generated=_compared(card.hypothesis, card.reference),
            retrieved=None if card.retrieved_report is None else _plain(card.retrieved_report),
            origin=_origin(card),
            tags=None if card.statuses is None else [_tag(*item) for item in card.statuses.items()],
        )
        for card in cards
    ]


def _looks(card: Card) -> Iterator[Look]:
    image = np.asarray(card.image)
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"sample {card.id}: expected a (H, W) uint8 image, got {image.shape} {image.dtype}")
    yield Look("Input image, the crop that the model saw", pixel_data(image))
    for what, text, weights in (
        ("Prompt sentence (GRP)", card.sentence, card.sentence_map),
        ("Prompt entity (LRP)", card.entity, card.entity_map),
    ):
        if text is None:
            continue
        if weights is None or not np.size(weights) or not np.isfinite(weights).all():
            yield Look(what)
        else:
            yield Look(what, pixel_data(overlay(image, weights)), text, constant=not np.ptp(weights) > 0)


def _tag(category: str, status: str) -> Tag:
    return Tag(category, status, status if status in STATUSES else "")


def _origin(card: Card) -> str:
    source = [f"from {card.retrieved_id}"] if card.retrieved_id else []
    distance = [f"distance {card.retrieval_distance:.3f}"] if card.retrieval_distance is not None else []
    return ", ".join(source + distance)


def _plain(text: str) -> list[Piece]:
    """The text without marks; no piece where it is empty."""
    return [Piece(line)] if (line := readable(text)) else []


def _compared(hypothesis: str, reference: str) -> list[Piece]:
    """The hypothesis in pieces, each sentence marked by what it shares with its closest reference sentence."""
    known = [content_words(s) for s in readable_sentences(reference)]
    sentences = []
    for sentence in readable_sentences(hypothesis):
        best = closest_sentence(sentence, known)
        if best is None:
            sentences.append([Piece(sentence)])
        elif content_words(sentence) == known[best]:
            sentences.append([Piece(sentence, "same")])
        else:
            shared = content_words(sentence) & known[best]
            words = re.split(r"([\w-]+)", sentence)
            sentences.append([Piece(word, "shared" if word.lower() in shared else "") for word in words])
    return joined(sentences)


def joined(sentences: Sequence[Sequence[Piece]]) -> list[Piece]:
    """The pieces of all sentences, with a blank between two sentences."""
    pieces: list[Piece] = []
    for sentence in sentences:
        pieces += [*([Piece(" ")] if pieces else []), *sentence]
    return pieces


def closest_sentence(sentence: str, known: Sequence[frozenset[str]]) -> int | None:
    """Number of the reference sentence (as content words) that shares most with `sentence`; None if none is related."""
    words = content_words(sentence)
    overlaps = [len(words & other) / len(words | other) if words | other else 0.0 for other in known]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return best if best >= 0 and overlaps[best] >= _RELATED else None


def content_words(sentence: str) -> frozenset[str]:
    """The words that carry meaning, in lower case."""
    return frozenset(re.findall(r"[\w-]+", sentence.lower())) - _STOPWORDS
