"""From a data set to the features that the model reads, computed once and found again.

Everything is fitted on the training split: entity scorer (cross-fitted), text encoder, sentence and
triplet tables, the classifier's memory. A folder's name is a digest of what made it, so that settings never meet
features of other settings; a half-made folder is never seen under that name.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from revtaf.config import DataSettings, Settings
from revtaf.data.annotations import SPLITS, Annotations, Study, load_annotations
from revtaf.data.images import read_image, resize_crop
from revtaf.data.store import Features, ReferenceTexts, load_arrays, save_arrays
from revtaf.data.text import clean_report, sentences
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, write_json
from revtaf.knowledge.base import EntityScores, Labeler, TextEncoder
from revtaf.knowledge.entity_scorer import EntityScorer, fit_entity_scorer
from revtaf.knowledge.mentions import entity_mentions
from revtaf.knowledge.rules import RuleLabeler
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.labels import CATEGORIES
from revtaf.lre.index import RetrievalIndex
from revtaf.prompts.local import triplet_codes, triplet_texts

VERSION = 1  # raised whenever the same settings would give other features
_FITTED = ("scorer.safetensors", "train/arrays.safetensors", "texts/arrays.safetensors")
log = logging.getLogger("revtaf")


@dataclass
class Knowledge:
    """The fitted components, and the training split that they were fitted on."""

    labeler: Labeler
    entities: EntityScorer
    text: TextEncoder
    train: Features
    texts: ReferenceTexts
    studies: list[Study]  # of the training split, in the rows' order
    key: str
    status_source: str  # of the training reports
    fingerprint: str  # of the features themselves: another machine's refit differs

    @property
    def names(self) -> dict[str, str]:
        """For the run's report: what was used, and what was not there."""
        return {
            "report statuses": f"{self.status_source}; scored by {self.labeler.name} (own phrase rules, not CheXbert)",
            "entity scores": f"{self.entities.name} (fitted on the training set; MedKLIP not used)",
            "text embeddings": f"{self.text.name} (fitted on the training set; Bio_ClinicalBERT not used)",
        }


def select(annotations: Annotations, split: str, data: DataSettings) -> list[Study]:
    """The studies of a split ("val") or of several ("train+val+test"). UserError where there are none."""
    parts = split.split("+")
    for part in parts:
        if part not in SPLITS:
            raise UserError(f"split '{part}': expected {', '.join(SPLITS)}, or several joined by '+'")
        if not annotations.get(part):
            have = ", ".join(f"{name} ({len(s)})" for name, s in annotations.items())
            raise UserError(f"{data.annotation}: no study in split '{part}'; it has {have}")
    return [study for part in parts for study in annotations[part]][: data.max_samples]


def prepare_knowledge(settings: Settings, device: torch.device) -> Knowledge:
    """Load the fitted components and the training features, or fit and extract them now."""
    data, options = settings.training_data, settings.knowledge
    studies = select(load_annotations(data.annotation), "train", data)
    labeler = RuleLabeler()
    producer = {
        "version": VERSION,
        "knowledge": options.model_dump(mode="json"),
        "labeler": labeler.name,
        "memory_size": settings.classifier.memory_size,
        "max_words": data.max_words,
        "seed": settings.seed,
        "images": str(data.images),
        "train": _identity(studies),
    }
    key = digest(producer)
    folder = Path(data.features) / key
    if not folder.exists():
        log.info("features: fitting on %d training studies of %s -> %s", len(studies), data.name, folder)
        with atomic_folder(folder) as partial:
            _fit(studies, data, settings, labeler, producer, partial, device)
            hashes = [hashlib.sha256((partial / name).read_bytes()).hexdigest() for name in _FITTED]
            write_json(partial / "fingerprint.json", digest(hashes))
    return Knowledge(
        labeler,
        EntityScorer.load(folder),
        TfidfEncoder.load(folder),
        load_arrays(folder / "train", Features, producer),
        load_arrays(folder / "texts", ReferenceTexts, producer),
        studies,
        key,
        _status_source(studies, labeler, settings),
        read_json(folder / "fingerprint.json", "features' fingerprint"),
    )


def split_features(
    knowledge: Knowledge, settings: Settings, data: DataSettings, split: str, device: torch.device
) -> tuple[Features, list[Study]]:
    """Features of a validation or test split, by components that never saw it; cached."""
    studies = select(load_annotations(data.annotation), split, data)
    producer = {
        "knowledge": knowledge.key,
        "images": str(data.images),
        "studies": _identity(studies),
    }
    folder = Path(data.features) / f"{knowledge.key}-{digest(producer)}"
    if not folder.exists():
        log.info("features: extracting %d studies of %s, split %s", len(studies), data.name, split)
        images = load_pixels(studies, data.images, settings.knowledge.scorer_image_size)
        scores = knowledge.entities.score(images, device, progress=True)
        statuses = _statuses(studies, knowledge.labeler, settings, knowledge.train.statuses.shape[1])
        memory = _nearest_training_rows(scores, studies, knowledge.train, settings)
        save_arrays(folder, _features(studies, statuses, scores, memory), producer)
    return load_arrays(folder, Features, producer), studies


