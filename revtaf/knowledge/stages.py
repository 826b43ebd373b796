"""The stages in which features are made, each from the stages before it, each continued where it was interrupted.

reports --labeler--> statuses                 images --entity model--> scores, positions, local prompts
reports --text encoder--> sentence, report and triplet tables
scores (or CLIP) --> the classifier's memory   statuses --> nearest training sample by labels
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from revtaf.config import DataSettings, Settings
from revtaf.data.annotations import Study
from revtaf.data.store import Features, ReferenceTexts
from revtaf.data.text import clean_report, sentences
from revtaf.errors import UserError
from revtaf.knowledge.base import EntityModel, EntityScores, Labeler
from revtaf.knowledge.blocks import ROWS, WHOLE, Blocks, PixelBlocks, Shard, read_pixels
from revtaf.knowledge.components import Components
from revtaf.knowledge.entity_scorer import EntityScorer, fit_entity_scorer, scorer_pixels
from revtaf.knowledge.mentions import entity_mentions
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.labels import CATEGORIES
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status
from revtaf.prompts.local import triplet_codes, triplet_texts

log = logging.getLogger("revtaf")


def given_statuses(studies: Sequence[Study], settings: Settings) -> bool:
    """Whether the annotation's statuses are used; UserError where some studies have them and others do not."""
    counts = Counter(len(s.labels) for s in studies)
    if not settings.knowledge.report_labels or set(counts) == {0}:
        return False
    if len(counts) > 1:
        odd = next(s.id for s in studies if len(s.labels) != counts.most_common(1)[0][0])
        raise UserError(
            f"labels: the studies have {sorted(counts)} statuses, expected one count for all (first odd one: {odd}); "
            "complete the annotation, or set knowledge.report_labels=false to label every report anew"
        )
    return True


def report_statuses(
    studies: Sequence[Study], labeler: Labeler, settings: Settings, categories: int | None, shard: Shard = WHOLE
) -> np.ndarray:
    """(N, K) uint8: the annotation's statuses, or the labeler's where it has none; cut to `categories`.

    A shard labels its part of the reports only, for a labeler that remembers them; its result is not complete.
    """
    if given_statuses(studies, settings):
        statuses = np.array([s.labels for s in studies], dtype=np.uint8)
        if categories is None or statuses.shape[1] >= categories:
            return statuses[:, :categories]
    reports = list(dict.fromkeys(s.report for s in studies))
    if shard.count > 1:
        reports = reports[shard.index :: shard.count]
    row = {report: i for i, report in enumerate(reports)}
    labels = np.asarray(labeler.label(reports), dtype=np.uint8)[:, : categories or len(CATEGORIES)]
    return labels[[row[s.report] for s in studies if s.report in row]]


def training_scores(
    studies: Sequence[Study], data: DataSettings, settings: Settings, components: Components, parts: Path, shard: Shard
) -> tuple[EntityScorer | None, EntityScores]:
    """Entity scores of the training images: MedKLIP's, or out-of-fold ones of a scorer fitted now (returned too)."""
    if components.medklip:
        return None, model_scores(studies, data, lambda: components.image_model, components.device, parts, shard)
    size = settings.knowledge.scorer_image_size
    images = PixelBlocks(parts / "pixels", len(studies), "reading images")
    images.compute(
        lambda rows: read_pixels(studies[rows], data.images, size, lambda image: scorer_pixels(image, size)), shard
    )
    mentions = entity_mentions([clean_report(s.report, data.max_words) for s in studies])
    patients = [s.patient for s in studies]
    return fit_entity_scorer(
        images.map(), mentions, patients, settings.knowledge, settings.seed, components.device, parts / "folds", shard
    )


def model_scores(
    studies: Sequence[Study],
    data: DataSettings,
    model: Callable[[], EntityModel],
    device: torch.device,
    parts: Path,
    shard: Shard = WHOLE,
) -> EntityScores:
    """Entity scores by a finished model, in blocks. `model` is called where a block is missing."""

    def scores_of(rows: slice) -> dict[str, np.ndarray]:
        entities = model()
        images = read_pixels(studies[rows], data.images, entities.image_size, entities.pixels)
        return entities.score(images, device, progress=True)._asdict()

    blocks = Blocks(parts / "scores", len(studies), "entity scores")
    blocks.compute(scores_of, shard)
    return EntityScores(**blocks.read())


class DistinctTexts:
    """Every text of the training reports once: `reports` and `sentences`, and which sample has which."""

    def __init__(self, studies: Sequence[Study], data: DataSettings):
        cleaned = [clean_report(s.report, data.max_words) for s in studies]
        self.reports = sorted(set(cleaned))
        report_row = {text: i for i, text in enumerate(self.reports)}
        self.report_ids = np.array([report_row[text] for text in cleaned], dtype=np.int32)
        groups = [sentences(report) for report in self.reports]
        self.sentences = sorted({s for group in groups for s in group})
        sentence_row = {text: i for i, text in enumerate(self.sentences)}
        self.offsets = np.cumsum([0] + [len(group) for group in groups], dtype=np.int64)
        self.sentence_ids = np.array([sentence_row[s] for group in groups for s in group], dtype=np.int32)


