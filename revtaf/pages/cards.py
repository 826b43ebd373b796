"""The sample cards of report.html: image, where the model looked, and the texts side by side."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from PIL import Image

from revtaf.labels import STATUSES

# Too frequent in reports to show agreement when they are shared. Negations are kept: they carry the finding.
_STOPWORDS = frozenset(
    "a an and are as at be been by for from has have in is it of on or that the there this to was".split()
)
# Below this overlap of content words (Jaccard), two sentences are not about the same thing.
_RELATED = 0.25


@dataclass
class Card:
    """What the page shows of one study. Maps are (gh, gw) weights on the patches, or None without fusion.

    image: (H, W) uint8, exactly the crop that the model saw. sentence, entity: the reference sentence (GRP)
    and the entity triplet (LRP) whose maps are shown. statuses: category -> status, those that are not blank.
    """

    id: str
    image: np.ndarray
    reference: str
    hypothesis: str
    retrieved_report: str = ""
    retrieved_id: str = ""
    retrieval_distance: float | None = None
    statuses: dict[str, str] = field(default_factory=dict)
    sentence: str = ""
    sentence_map: np.ndarray | None = None
    entity: str = ""
    entity_map: np.ndarray | None = None


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


def image_data(png: bytes) -> str:
    """A PNG as the value of `src`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def sample_cards(samples: Sequence[Card]) -> str:
    if not samples:
        return '<p class="soft">No samples were given.</p>'
    legend = (
        "<p>Generated sentences are compared with the closest sentence of the reference: "
        '<span class="key same">the same words</span>, or <mark class="key">shared words</mark>. '
        "Maps are weights on the image patches, scaled within each map from their minimum to their maximum "
        '<span class="ramp"></span>: they show where, not how much, and are no measure of certainty.</p>'
    )
    return legend + "".join(_card(sample, i) for i, sample in enumerate(samples, start=1))


def _card(sample: Card, number: int) -> str:
    image = np.asarray(sample.image)
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"sample {sample.id}: expected a (H, W) uint8 image, got {image.shape} {image.dtype}")
    figures = [_figure(image, "Input image, the crop that the model saw")]
    for what, text, weights in (
        ("Prompt sentence (GRP)", sample.sentence, sample.sentence_map),
        ("Prompt entity (LRP)", sample.entity, sample.entity_map),
    ):
        if weights is None or not np.size(weights) or not np.isfinite(weights).all():
            figures.append(f"<figure><figcaption>{what}: no map</figcaption></figure>")
            continue
        flat = "" if np.ptp(weights) > 0 else " (constant map)"
        figures.append(_figure(overlay(image, weights), f"{what} <q>{escape(text)}</q>{flat}"))
    retrieved = ", ".join(
        part
        for part in (
            f"from {escape(sample.retrieved_id)}" if sample.retrieved_id else "",
            f"distance {sample.retrieval_distance:.3f}" if sample.retrieval_distance is not None else "",
        )
        if part
    )
    texts = (
        ("Reference", "", escape(readable(sample.reference))),
        ("Generated", "", _highlighted(sample.hypothesis, sample.reference)),
        ("Retrieved", retrieved, escape(readable(sample.retrieved_report))),
    )
    columns = "".join(
        f"<div><h3>{title} <small>{detail}</small></h3><p>{text or '<i>empty</i>'}</p></div>"
        for title, detail, text in texts
    )
    return (
        f'<article class="sample" id="sample-{number}"><header><b>{escape(sample.id)}</b></header>'
        f'<div class="looks">{"".join(figures)}</div><div class="texts">{columns}</div>'
        f'<p class="tags">Disease prompts {_tags(sample.statuses)}</p></article>'
    )


def _figure(pixels: np.ndarray, caption: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    label = escape(re.sub(r"<[^>]*>", "", caption), quote=True).replace("&amp;", "&")
    return (
        f'<figure><img alt="{label}" src="{image_data(buffer.getvalue())}"><figcaption>{caption}</figcaption></figure>'
    )


def _tags(statuses: dict[str, str]) -> str:
    tags = [
        f'<span class="tag {status * (status in STATUSES)}">{escape(category)}: {escape(status)}</span>'
        for category, status in statuses.items()
    ]
    return " ".join(tags) or "all blank"


def _highlighted(hypothesis: str, reference: str) -> str:
    """The hypothesis as HTML, each sentence marked by what it shares with its closest reference sentence."""
    known = [content_words(s) for s in split_sentences(reference)]
    parts = []
    for sentence in split_sentences(hypothesis):
        best = closest_sentence(sentence, known)
        if best is None:
            parts.append(escape(sentence))
        elif content_words(sentence) == known[best]:
            parts.append(f'<span class="same">{escape(sentence)}</span>')
        else:
            shared = content_words(sentence) & known[best]
            pieces = re.split(r"([\w-]+)", sentence)
            parts.append(
                "".join(
                    f"<mark>{escape(piece)}</mark>" if piece.lower() in shared else escape(piece) for piece in pieces
                )
            )
    return " ".join(parts)


def closest_sentence(sentence: str, known: Sequence[frozenset[str]]) -> int | None:
    """Number of the reference sentence (as content words) that shares most with `sentence`; None if none is related."""
    words = content_words(sentence)
    overlaps = [len(words & other) / len(words | other) if words | other else 0.0 for other in known]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return best if best >= 0 and overlaps[best] >= _RELATED else None


def content_words(sentence: str) -> frozenset[str]:
    """The words that carry meaning, in lower case."""
    return frozenset(re.findall(r"[\w-]+", sentence.lower())) - _STOPWORDS


def split_sentences(text: str) -> list[str]:
    """The sentences of a raw or scored report, each with its full stop."""
    return [s for s in re.split(r"(?<=\.)\s+", readable(text)) if s.strip(" .")]


def readable(text: str) -> str:
    """Without line breaks, and with full stops next to their word."""
    return re.sub(r"\s+([.,])", r"\1", " ".join(text.split())).strip(" ")
