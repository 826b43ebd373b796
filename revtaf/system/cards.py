"""What REVTAF shows of itself on a page: chosen samples with their attention maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from revtaf.data.text import clean_report, sentences
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
    )
    reports = session.knowledge.reports
    if p.retrieved >= 0:
        card.retrieved_report = reports[p.retrieved] if reports else ""
        card.retrieved_id = session.knowledge.train.ids[p.retrieved]
        card.retrieval_distance = p.distance
    if p.local_map is not None:
        codes = torch.from_numpy(features.codes[p.row : p.row + 1].astype(np.int64))
        prompts = table_rows(codes, len(session.bank.triplets))[0].tolist()
        texts = session.knowledge.triplets
        scores = features.scores[p.row].astype(np.float32)
        exists = scores > 0.5 if texts is None else np.array([not texts[t].endswith("not exist") for t in prompts])
        rank = scores + exists
        rank[: len(NORMAL_ENTITIES)] = rank[-2:] = -1  # normal words and the two collective entities
        entity = int(rank.argmax())
        stated = ENTITIES[entity] if texts is None else texts[prompts[entity]]
        card.entity = f"{stated} (P {scores[entity]:.2f})"
        card.entity_map = _grid(p.local_map[entity])
        rows = session.bank.sentence_rows(p.retrieved)
        if p.global_map is not None and len(rows):
            text = session.bank.sentences[torch.tensor(rows.tolist())].float().cpu()
            local = session.bank.triplets[prompts[entity]].float().cpu()
            sentence = int(cosine_matrix(text[None], local[None, None])[0, :, 0].argmax())
            words = session.settings.training_data.max_words
            split = sentences(clean_report(card.retrieved_report, words))
            # Imported sentences are vectors; how their makers split the report is not known.
            known = texts is not None and reports
            card.sentence = split[sentence] if known else f"sentence {sentence + 1}"
            card.sentence_map = _grid(p.global_map[sentence])
    return card


def _grid(weights: torch.Tensor) -> np.ndarray:
    side = round(len(weights) ** 0.5)
    return weights.view(side, side).numpy()
