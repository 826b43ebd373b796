"""What REVTAF shows of itself on a page: chosen samples with their attention maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from revtaf.data.text import clean_for, sentences
from revtaf.features.arrays import Features
from revtaf.fvtaf.fcc import cosine_matrix
from revtaf.labels import BLANK, CATEGORIES, ENTITIES, NORMAL_ENTITIES, POSITIVE, STATUSES
from revtaf.pages.cards import Card
from revtaf.prompts.local import table_rows
from revtaf.system.dataset import ReportDataset
from revtaf.system.write import Prediction

if TYPE_CHECKING:
    from revtaf.system.session import Session


def sample_rows(statuses: np.ndarray, count: int) -> list[int]:
    """Rows shown on a page, of a split with `statuses` (N, K): spread over it, every second one with a positive finding
    if it can be."""
    positive = np.flatnonzero((statuses[:, :13] == POSITIVE).any(1))
    everything = np.arange(len(statuses))
    chosen: list[int] = []
    for i in range(min(count, len(statuses))):
        pool = np.setdiff1d(positive if i % 2 else everything, chosen)
        pool = pool if len(pool) else np.setdiff1d(everything, chosen)
        chosen.append(int(pool[(i * len(pool)) // max(count, 1)]))
    return chosen


def make_card(session: Session, dataset: ReportDataset, p: Prediction) -> Card:
    """What the page shows of a prediction: the image, and one matching pair of attention maps.

    The entity is the abnormal one that the local prompts state most confidently; the sentence is the one of the
    retrieved report that is closest to it in the text space, so that FCC asks their maps to agree.
    """
    study, features = dataset.studies[p.row], dataset.features
    names = CATEGORIES[: session.categories]
    card = Card(
        id=study.id,
        image=np.asarray(dataset.crop(p.row)),
        reference=study.report,
        hypothesis=p.text,
        statuses={c: STATUSES[s] for c, s in zip(names, p.statuses, strict=True) if s != BLANK},
        retrieved_report="",
        sentence="",
        entity="",
    )
    reports = session.knowledge.reports
    if p.retrieved >= 0:
        card.retrieved_report = reports[p.retrieved] if reports else ""
        card.retrieved_id = session.knowledge.train.ids[p.retrieved]
        card.retrieval_distance = p.distance
    if p.local_map is not None:
        stated = stated_entities(session, features, p.row)
        rank = features.scores[p.row].astype(np.float32) + stated.exists
        rank[: len(NORMAL_ENTITIES)] = rank[-2:] = -1  # normal words and the two collective entities
        entity = int(rank.argmax())
        card.entity = f"{stated.texts[entity]} (P {features.scores[p.row][entity]:.2f})"
        card.entity_map = grid(p.local_map[entity])
        rows = session.bank.sentence_rows(p.retrieved)
        if p.global_map is not None and len(rows):
            text = session.bank.sentences[torch.tensor(rows.tolist())].float().cpu()
            local = session.bank.triplets[stated.prompts[entity]].float().cpu()
            sentence = int(cosine_matrix(text[None], local[None, None])[0, :, 0].argmax())
            card.sentence = sentence_texts(session, card.retrieved_report or "", len(rows))[sentence]
            card.sentence_map = grid(p.global_map[sentence])
    return card


class StatedEntities(NamedTuple):
    """What the local prompts say of an image: rows of the triplet table, their texts, and which state a presence; 75
    of each."""

    prompts: list[int]
    texts: list[str]
    exists: np.ndarray


def stated_entities(session: Session, features: Features, row: int) -> StatedEntities:
    """Of sample `row`. Imported prompts are vectors: they are known by the entity's name, and its score says whether it
    is present."""
    codes = torch.from_numpy(features.codes[row : row + 1].astype(np.int64))
    prompts = table_rows(codes, len(session.bank.triplets))[0].tolist()
    words = session.knowledge.triplets
    if words is None:
        return StatedEntities(prompts, list(ENTITIES), features.scores[row].astype(np.float32) > 0.5)
    texts = [words[prompt] for prompt in prompts]
    return StatedEntities(prompts, texts, np.array([not text.endswith("not exist") for text in texts]))


def sentence_texts(session: Session, report: str, count: int) -> list[str]:
    """The `count` sentences that the maps of a retrieved report are of; by their number where the report is not at
    hand, or was split by others (imported features)."""
    if session.knowledge.triplets is None or not report:
        return [f"sentence {i + 1}" for i in range(count)]
    data = session.settings.training_data
    return sentences(clean_for(data.language, report, data.max_words))[:count]


def grid(weights: torch.Tensor) -> np.ndarray:
    """A row of a map (P,) -> (side, side), as the patches lie."""
    side = round(len(weights) ** 0.5)
    return weights.view(side, side).numpy()
