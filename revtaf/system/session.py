"""Everything that training and testing share: knowledge, tokenizer, data, model, and who is retrieved."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from revtaf.config import DataSettings, Settings
from revtaf.data.annotations import Study
from revtaf.data.text import clean_report
from revtaf.engine.runtime import seed_everything
from revtaf.errors import UserError
from revtaf.features.arrays import Features
from revtaf.features.build import Knowledge, find_knowledge, prepare_knowledge, split_features
from revtaf.features.packed import packed_images
from revtaf.labels import POSITIVE
from revtaf.model import REVTAF, Prompts
from revtaf.prompts.reference import PromptBank
from revtaf.system.dataset import Batch, ReportDataset
from revtaf.system.initialise import bert_vocabulary, initialise_decoder, initialise_encoder
from revtaf.tokenizer import ReportTokenizer

log = logging.getLogger("revtaf")


@dataclass
class Session:
    """The parts of a run. `notes` says where knowledge and weights came from; it goes into the report."""

    settings: Settings
    accelerator: Accelerator
    knowledge: Knowledge
    tokenizer: ReportTokenizer
    model: REVTAF
    bank: PromptBank
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def categories(self) -> int:
        return self.knowledge.train.statuses.shape[1]

    def prompts(self, batch: Batch, reference_rows: Tensor) -> Prompts:
        """Texts of a batch: memory, local prompts, and the sentences of training reports `reference_rows`."""
        text, mask = (None, None)
        if self.accelerator.unwrap_model(self.model).needs_reference:
            text, mask = self.bank.reference(reference_rows)
        memory = self.bank.memory(batch.memory) if self.settings.classifier.memory else None
        return Prompts(memory, self.bank.local(batch.codes), text, mask)

    def train_set(self) -> ReportDataset:
        data, knowledge = self.settings.training_data, self.knowledge
        return self._dataset(knowledge.studies, knowledge.train, data, train=True)

    def evaluation_set(self, data: DataSettings, split: str) -> ReportDataset:
        with self.accelerator.main_process_first():
            features, studies = split_features(self.knowledge, self.settings, data, split, self.device)
        return self._dataset(studies, features, data, train=False)

    def _dataset(self, studies: list[Study], features: Features, data: DataSettings, train: bool) -> ReportDataset:
        reports = [clean_report(s.report, data.max_words) for s in studies]
        s = self.settings
        packed = None
        if data.packed:
            with self.accelerator.main_process_first():
                packed = packed_images(studies, data, s.encoder.resize)
        return ReportDataset(
            studies,
            features,
            reports,
            self.tokenizer,
            data.images,
            s.encoder,
            s.decoder.max_tokens,
            train,
            s.seed,
            packed,
        )


def open_session(settings: Settings, accelerator: Accelerator, tokenizer: ReportTokenizer | None = None) -> Session:
    """Fit or load the knowledge, then build the model. A given tokenizer (a checkpoint's) is kept as it is,
    and its weights are expected to be loaded next; without one the model starts as configured."""
    fresh = tokenizer is None
    with accelerator.main_process_first():
        prepare = prepare_knowledge if fresh else find_knowledge
        knowledge = prepare(settings, accelerator.device)
    if knowledge is None:  # made anew they would be other features
        raise UserError(
            f"the features that {settings.run} was trained with are not in {settings.training_data.features}: the "
            "folder was deleted, or training data, weights or knowledge settings have changed since; restore them, or "
            "train again"
        )
    # Fitting the knowledge draws random numbers, finding it again does not: the model starts the same.
    seed_everything(settings.seed, accelerator.process_index)
    if tokenizer is None:
        tokenizer = make_tokenizer(settings, knowledge.studies)
    categories = knowledge.train.statuses.shape[1]
    texts = knowledge.texts
    model = REVTAF(settings, categories, tokenizer, texts.triplets.shape[1], texts.memory_width)
    notes = dict(knowledge.notes)
    if fresh:
        notes["image encoder"] = initialise_encoder(model.encoder, settings, knowledge.scorer)
        notes["report decoder"] = initialise_decoder(model.decoder, settings)
        positives = torch.from_numpy((knowledge.train.statuses == POSITIVE).mean(0))
        model.classifier.set_prior(positives)
        for what, source in notes.items():
            log.info("%s: %s", what, source)
    bank = PromptBank(knowledge.texts, settings.lre.max_sentences, accelerator.device)
    return Session(settings, accelerator, knowledge, tokenizer, model, bank, notes)


def make_tokenizer(settings: Settings, studies: list[Study]) -> ReportTokenizer:
    vocabulary = bert_vocabulary(settings)
    if vocabulary != "train":
        return ReportTokenizer.from_vocabulary(vocabulary)
    words = settings.training_data.max_words
    reports = (clean_report(s.report, words) for s in studies)
    return ReportTokenizer.fit(reports, settings.decoder.vocabulary_size)
