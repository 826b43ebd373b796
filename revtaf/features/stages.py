"""What features are made of, stage by stage; each is a folder of the feature store.

    reports --labeler--> statuses --> nearest training study by labels
    images --entity model--> entity scores, local prompts --> the classifier's memory
    reports --text encoder--> tables of sentences and triplets
    images, reports --CLIP or MedFuse-CLIP--> memory, images --MedFuse-CLIP--> the retriever's input, if so chosen

The digests name exactly what a stage depends on. Nothing here knows a split: what is fitted, the entity scorer and the
text tables, is asked for with the training studies.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from revtaf.config import DataSettings, KnowledgeSettings
from revtaf.data import blocks
from revtaf.data.annotations import Study, clean_reports
from revtaf.data.blocks import Blocks, PixelBlocks, Shard, read_pixels
from revtaf.data.text import sentences
from revtaf.errors import UserError
from revtaf.features.arrays import TextTables
from revtaf.features.store import Arrays, FeatureStore, Save
from revtaf.files import digest
from revtaf.knowledge.base import EntityModel, EntityScores, Labeler, TextEncoder
from revtaf.knowledge.components import Components
from revtaf.knowledge.entity_scorer import EntityScorer, fit_entity_scorer, in_halves, scorer_pixels
from revtaf.knowledge.mentions import entity_mentions
from revtaf.knowledge.scope import RULES
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.labels import CATEGORIES, ENTITIES
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status
from revtaf.prompts.local import triplet_codes, triplet_texts

VERSION = 2  # raised whenever the same inputs would give other features


def given_statuses(studies: Sequence[Study], options: KnowledgeSettings) -> bool:
    """Whether the annotation's statuses are used; UserError where some studies have them and others do not."""
    counts = Counter(len(s.labels) for s in studies)
    if set(counts) == {0} and options.labeler == "annotation":
        raise UserError(
            "knowledge.labeler=annotation, but no study has statuses: write them into `labels` (docs/data.md), or set "
            "knowledge.labeler=none"
        )
    if not options.report_labels or set(counts) == {0} or options.labeler == "none":
        return False
    if len(counts) > 1:
        odd = next(s.id for s in studies if len(s.labels) != counts.most_common(1)[0][0])
        raise UserError(
            f"labels: the studies have {sorted(counts)} statuses, expected one count for all (first odd one: {odd}); "
            "complete the annotation, or set knowledge.report_labels=false to label every report anew"
        )
    return True


def report_statuses(
    store: FeatureStore,
    studies: Sequence[Study],
    components: Components,
    labeler: Callable[[], Labeler],
    categories: int | None = None,
) -> np.ndarray:
    """(N, K) uint8: the annotation's statuses, or those of `labeler()` where it has none or too few; cut to
    `categories`. K is 0 where nobody labels (`knowledge.labeler=none`); UserError where the annotation should."""
    asked = components.settings.labeler
    if asked == "none":
        return np.zeros((len(studies), 0), dtype=np.uint8)
    given = given_statuses(studies, components.settings)
    if asked == "annotation" and len(studies[0].labels) < (categories or 0):
        raise UserError(
            f"knowledge.labeler=annotation: {len(studies[0].labels)} statuses a study, but the model knows {categories}"
        )
    if given:
        statuses = np.array([s.labels for s in studies], dtype=np.uint8)
        if categories is None or statuses.shape[1] >= categories:
            return statuses[:, :categories]
    reports = [s.report for s in studies]

    def build(_: Path, shard: Shard) -> tuple[Arrays, None]:
        distinct = list(dict.fromkeys(reports))
        if shard.count > 1:  # a labeler that takes long remembers what it labelled
            labeler().label(distinct[shard.index :: shard.count])
            return {}, None
        row = {report: i for i, report in enumerate(distinct)}
        labels = np.asarray(labeler().label(distinct), dtype=np.uint8)
        return {"statuses": labels[[row[report] for report in reports]]}, None

    producer = {"version": VERSION, "labeler": components.identity["labeler"], "reports": digest(reports)}
    return store.get("statuses", producer, build)["statuses"][:, : categories or len(CATEGORIES)]