def _identity(studies: list[Study]) -> str:
    """Changes with whatever of the studies the features depend on."""
    return digest([(s.id, s.image_path, s.report, s.labels, s.patient) for s in studies])


def load_pixels(studies: list[Study], images: Path, size: int) -> np.ndarray:
    """The first image of every study, centre-cropped, (N, size, size) uint8; all must be readable."""
    resize = round(size * 256 / 224)

    def load(study: Study) -> np.ndarray:
        return np.asarray(resize_crop(read_image(Path(images) / study.image_path[0]), resize, size))

    pixels = np.empty((len(studies), size, size), dtype=np.uint8)
    with ThreadPoolExecutor(4) as pool:
        done = tqdm(pool.map(load, studies), desc="reading images", total=len(studies), leave=False)
        for i, image in enumerate(done):
            pixels[i] = image
    return pixels


def _fit(
    studies: list[Study],
    data: DataSettings,
    settings: Settings,
    labeler: Labeler,
    producer: dict,
    folder: Path,
    device: torch.device,
) -> None:
    reports = [clean_report(s.report, data.max_words) for s in studies]
    statuses = _statuses(studies, labeler, settings, None)
    patients = [s.patient for s in studies]
    pixels = load_pixels(studies, data.images, settings.knowledge.scorer_image_size)
    mentions = entity_mentions(reports)
    scorer, scores = fit_entity_scorer(pixels, mentions, patients, settings.knowledge, settings.seed, device)
    scorer.save(folder)
    train = _features(studies, statuses, scores, np.zeros((len(studies), 0), np.int32))
    train.memory = _nearest_training_rows(scores, studies, train, settings)
    save_arrays(folder / "train", train, producer)

    per_report = [sentences(report) for report in reports]
    unique = sorted({s for group in per_report for s in group})
    row = {text: i for i, text in enumerate(unique)}
    triplets = triplet_texts()
    encoder = TfidfEncoder(settings.knowledge.text_width).fit(unique, triplets, settings.seed)
    encoder.save(folder)
    texts = ReferenceTexts(
        sentences=encoder.encode(unique),
        sentence_ids=np.array([row[s] for group in per_report for s in group], dtype=np.int32),
        offsets=np.cumsum([0] + [len(group) for group in per_report], dtype=np.int64),
        reports=encoder.encode(reports),
        triplets=encoder.encode(triplets),
    )
    save_arrays(folder / "texts", texts, producer)


def _statuses(studies: list[Study], labeler: Labeler, settings: Settings, categories: int | None) -> np.ndarray:
    """(N, K) uint8: the annotation's statuses, or the labeler's where it has none; cut to `categories`."""
    if _given_labels(studies, settings):
        statuses = np.array([s.labels for s in studies], dtype=np.uint8)
        if categories is None or statuses.shape[1] >= categories:
            return statuses[:, :categories]
    labels = np.asarray(labeler.label([s.report for s in studies]), dtype=np.uint8)
    return labels[:, : categories or len(CATEGORIES)]


def _given_labels(studies: list[Study], settings: Settings) -> bool:
    """Whether the annotation's statuses are used; UserError where some studies have them and others do not."""
    counts = Counter(len(s.labels) for s in studies)
    if not settings.knowledge.report_labels or set(counts) == {0}:
        return False
    if len(counts) > 1:
        odd = next(s.id for s in studies if len(s.labels) != counts.most_common(1)[0][0])
        raise UserError(
            f"labels: the studies have {sorted(counts)} statuses, expected one count for all (first odd one: {odd}); "
            "complete the annotation, or set knowledge.report_labels=false to label every report by rules"
        )
    return True


def _status_source(studies: list[Study], labeler: Labeler, settings: Settings) -> str:
    return "the annotation's statuses" if _given_labels(studies, settings) else f"{labeler.name}'s statuses"


def _nearest_training_rows(
    scores: EntityScores, studies: list[Study], train: Features, settings: Settings
) -> np.ndarray:
    """(N, K_m) training rows nearest in entity-score space, never of the same patient."""
    largest = max(np.unique(train.patients, return_counts=True)[1])
    k = min(settings.classifier.memory_size, len(train) - int(largest))
    if k < 1:
        raise UserError("the training split has a single patient; retrieval needs at least two")
    index = RetrievalIndex(torch.from_numpy(train.scores), c=1.0, groups=train.patients, metric="euclidean")
    rows = [
        index.search(
            torch.from_numpy(scores.probability[i : i + 256]),
            k,
            query_groups=[s.patient for s in studies[i : i + 256]],
        )[1].numpy()
        for i in tqdm(range(0, len(studies), 256), desc="reference memory", leave=False)
    ]
    return np.concatenate(rows).astype(np.int32)


def _features(studies: list[Study], statuses: np.ndarray, scores: EntityScores, memory: np.ndarray) -> Features:
    return Features(
        ids=[s.id for s in studies],
        patients=[s.patient for s in studies],
        statuses=statuses,
        scores=scores.probability,
        codes=triplet_codes(scores.present, scores.position),
        memory=memory,
    )
