"""From a data set to the features that the model reads: made once, found again.

Everything is fitted on the training split: entity scorer (cross-fitted), text tables, the classifier's memory. The
stages and what each depends on: `revtaf.features.stages`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from revtaf.config import WHOLE_SET, DataSettings, RunSettings
from revtaf.data.annotations import SPLITS, Annotations, Study, load_annotations, parts_of
from revtaf.data.blocks import WHOLE, Shard, Waiting
from revtaf.data.unreadable import readable
from revtaf.errors import UserError
from revtaf.features import controls, imported, stages
from revtaf.features.arrays import Features, TextTables, fingerprint
from revtaf.features.label_cache import CachedLabeler
from revtaf.features.store import FeatureStore, Missing
from revtaf.files import digest
from revtaf.knowledge.base import EntityModel, Labeler, TextEncoder
from revtaf.knowledge.components import Components
from revtaf.knowledge.entity_scorer import EntityScorer
from revtaf.prompts.local import triplet_texts
from revtaf.settings import Settings

log = logging.getLogger("revtaf")


@dataclass
class Knowledge:
    """The components of a run, and the features of the training split."""

    components: Components
    scorer: EntityScorer | None  # where one was fitted
    scorer_mark: str  # changes with it
    train: Features
    texts: TextTables
    triplets: list[str] | None  # the local prompts in words; imported ones are vectors only
    studies: list[Study] | None  # of the training split, in the rows' order; None where a model was opened
    remembered: Path  # where a slow labeler's answers are kept
    key: str  # of what the features were made of
    fingerprint: str  # of the features themselves: another machine's refit differs
    trunk_fingerprint: str  # without what the retriever alone reads: another one has the same trunk
    notes: dict[str, str]  # for the run's report: what was used, and what was not there
    find_encoder: Callable[[], TextEncoder]  # what made the sentences' vectors, loaded or fitted when it is needed
    kept_reports: Path | None = None  # of an opened model: its reports.jsonl
    plain: Features | None = None  # `train` as the experts see it, where controls have changed it

    @property
    def seen(self) -> Features:
        """The training split as the experts see it, which other images are compared with."""
        return self.train if self.plain is None else self.plain

    def under(self, settings: Settings) -> Knowledge:
        """The same with what `settings.controls` give the model instead (`revtaf.features.controls`)."""
        train = controls.given(self.seen, self.seen, self.studies, settings)
        return self if train is self.train else replace(self, train=train, plain=self.seen)

    @cached_property
    def labeler(self) -> Labeler | None:
        """Reports -> statuses, for training and for CE alike; None where nobody reads the reports."""
        return _labeler(self.components, self.remembered)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """Sentence -> vector, as in the tables, for texts that they do not hold. UserError where it did not come with
        imported features."""
        return self.find_encoder()

    @property
    def entities(self) -> EntityModel:
        """What gives the entity scores of an image that the features do not hold."""
        if self.scorer is None and not self.components.medklip:
            raise UserError(
                f"knowledge.medklip: {self.components.settings.medklip} is not there; the model looks at images with "
                "MedKLIP: put the file there, or name its place with knowledge.medklip=PATH"
            )
        return self.scorer or self.components.image_model

    @cached_property
    def reports(self) -> list[str] | None:
        """The raw training reports, in the rows' order; None where an opened model came without them."""
        if self.studies is not None:
            return [study.report for study in self.studies]
        if self.kept_reports is None or not self.kept_reports.is_file():
            return None
        with open(self.kept_reports, encoding="utf-8") as file:
            return [json.loads(line)["report"] for line in file]


def select(annotations: Annotations, split: str, data: DataSettings) -> list[Study]:
    """The studies of a split ("val"), of several ("val+test"), or of all ("whole"). UserError where there are none."""
    parts = parts_of(split, annotations)
    for part in parts:
        if part not in SPLITS:
            raise UserError(f"split '{part}': expected {', '.join(SPLITS)}, several joined by '+', or {WHOLE_SET}")
        if not annotations.get(part):
            have = ", ".join(f"{name} ({len(s)})" for name, s in annotations.items())
            raise UserError(
                f"{data.annotation}: no study in split '{part}'; it has {have}; {WHOLE_SET} means all of it"
            )
    if not parts:
        raise UserError(f"{data.annotation}: no study in it")
    return [study for part in parts for study in annotations[part][: data.max_samples]]