def model_scores(
    store: FeatureStore,
    studies: Sequence[Study],
    data: DataSettings,
    model: Any,
    identity: Any,
    device: torch.device,
) -> Arrays:
    """Entity scores (N, 75) and codes (N, 75) by a finished model. `model()` gives it where it has to look."""

    def build(parts: Path, shard: Shard) -> tuple[Arrays, None]:
        def scores_of(rows: slice) -> Arrays:
            entities: EntityModel = model()
            images = read_pixels(studies[rows], data.images, entities.image_size, entities.pixels)
            return _stored(entities.score(images, device, progress=True))

        work = Blocks(parts, len(studies), "entity scores")
        work.compute(scores_of, shard)
        return work.read(), None

    producer = {"version": VERSION, "model": identity, "images": image_names(studies, data)}
    return store.get("entities", producer, build, {"ids": [s.id for s in studies]})


def fitted_scores(
    store: FeatureStore, studies: Sequence[Study], data: DataSettings, components: Components, seed: int
) -> Arrays:
    """The same for training images, out of fold, by a scorer that is fitted on their reports and kept beside them."""
    options = components.settings
    names = ("folds", "min_mentions")
    fit = {n: v for n, v in options.model_dump().items() if n.startswith("scorer_") or n in names}
    fit["scorer_precision"] = "bf16" if in_halves(options, components.device) else "no"
    reports = clean_reports(studies, data.max_words, data.language)
    patients = [s.patient for s in studies]
    size = options.scorer_image_size

    def build(parts: Path, shard: Shard) -> tuple[Arrays, Save]:
        images = PixelBlocks(parts / "pixels", len(studies), "reading images")
        images.compute(
            lambda rows: read_pixels(studies[rows], data.images, size, lambda image: scorer_pixels(image, size)), shard
        )
        scorer, scores = fit_entity_scorer(
            images.map(), entity_mentions(reports), patients, options, seed, components.device, parts / "folds", shard
        )
        return _stored(scores), scorer.save

    producer = {
        "version": VERSION,
        "model": EntityScorer.name,
        "fit": fit,
        "seed": seed,
        "reports": digest(reports),
        "mentions": RULES,
        "patients": digest(patients),
        "images": image_names(studies, data),
    }
    return store.get("entities", producer, build, {"ids": [s.id for s in studies]})


def check_words(reports: Iterable[str], data: DataSettings) -> None:
    """UserError where none of the cleaned training reports has a word; reads no further than the first that has."""
    if not any(sentences(report) for report in reports):
        raise UserError(f"{data.annotation}: no training report has a word in it")


class DistinctTexts:
    """Every text of the training reports once: `reports` and `sentences`, and which sample has which."""

    def __init__(self, studies: Sequence[Study], data: DataSettings):
        cleaned = clean_reports(studies, data.max_words, data.language)
        self.reports = sorted(set(cleaned))
        report_row = {text: i for i, text in enumerate(self.reports)}
        self.report_ids = np.array([report_row[text] for text in cleaned], dtype=np.int32)
        groups = [sentences(report) for report in self.reports]
        self.sentences = sorted({s for group in groups for s in group})
        check_words(self.reports, data)
        sentence_row = {text: i for i, text in enumerate(self.sentences)}
        self.offsets = np.cumsum([0] + [len(group) for group in groups], dtype=np.int64)
        self.sentence_ids = np.array([sentence_row[s] for group in groups for s in group], dtype=np.int32)


def text_tables(
    store: FeatureStore, studies: Sequence[Study], data: DataSettings, components: Components, seed: int
) -> Arrays:
    """Sentences and triplets as vectors, and which report has which: fields of `TextTables`."""
    texts, triplets = DistinctTexts(studies, data), triplet_texts()
    width = components.settings.text_width

    def build(parts: Path, shard: Shard) -> tuple[Arrays, None]:
        everything = [*triplets, *texts.sentences]
        if components.clinical_bert:
            work = Blocks(parts, len(everything), "text embeddings")
            work.compute(lambda rows: {"vectors": _half(components.text.encode(everything[rows]))}, shard)
            vectors = work.read()["vectors"]
        else:
            with threadpool_limits(1):
                vectors = _half(fit_text_encoder(texts.sentences, width, seed).encode(everything))
        arrays = {name: getattr(texts, name) for name in ("report_ids", "offsets", "sentence_ids")}
        return arrays | {"triplets": vectors[: len(triplets)], "sentences": vectors[len(triplets) :]}, None

    fitted = {} if components.clinical_bert else {"width": width, "seed": seed}
    producer = {"version": VERSION, "encoder": components.identity["text"], **fitted}
    producer |= {"texts": digest(texts.reports, texts.report_ids.tolist())}
    return store.get("texts", producer, build)


