"""REVTAF on images that no set knows: the report of each, with statuses, the retrieved report, and where it looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from revtaf.errors import UserError
from revtaf.features.build import image_features
from revtaf.generate.asked import Asked
from revtaf.generate.pictures import look
from revtaf.generate.result import ImageReport, RetrievedReport, StatusAnswer, TextAttention
from revtaf.labels import CATEGORIES, STATUSES
from revtaf.system.cards import grid, sentence_texts, stated_entities
from revtaf.system.dataset import ReportDataset
from revtaf.system.write import Prediction, predict

if TYPE_CHECKING:
    from revtaf.system.session import Session

GIVEN = "given"  # the id of a retrieved report that the user gave


def write(session: Session, images: Sequence[Path], asked: Asked) -> list[ImageReport]:
    """The report of each image and what it rests on, in their order. UserError where an image cannot be read, and for a
    model that reads the answer."""
    if answers := session.settings.trained_on_answers:
        raise UserError(
            f"this model is a control: it reads the answer ({', '.join(answers)}), and an image alone has none; train "
            "one without these settings"
        )
    if not session.plain_model.retrieves:
        asked.refuse("this model, which was trained without retrieval,", retrieval=True)
    if not session.categories:
        asked.refuse("this model, which was trained without labels,", statuses=True)
    if not images:
        return []
    features, studies, data = image_features(session.knowledge, session.settings, images, session.device)
    dataset = session.dataset(studies, features, data)
    plain = session.settings.generation
    statuses = "argmax" if plain.statuses == "oracle" else plain.statuses  # an image alone has no true ones
    candidates = plain.candidates if session.knowledge.reports is not None else 0  # said when it was opened
    changed = {"statuses": statuses, "retrieved": "learned", "candidates": candidates}
    generation = plain.model_copy(update=changed)
    rows = frozenset(range(len(images)))
    found = predict(session, dataset, generation, keep_maps=rows, workers=0, title="", asked=asked)
    return [_image_report(session, dataset, p, Path(images[p.row]), asked) for p in found]


def _image_report(session: Session, dataset: ReportDataset, p: Prediction, image: Path, asked: Asked) -> ImageReport:
    encoder = session.settings.encoder
    picture, warnings = look(image, encoder.resize, encoder.image_size)
    retrieved = _retrieved(session, p, asked)
    return ImageReport(
        image=image,
        picture=picture,
        report=p.text,
        statuses=_statuses(session, p, asked),
        retrieved=retrieved,
        attention=(*_of_sentences(session, p, retrieved), *_of_entities(session, dataset, p)),
        warnings=warnings,
    )


def _statuses(session: Session, p: Prediction, asked: Asked) -> tuple[StatusAnswer, ...]:
    probabilities = p.probabilities.T.tolist()
    return tuple(
        StatusAnswer(name, STATUSES[status], dict(zip(STATUSES, of_each, strict=True)), name in asked.statuses)
        for name, status, of_each in zip(CATEGORIES[: session.categories], p.statuses, probabilities, strict=True)
    )


def _retrieved(session: Session, p: Prediction, asked: Asked) -> tuple[RetrievedReport, ...]:
    if asked.retrieved is not None:
        return (RetrievedReport(GIVEN, None, asked.retrieved),)
    if p.retrieved < 0:
        return ()
    reports = session.knowledge.reports
    text = reports[p.retrieved] if reports else None
    return (RetrievedReport(session.knowledge.train.ids[p.retrieved], p.distance, text),)


def _of_sentences(session: Session, p: Prediction, retrieved: Sequence[RetrievedReport]) -> Iterator[TextAttention]:
    """The global map of each sentence of the retrieved report."""
    if p.global_map is None or not retrieved:
        return
    for text, weights in zip(
        sentence_texts(session, retrieved[0].report or "", p.sentences), p.global_map[: p.sentences], strict=True
    ):
        yield TextAttention(text, "sentence", grid(weights))


def _of_entities(session: Session, dataset: ReportDataset, p: Prediction) -> Iterator[TextAttention]:
    """The local map of each entity that the prompts state to be present."""
    if p.local_map is None:
        return
    stated = stated_entities(session, dataset.features, p.row)
    for entity in np.flatnonzero(stated.exists).tolist():
        name, place, _ = stated.texts[entity].split(" , ")  # the triplet that the model read, without its "exist"
        yield TextAttention(f"{name}, {place}", "entity", grid(p.local_map[entity]))
