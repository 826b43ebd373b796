"""From a data set to the features that the model reads, computed once and found again.

Everything is fitted on the training split: entity scorer (cross-fitted), text encoder, sentence and triplet tables, the
classifier's memory. A folder's name is a digest of what made it, so that settings never meet features of other
settings. Unfinished work lies in a folder of its own (`.KEY.parts`) and is continued by the same command; a half-made
folder is never seen under the final name.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from revtaf.config import DataSettings, Settings
from revtaf.data.annotations import SPLITS, Annotations, Study, load_annotations
from revtaf.data.store import Features, ReferenceTexts, fingerprint, load_arrays, save_arrays
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest
from revtaf.knowledge import imported, stages
from revtaf.knowledge.base import EntityModel, Labeler
from revtaf.knowledge.blocks import WHOLE, Shard, Waiting
from revtaf.knowledge.components import Components
from revtaf.knowledge.entity_scorer import EntityScorer
from revtaf.knowledge.label_cache import CachedLabeler
from revtaf.prompts.local import triplet_texts

VERSION = 2  # raised whenever the same settings would give other features
log = logging.getLogger("revtaf")


@dataclass
class Knowledge:
    """The components of a run, and the features of the training split."""

    labeler: Labeler
    components: Components
    scorer: EntityScorer | None  # where one was fitted
    train: Features
    texts: ReferenceTexts
    triplets: list[str] | None  # the local prompts in words; imported ones are vectors only
    studies: list[Study]  # of the training split, in the rows' order
    key: str
    fingerprint: str  # of the features themselves: another machine's refit differs
    notes: dict[str, str]  # for the run's report: what was used, and what was not there

    @property
    def entities(self) -> EntityModel:
        return self.scorer or self.components.image_model


@dataclass
class _Plan:
    """What the training features are made of, and where they lie."""

    settings: Settings
    data: DataSettings
    studies: list[Study]
    components: Components

    def __post_init__(self):
        options = self.settings.knowledge
        fitted = {"text_width": options.text_width, "report_labels": options.report_labels, "memory": options.memory}
        if not self.components.medklip:
            names = ("folds", "min_mentions")
            fitted |= {n: v for n, v in options.model_dump().items() if n.startswith("scorer_") or n in names}
        self.producer = {
            "version": VERSION,
            "components": self.components.identity,
            "settings": fitted,
            "memory_size": self.settings.classifier.memory_size,
            "max_words": self.data.max_words,
            "seed": self.settings.seed,
            "images": str(self.data.images),
            "train": _identity(self.studies),
        }
        self.key = digest(self.producer)
        self.folder = Path(self.data.features) / self.key
        self.parts = self.folder.with_name(f".{self.key}.parts")

    def labeler(self) -> Labeler:
        """Remembers what it labelled, where labelling takes a network."""
        labeler = self.components.labeler
        if not self.components.chexbert:
            return labeler
        return CachedLabeler(labeler, Path(self.data.features) / "labels.sqlite")


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


def prepare_knowledge(settings: Settings, device: torch.device, shard: Shard = WHOLE) -> Knowledge:
    """The components and the training features; what is missing is fitted and extracted now.

    Raises Waiting, where other shards have to finish first.
    """
    plan = _plan(settings, device)
    if settings.knowledge.imported:
        return _imported(plan)
    if not plan.folder.exists():
        count, name = len(plan.studies), plan.data.name
        log.info("features: fitting on %d training studies of %s -> %s", count, name, plan.folder)
        _build(plan, shard)
    shutil.rmtree(plan.parts, ignore_errors=True)  # of a build that was killed after its last step
    return _open(plan)


def find_knowledge(settings: Settings, device: torch.device) -> Knowledge | None:
    """The same where it was made before, else None."""
    plan = _plan(settings, device)
    if settings.knowledge.imported:
        return _imported(plan)
    return _open(plan) if plan.folder.exists() else None


def split_features(
    knowledge: Knowledge,
    settings: Settings,
    data: DataSettings,
    split: str,
    device: torch.device,
) -> tuple[Features, list[Study]]:
    """Features of a validation or test split, by components that never saw it; cached."""
    studies, producer, folder = _split(knowledge, data, split)
    if settings.knowledge.imported:
        return imported.load_split(settings.knowledge.imported, split, studies), studies
    if not folder.exists():
        log.info("features: extracting %d studies of %s, split %s", len(studies), data.name, split)
        parts = folder.with_name(f".{folder.name}.parts")
        train = knowledge.train
        statuses = stages.report_statuses(studies, knowledge.labeler, settings, train.statuses.shape[1])
        scores = stages.model_scores(studies, data, lambda: knowledge.entities, device, parts)
        patients, k = [s.patient for s in studies], train.memory.shape[1]
        if settings.knowledge.memory == "clip":
            images = stages.clip_images(studies, data, knowledge.components, parts)
            memory = stages.memory_by_reports(images, patients, knowledge.texts, train.patients, k, device, parts)
        else:
            probability = scores.probability.astype(np.float16)
            memory = stages.memory_by_scores(probability, patients, train.scores, train.patients, k, device, parts)
        save_arrays(folder, stages.split_record(studies, statuses, scores, memory), producer)
        shutil.rmtree(parts)
    return load_arrays(folder, Features, producer), studies


def find_split(knowledge: Knowledge, settings: Settings, data: DataSettings, split: str):
    """The same where it was made before, else None."""
    studies, producer, folder = _split(knowledge, data, split)
    if settings.knowledge.imported:
        return imported.load_split(settings.knowledge.imported, split, studies), studies
    return (load_arrays(folder, Features, producer), studies) if folder.exists() else None


def _plan(settings: Settings, device: torch.device) -> _Plan:
    data = settings.training_data
    studies = select(load_annotations(data.annotation), "train", data)
    return _Plan(settings, data, studies, Components(settings.knowledge, device))


def _build(plan: _Plan, shard: Shard) -> None:
    """Stage by stage. The parts that need no other part come first, so that a shard does its share of all of them."""
    settings, data, studies, parts = plan.settings, plan.data, plan.studies, plan.parts
    components, device = plan.components, plan.components.device
    waiting: list[str] = []

    def attempt(stage, *arguments):
        try:
            return stage(*arguments)
        except Waiting as reason:
            waiting.append(str(reason))

    statuses = stages.report_statuses(studies, plan.labeler(), settings, None, shard)
    scored = attempt(stages.training_scores, studies, data, settings, components, parts, shard)
    if shard.count > 1:
        attempt(stages.embed_texts, stages.DistinctTexts(studies, data), components, parts, shard)
        if settings.knowledge.memory == "clip":
            attempt(stages.clip_images, studies, data, components, parts, shard)
        raise Waiting("; ".join(waiting) or "every block is there")
    if waiting:
        raise Waiting("; ".join(waiting))
    scorer, scores = scored
    encoder, texts = stages.reference_texts(studies, statuses, data, settings, components, parts)
    patients = [s.patient for s in studies]
    k = stages.memory_size(settings.classifier.memory_size, patients)
    if settings.knowledge.memory == "clip":
        images = stages.clip_images(studies, data, components, parts, shard)
        memory = stages.memory_by_reports(images, patients, texts, patients, k, device, parts)
    else:
        probability = scores.probability.astype(np.float16)
        memory = stages.memory_by_scores(probability, patients, probability, patients, k, device, parts)
    with atomic_folder(plan.folder) as partial:
        save_arrays(partial / "train", stages.split_record(studies, statuses, scores, memory), plan.producer)
        save_arrays(partial / "texts", texts, plan.producer)
        for component in (scorer, encoder):
            if component is not None:
                component.save(partial)


def _open(plan: _Plan) -> Knowledge:
    source = "the annotation" if stages.given_statuses(plan.studies, plan.settings) else "the report labeler"
    train, texts = plan.folder / "train", plan.folder / "texts"
    return Knowledge(
        labeler=plan.labeler(),
        components=plan.components,
        scorer=None if plan.components.medklip else EntityScorer.load(plan.folder),
        train=load_arrays(train, Features, plan.producer),
        texts=load_arrays(texts, ReferenceTexts, plan.producer),
        triplets=triplet_texts(),
        studies=plan.studies,
        key=plan.key,
        fingerprint=fingerprint(train, texts),
        notes=plan.components.notes | {"training statuses": f"from {source}"},
    )


def _imported(plan: _Plan) -> Knowledge:
    folder = plan.settings.knowledge.imported
    train, texts = imported.load_training(folder, plan.studies)
    mark = fingerprint(folder / "train", folder / "texts")
    notes = {"entity scores": f"imported from {folder}", "text embeddings": f"imported from {folder}"}
    return Knowledge(
        labeler=plan.labeler(),
        components=plan.components,
        scorer=None,
        train=train,
        texts=texts,
        triplets=None,
        studies=plan.studies,
        key=f"imported-{mark}",
        fingerprint=mark,
        notes=plan.components.notes | notes | {"classifier memory": "imported", "training statuses": "imported"},
    )


def _split(knowledge: Knowledge, data: DataSettings, split: str) -> tuple[list[Study], dict, Path]:
    studies = select(load_annotations(data.annotation), split, data)
    producer = {
        "knowledge": knowledge.key,
        "fingerprint": knowledge.fingerprint,
        "images": str(data.images),
        "studies": _identity(studies),
    }
    return studies, producer, Path(data.features) / f"{knowledge.key}-{digest(producer)}"


def _identity(studies: list[Study]) -> str:
    """Changes with whatever of the studies the features depend on."""
    return digest([(s.id, s.image_path, s.report, s.labels, s.patient) for s in studies])