def prepare_knowledge(
    settings: Settings, device: torch.device, shard: Shard = WHOLE, store: FeatureStore | None = None
) -> Knowledge:
    """The components and the training features; what is missing is fitted and extracted now.

    Raises Waiting, where other shards have to finish first.
    """
    store = store or FeatureStore(Path(settings.training_data.features), shard)
    data, options = settings.training_data, settings.knowledge
    annotations = load_annotations(data.annotation)
    studies = select(annotations, "train", data)
    components = Components(options, device)
    remembered = Path(data.features) / "labels.sqlite"
    if options.imported:  # has a row for every study, whether its image can be read or not
        return _imported(studies, components, options.imported, remembered)
    studies = readable(studies, data)
    patients, seed = [s.patient for s in studies], settings.seed
    used: dict[str, str] = {}
    if settings.reads_medfuse:
        components.study_encoder.check_unseen(data, annotations)
        used["MedFuse-CLIP"] = components.study_encoder.source
    waiting: list[str] = []

    def attempt(stage: Callable, *arguments):
        """A shard does its part of every stage that needs no other stage, whatever is still missing."""
        try:
            return stage(store, studies, *arguments)
        except Waiting as reason:
            waiting.append(str(reason))

    statuses = attempt(stages.report_statuses, components, lambda: _labeler(components, remembered))
    if not settings.reads_entities:
        scores = stages.no_scores(len(studies))
    elif components.medklip:
        identity = components.identity["entities"]
        scores = attempt(stages.model_scores, data, lambda: components.image_model, identity, device)
    else:
        if not options.reads_reports:
            raise UserError(
                f"knowledge.labeler={options.labeler}: the entity scorer that takes MedKLIP's place is fitted on "
                "English words; put MedKLIP's file there, or set knowledge.entities=scorer, which switches off what "
                "reads entities"
            )
        scores = attempt(stages.fitted_scores, data, components, seed)
    fits_scorer = settings.reads_entities and not components.medklip
    if settings.reads_texts:
        tables = attempt(stages.text_tables, data, components, seed)
    else:
        tables = stages.no_texts(len(studies))
    pair = _pair(settings)
    reports = attempt(pair[0], data, components) if pair else np.zeros((0, 0), dtype=np.float16)
    queries = attempt(pair[1], data, components) if pair else None
    vectors = attempt(stages.medfuse_images, data, components) if settings.retrieves_by_medfuse else None
    if waiting:
        raise Waiting("; ".join(waiting))

    texts = TextTables(**tables, reports=reports, nearest=np.zeros(0, np.int32))
    size = settings.classifier.memory_size
    if settings.classifier.memory or options.reads_reports:
        memory = _memory(store, queries, scores["scores"], patients, scores["scores"], texts, patients, size, device)
    else:
        memory = np.zeros((len(studies), 0), np.int32)
    if statuses.shape[1]:
        texts.nearest = stages.nearest_by_labels(store, statuses, patients, seed)
        given = stages.given_statuses(studies, options)
        used["training statuses"] = f"from the {'annotation' if given else 'report labeler'}"
    else:
        used["training statuses"] = "none (knowledge.labeler=none)"

    for what, there in (
        ("entity scores", settings.reads_entities),
        ("text embeddings", settings.reads_texts),
        ("classifier memory", settings.classifier.memory or options.reads_reports),
    ):
        if not there:
            used[what] = f"none (knowledge.labeler={options.labeler})"

    def encoder() -> TextEncoder:
        if components.clinical_bert:
            return components.text
        return stages.fit_text_encoder(stages.DistinctTexts(studies, data).sentences, options.text_width, seed)

    # Features know which images and reports they were made of; without them a model says so itself.
    featured = settings.reads_entities and settings.reads_texts
    read = [stages.image_names(studies, data), digest([s.report for s in studies])]
    of_retriever = ("medfuse-images",) if vectors is not None and queries is None else ()

    def with_read(mark: str) -> str:
        return mark if featured else digest(mark, read)

    knowledge = Knowledge(
        components=components,
        scorer=EntityScorer.load(store.used["entities"]) if fits_scorer else None,
        scorer_mark=fingerprint(store.used["entities"]) if settings.reads_entities else "",
        train=Features([s.id for s in studies], patients, statuses, scores["scores"], scores["codes"], memory, vectors),
        texts=texts,
        triplets=triplet_texts(),
        studies=studies,
        remembered=remembered,
        key=with_read(store.key),
        fingerprint=with_read(store.fingerprint),
        trunk_fingerprint=with_read(store.fingerprint_without(*of_retriever)),
        notes=components.notes | used,
        find_encoder=encoder,
    )
    return knowledge.under(settings)