def further_reports(texts: TextTables, reports: Sequence[str], encoder: TextEncoder) -> TextTables:
    """The tables with further reports behind the training reports: row N + i is `reports[i]` (cleaned), by its
    sentences. For controls; copies the sentence table."""
    groups = [sentences(report) for report in reports]
    distinct = sorted({s for group in groups for s in group})
    row = {text: len(texts.sentences) + i for i, text in enumerate(distinct)}
    vectors = _half(encoder.encode(distinct)) if distinct else texts.sentences[:0]
    ends = texts.offsets[-1] + np.cumsum([len(group) for group in groups], dtype=np.int64)
    ids = np.array([row[s] for group in groups for s in group], dtype=texts.sentence_ids.dtype)
    report_ids = len(texts.offsets) - 1 + np.arange(len(reports), dtype=texts.report_ids.dtype)
    return replace(
        texts,
        report_ids=np.concatenate([texts.report_ids, report_ids]),
        offsets=np.concatenate([texts.offsets, ends]),
        sentence_ids=np.concatenate([texts.sentence_ids, ids]),
        sentences=np.concatenate([texts.sentences, vectors]),
    )


def fit_text_encoder(distinct: Sequence[str], width: int, seed: int) -> TfidfEncoder:
    """The stand-in of Bio_ClinicalBERT, fitted on the distinct training sentences and the triplets."""
    with threadpool_limits(1):  # the last digits of a decomposition depend on the number of threads
        return TfidfEncoder(width).fit(distinct, triplet_texts(), seed)


def no_texts(count: int) -> Arrays:
    """`text_tables` of `count` training studies whose texts nothing reads: one report without a sentence."""
    return {
        "report_ids": np.zeros(count, np.int32),
        "offsets": np.zeros(2, np.int64),
        "sentence_ids": np.zeros(0, np.int32),
        "triplets": np.zeros((len(ENTITIES), 1), np.float16),
        "sentences": np.zeros((0, 1), np.float16),
    }


def no_scores(count: int) -> Arrays:
    """`model_scores` of `count` images whose entities nothing asks for."""
    empty = (count, len(ENTITIES))
    return {"scores": np.zeros(empty, np.float16), "codes": np.zeros(empty, np.uint8)}


def clip_reports(
    store: FeatureStore, studies: Sequence[Study], data: DataSettings, components: Components
) -> np.ndarray:
    """CLIP's vectors (R, V) float16 of the distinct training reports, in the order of `DistinctTexts`."""
    reports = DistinctTexts(studies, data).reports

    def build(parts: Path, shard: Shard) -> tuple[Arrays, None]:
        work = Blocks(parts, len(reports), "CLIP, reports")
        work.compute(
            lambda rows: {"vectors": _half(components.pair.encode_texts(reports[rows], components.device))}, shard
        )
        return work.read(), None

    producer = {"version": VERSION, "model": components.identity["clip"], "texts": digest(reports)}
    return store.get("clip-reports", producer, build)["vectors"]


def clip_images(
    store: FeatureStore, studies: Sequence[Study], data: DataSettings, components: Components
) -> np.ndarray:
    """CLIP's vectors (N, V) float16 of the images."""

    def build(parts: Path, shard: Shard) -> tuple[Arrays, None]:
        def vectors_of(rows: slice) -> Arrays:
            pair = components.pair
            images = read_pixels(studies[rows], data.images, pair.image_size, pair.pixels)
            return {"vectors": _half(pair.encode_images(images, components.device, progress=True))}

        work = Blocks(parts, len(studies), "CLIP, images")
        work.compute(vectors_of, shard)
        return work.read(), None

    producer = {"version": VERSION, "model": components.identity["clip"], "images": image_names(studies, data)}
    return store.get("clip-images", producer, build)["vectors"]


def medfuse_reports(
    store: FeatureStore, studies: Sequence[Study], data: DataSettings, components: Components
) -> np.ndarray:
    """MedFuse-CLIP's vectors (R, V) float16 of the distinct training reports, in the order of `DistinctTexts`; each as
    the first study that has it says it, because that encoder reads reports as they are written."""
    first = np.unique(DistinctTexts(studies, data).report_ids, return_index=True)[1]
    chosen = [studies[row] for row in first]

    def build(parts: Path, shard: Shard) -> tuple[Arrays, None]:
        work = Blocks(parts, len(chosen), "MedFuse-CLIP, reports")
        work.compute(lambda rows: {"vectors": _half(components.study_encoder.encode_reports(chosen[rows]))}, shard)
        return work.read(), None

    producer = {"version": VERSION, "model": components.study_encoder.identity}
    producer |= {"texts": digest([(s.report, s.impression) for s in chosen])}
    return store.get("medfuse-reports", producer, build)["vectors"]