def embed_texts(
    texts: DistinctTexts, components: Components, parts: Path, shard: Shard = WHOLE
) -> dict[str, np.ndarray]:
    """What networks say about the texts, in blocks: Bio_ClinicalBERT of triplets and sentences, CLIP of reports."""
    tables: dict[str, np.ndarray] = {}
    jobs: list[tuple[str, Sequence[str], Callable]] = []
    if components.clinical_bert:
        jobs.append(("bert", [*triplet_texts(), *texts.sentences], lambda part: components.text.encode(part)))
    if components.settings.memory == "clip":
        jobs.append(("clip", texts.reports, lambda part: components.pair.encode_texts(part, components.device)))
    for name, all_texts, encode in jobs:
        blocks = Blocks(parts / name, len(all_texts), f"text embeddings, {name}")
        blocks.compute(lambda rows, t=all_texts, e=encode: {"vectors": e(t[rows]).astype(np.float16)}, shard)
    for name, all_texts, _ in jobs:
        tables[name] = Blocks(parts / name, len(all_texts), f"text embeddings, {name}").read()["vectors"]
    return tables


def reference_texts(
    studies: Sequence[Study],
    statuses: np.ndarray,
    data: DataSettings,
    settings: Settings,
    components: Components,
    parts: Path,
) -> tuple[TfidfEncoder | None, ReferenceTexts]:
    """The tables of the training reports' texts; the text encoder is returned where it was fitted now."""
    texts, triplets = DistinctTexts(studies, data), triplet_texts()
    tables = embed_texts(texts, components, parts)
    fitted = None
    if "bert" in tables:
        triplet_table, sentence_table = np.split(tables["bert"], [len(triplets)])
    else:
        fitted = TfidfEncoder(settings.knowledge.text_width).fit(texts.sentences, triplets, settings.seed)
        triplet_table, sentence_table = (fitted.encode(part).astype(np.float16) for part in (triplets, texts.sentences))
    patients = [s.patient for s in studies]
    everyone = torch.from_numpy(statuses)
    nearest = nearest_by_status(everyone, everyone, 1, patients, patients, seed=settings.seed)[1][:, 0]
    record = ReferenceTexts(
        report_ids=texts.report_ids,
        offsets=texts.offsets,
        sentence_ids=texts.sentence_ids,
        sentences=sentence_table,
        reports=tables.get("clip", np.zeros((0, 0), dtype=np.float16)),
        triplets=triplet_table,
        nearest=nearest.numpy().astype(np.int32),
    )
    return fitted, record


def clip_images(
    studies: Sequence[Study], data: DataSettings, components: Components, parts: Path, shard: Shard = WHOLE
) -> np.ndarray:
    """CLIP's vectors of the images (N, V) float16."""

    def vectors_of(rows: slice) -> dict[str, np.ndarray]:
        pair = components.pair
        images = read_pixels(studies[rows], data.images, pair.image_size, pair.pixels)
        return {"vectors": pair.encode_images(images, components.device, progress=True).astype(np.float16)}

    blocks = Blocks(parts / "clip-images", len(studies), "CLIP, images")
    blocks.compute(vectors_of, shard)
    return blocks.read()["vectors"]


def memory_by_scores(
    scores: np.ndarray, patients: Sequence[str], train_scores: np.ndarray, train_patients: Sequence[str],
    k: int, device: torch.device, parts: Path,
) -> np.ndarray:  # fmt: skip
    """(N, k) training rows nearest by entity scores (N, 75), never of the same patient."""
    database = torch.from_numpy(train_scores.astype(np.float32)).to(device)
    index = RetrievalIndex(database, c=1.0, groups=train_patients, metric="euclidean")
    return _search(index, scores, patients, k, device, parts)


def memory_by_reports(
    images: np.ndarray, patients: Sequence[str], texts: ReferenceTexts, train_patients: Sequence[str],
    k: int, device: torch.device, parts: Path,
) -> np.ndarray:  # fmt: skip
    """(N, k) training rows whose reports are nearest to the images (N, V) by cosine, never of the same patient.

    A patient's report counts once, however many images show it.
    """
    pairs = {
        (p, r): row for row, (p, r) in reversed(list(enumerate(zip(train_patients, texts.report_ids, strict=True))))
    }
    rows = np.array(sorted(pairs.values()), dtype=np.int32)
    vectors = torch.from_numpy(texts.reports[texts.report_ids[rows]].astype(np.float32)).to(device)
    index = RetrievalIndex(vectors, c=1.0, groups=[train_patients[row] for row in rows], metric="cosine")
    return rows[_search(index, images, patients, k, device, parts)]


def memory_size(wanted: int, patients: Sequence[str]) -> int:
    """At most `wanted`; fewer where the training set without its largest patient is smaller."""
    size = min(wanted, len(patients) - Counter(patients).most_common(1)[0][1])
    if size < 1:
        raise UserError("the training split has a single patient; retrieval needs at least two")
    return size


def _search(index: RetrievalIndex, queries: np.ndarray, patients: Sequence[str], k: int, device, parts: Path):
    def rows_of(rows: slice) -> dict[str, np.ndarray]:
        points = torch.from_numpy(queries[rows].astype(np.float32)).to(device)
        found = index.search(points, k, query_groups=patients[rows])[1]
        return {"rows": found.cpu().numpy().astype(np.int32)}

    blocks = Blocks(parts / "memory", len(queries), "reference memory", rows=4 * ROWS)
    blocks.compute(rows_of, WHOLE)
    return blocks.read()["rows"]


def split_record(studies: Sequence[Study], statuses: np.ndarray, scores: EntityScores, memory: np.ndarray) -> Features:
    """One split as it is stored."""
    return Features(
        ids=[s.id for s in studies],
        patients=[s.patient for s in studies],
        statuses=statuses,
        scores=scores.probability.astype(np.float16),
        codes=triplet_codes(scores.present, scores.position),
        memory=memory,
    )