def _pair(settings: Settings):
    """What embeds reports and images for the classifier's memory, where encoders do."""
    remembers = settings.classifier.memory or settings.knowledge.reads_reports
    return stages.PAIRS.get(settings.knowledge.memory) if remembers else None


def find_knowledge(settings: Settings, device: torch.device) -> Knowledge | None:
    """The same where it was made before, else None."""
    try:
        store = FeatureStore(Path(settings.training_data.features), make=False)
        return prepare_knowledge(settings, device, store=store)
    except Missing:
        return None


def split_features(
    knowledge: Knowledge,
    settings: Settings,
    data: DataSettings,
    split: str,
    device: torch.device,
    store: FeatureStore | None = None,
) -> tuple[Features, list[Study]]:
    """Features of a validation or test split, by components that never saw it; found where they were made before."""
    store = store or FeatureStore(Path(data.features))
    annotations = load_annotations(data.annotation)
    studies = select(annotations, split, data)
    if folder := settings.knowledge.imported:
        parts = parts_of(split, annotations)
        if not store.make and not all((folder / part).is_dir() for part in parts):
            raise Missing(f"{folder} has no {split}")
        return imported.load_split(folder, parts, studies), studies
    if settings.reads_medfuse:
        knowledge.components.study_encoder.check_unseen(data, annotations)
    count = knowledge.train.statuses.shape[1]
    statuses = stages.report_statuses(store, studies, knowledge.components, lambda: knowledge.labeler, count)
    features = _seen(knowledge, settings, data, studies, statuses, device, store)
    return controls.given(features, knowledge.seen, studies, settings), studies


def find_split(
    knowledge: Knowledge, settings: Settings, data: DataSettings, split: str
) -> tuple[Features, list[Study]] | None:
    """The same where it was made before, else None."""
    store = FeatureStore(Path(data.features), make=False)
    try:
        return split_features(knowledge, settings, data, split, torch.device("cpu"), store)
    except Missing:
        return None


def image_features(
    knowledge: Knowledge, settings: Settings, images: Sequence[Path], device: torch.device
) -> tuple[Features, list[Study], DataSettings]:
    """Features of images that belong to no data set, in their order; their statuses are blank, their reports empty."""
    if settings.knowledge.imported:
        raise UserError("the model was trained on imported features, whose makers alone can make those of new images")
    studies = [Study(id=str(path), image_path=(str(Path(path).resolve()),), report="") for path in images]
    statuses = np.zeros((len(studies), knowledge.train.statuses.shape[1]), dtype=np.uint8)
    with tempfile.TemporaryDirectory(prefix="revtaf-") as place:
        data = settings.data.model_copy(update={"images": Path(place), "features": Path(place), "packed": False})
        features = _seen(knowledge, settings, data, studies, statuses, device, FeatureStore(Path(place), told=False))
        made = {name: getattr(features, name) for name in ("scores", "codes", "memory", "image_vectors")}
        arrays = {name: np.array(array) for name, array in made.items() if array is not None}  # off the disk
    return replace(features, **arrays), studies, data