def medfuse_images(
    store: FeatureStore, studies: Sequence[Study], data: DataSettings, components: Components
) -> np.ndarray:
    """MedFuse-CLIP's vectors (N, V) float16 of the images."""

    def build(parts: Path, shard: Shard) -> tuple[Arrays, None]:
        def vectors_of(rows: slice) -> Arrays:
            return {"vectors": _half(components.study_encoder.encode_images(studies[rows], data))}

        work = Blocks(parts, len(studies), "MedFuse-CLIP, images")
        work.compute(vectors_of, shard)
        return work.read(), None

    producer = {"version": VERSION, "model": components.study_encoder.identity, "images": image_names(studies, data)}
    return store.get("medfuse-images", producer, build)["vectors"]


# By `knowledge.memory`: what embeds the training reports, and the images that ask for them.
PAIRS = {"clip": (clip_reports, clip_images), "medfuse": (medfuse_reports, medfuse_images)}


def memory_rows(
    store: FeatureStore,
    queries: np.ndarray,
    patients: Sequence[str],
    database: np.ndarray,
    rows: np.ndarray,
    train_patients: Sequence[str],
    metric: str,
    size: int,
    device: torch.device,
) -> np.ndarray:
    """(N, K_m) training rows for the classifier's memory: nearest to `queries` (N, D), never of the same patient.

    database (M, D) are the vectors of the training `rows` (M,). K_m is `size`, or less where the training set
    without its largest patient is smaller.
    """
    owners = [train_patients[row] for row in rows]
    k = min(size, len(owners) - Counter(owners).most_common(1)[0][1])
    if k < 1:
        raise UserError("the training split has a single patient; retrieval needs at least two")

    def build(parts: Path, _: Shard) -> tuple[Arrays, None]:
        points = torch.from_numpy(np.asarray(database, dtype=np.float32)).to(device)
        index = RetrievalIndex(points, c=1.0, groups=owners, metric=metric)

        def found(part: slice) -> Arrays:
            asked = torch.from_numpy(np.asarray(queries[part], dtype=np.float32)).to(device)
            nearest = index.search(asked, k, query_groups=patients[part])[1]
            return {"memory": rows[nearest.cpu().numpy()].astype(np.int32)}

        work = Blocks(parts, len(queries), "reference memory", rows=4 * blocks.ROWS)
        work.compute(found, Shard())
        return work.read(), None

    vectors = [digest(array.shape, str(array.dtype), array_hash(array)) for array in (queries, database, rows)]
    producer = {"version": VERSION, "metric": metric, "size": k, "vectors": vectors}
    producer |= {"patients": digest(list(patients), list(train_patients))}
    return store.get("memory", producer, build)["memory"]


def nearest_by_labels(store: FeatureStore, statuses: np.ndarray, patients: Sequence[str], seed: int) -> np.ndarray:
    """(N,) int32: for each training study the nearest by statuses, of another patient; ties at random."""

    def build(_: Path, __: Shard) -> tuple[Arrays, None]:
        everyone = torch.from_numpy(np.array(statuses))
        nearest = nearest_by_status(everyone, everyone, 1, patients, patients, seed=seed)[1][:, 0]
        return {"nearest": nearest.numpy().astype(np.int32)}, None

    producer = {"version": VERSION, "statuses": array_hash(statuses), "patients": digest(list(patients)), "seed": seed}
    return store.get("nearest", producer, build)["nearest"]


def _stored(scores: EntityScores) -> Arrays:
    return {"scores": _half(scores.probability), "codes": triplet_codes(scores.present, scores.position)}


def _half(vectors: np.ndarray) -> np.ndarray:
    return vectors.astype(np.float16)


def array_hash(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def image_names(studies: Sequence[Study], data: DataSettings) -> str:
    """Which images, by name. The folder counts as seen from the features, so that a data set may be moved."""
    place = os.path.relpath(data.images, data.features)
    return digest(place, [(s.id, s.image_path[0]) for s in studies])