def _seen(
    knowledge: Knowledge,
    settings: Settings,
    data: DataSettings,
    studies: list[Study],
    statuses: np.ndarray,
    device: torch.device,
    store: FeatureStore,
) -> Features:
    """What the experts see in the images of `studies`, and the classifier's memory of each."""
    components, train, texts = knowledge.components, knowledge.seen, knowledge.texts
    patients = [s.patient for s in studies]
    if settings.reads_entities:
        identity = components.identity["entities"] if components.medklip else ["fitted", knowledge.scorer_mark]
        scores = stages.model_scores(store, studies, data, lambda: knowledge.entities, identity, device)
    else:
        scores = stages.no_scores(len(studies))
    pair = _pair(settings)
    queries = pair[1](store, studies, data, components) if pair else None
    vectors = stages.medfuse_images(store, studies, data, components) if settings.retrieves_by_medfuse else None
    memory = np.zeros((len(studies), 0), np.int32)
    if k := train.memory.shape[1]:
        memory = _memory(store, queries, scores["scores"], patients, train.scores, texts, train.patients, k, device)
    return Features([s.id for s in studies], patients, statuses, scores["scores"], scores["codes"], memory, vectors)


def _memory(
    store: FeatureStore,
    pair_queries: np.ndarray | None,
    scores: np.ndarray,
    patients: list[str],
    train_scores: np.ndarray,
    texts: TextTables,
    train_patients: list[str],
    size: int,
    device: torch.device,
) -> np.ndarray:
    """The classifier's memory (N, K_m) of images, by the pair of encoders of `pair_queries`, else by entity scores."""
    queries, metric = (scores, "euclidean") if pair_queries is None else (pair_queries, "cosine")
    space = _memory_space(pair_queries, train_scores, texts, train_patients)
    return stages.memory_rows(store, queries, patients, *space, train_patients, metric, size, device)


def _memory_space(pair_queries, train_scores: np.ndarray, texts: TextTables, patients: list[str]):
    """What the memory is searched in: vectors (M, D), and the training rows (M,) that they stand for.

    Of a pair's reports, one of a kind for each patient, however many images show it.
    """
    if pair_queries is None:
        return train_scores, np.arange(len(train_scores), dtype=np.int32)
    first: dict[tuple[str, int], int] = {}
    for row, pair in enumerate(zip(patients, texts.report_ids.tolist(), strict=True)):
        first.setdefault(pair, row)
    rows = np.array(sorted(first.values()), dtype=np.int32)
    return texts.reports[texts.report_ids[rows]], rows


def make_labeler(settings: RunSettings, device: torch.device) -> Labeler | None:
    """The report labeler of a configuration, without its features; None where nobody reads the reports."""
    remembered = Path(settings.training_data.features) / "labels.sqlite"
    return _labeler(Components(settings.knowledge, device), remembered)


def _labeler(components: Components, remembered: Path) -> Labeler | None:
    """Remembers what it labelled, where labelling takes a network."""
    if not components.settings.reads_reports:
        return None
    return CachedLabeler(components.labeler, remembered) if components.chexbert else components.labeler


def imported_key(folder: Path) -> str:
    """What imported training features are known by: their bytes."""
    return f"imported-{fingerprint(folder / 'train', folder / 'texts')}"


def no_encoder() -> TextEncoder:
    """UserError: of imported features."""
    raise UserError(
        "knowledge.imported: imported texts are vectors, and what made them did not come with them; "
        "generation.retrieved=own has to embed the tested reports, so it needs features made here"
    )


def _imported(studies: list[Study], components: Components, folder: Path, remembered: Path) -> Knowledge:
    train, texts = imported.load_training(folder, studies)
    key = imported_key(folder)
    mark = key.removeprefix("imported-")
    names = ("entity scores", "text embeddings", "classifier memory", "training statuses")
    return Knowledge(
        components=components,
        scorer=None,
        scorer_mark="",
        train=train,
        texts=texts,
        triplets=None,
        studies=studies,
        remembered=remembered,
        key=key,
        fingerprint=mark,
        trunk_fingerprint=mark,
        notes=components.notes | {name: f"imported from {folder}" for name in names},
        find_encoder=no_encoder,
    )
