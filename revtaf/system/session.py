"""REVTAF as a system of the engine: its parts, its losses and their weights, its validation, what a folder keeps."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from revtaf.config import DataSettings
from revtaf.data.annotations import Study, clean_reports
from revtaf.data.text import clean_for
from revtaf.engine.optim import adamw
from revtaf.engine.system import System, Written
from revtaf.errors import UserError
from revtaf.eval.protocol import protocol_of
from revtaf.features.arrays import Features
from revtaf.features.build import Knowledge, split_features
from revtaf.features.packed import packed_images
from revtaf.features.stages import further_reports
from revtaf.generate.asked import Asked
from revtaf.generate.result import ImageReport
from revtaf.lre.fit import fit
from revtaf.lre.hnn import to_space
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.retrieved import TrainingRetrieved
from revtaf.model import REVTAF, TOLD, Prompts, Recombined, likeliest, loss_weights
from revtaf.prompts.bank import PromptBank
from revtaf.rng import generator
from revtaf.settings import GenerationSettings, Settings
from revtaf.system.choose import Consensus, with_told
from revtaf.system.dataset import Batch, ReportDataset, replaced
from revtaf.system.folder import THRESHOLDS, TOKENIZER, write_parts
from revtaf.system.recombine import Recombiner
from revtaf.system.thresholds import Thresholds, fit_thresholds
from revtaf.system.trunk import Trunk, cached_patches, fit_trunk
from revtaf.system.write import embed_all, predict_probabilities
from revtaf.tokenizer import ReportTokenizer

log = logging.getLogger("revtaf")


@dataclass
class Session(System):
    """The parts of a run (`revtaf.engine.system.System`). `notes` says where knowledge and weights came from."""

    settings: Settings
    accelerator: Accelerator
    knowledge: Knowledge
    tokenizer: ReportTokenizer
    model: REVTAF
    bank: PromptBank
    notes: dict[str, str] = field(default_factory=dict)
    points: Tensor | None = None  # the training set in the retrieval space (N, D), where it no longer changes
    trunk: Trunk | None = None  # in training by stages
    fitted_lre: Tensor | None = None  # (2,) rank loss at first and at last, where LRE was trained by itself
    # P(status) (S, 4, K) and true statuses (S, K) of patients held out of training (classifier.calibration=holdout),
    # set once the classifier no longer changes.
    held_out: tuple[Tensor, Tensor] | None = None
    kept_thresholds: Thresholds | None = None  # of an opened model
    opened_index: RetrievalIndex | None = None  # of `points`, made when it is first asked for

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.accelerator.device

    @property
    def categories(self) -> int:
        """How many categories have a status: 14 or 18; 0 without labels."""
        return self.knowledge.train.statuses.shape[1]

    @property
    def plain_model(self) -> REVTAF:
        """The model without the engine's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    def prompts(self, batch: Batch, retrieved: Tensor, bank: PromptBank | None = None) -> Prompts:
        """Texts of a batch: memory, local prompts, and the sentences of the reports in rows `retrieved` (B,) of `bank`,
        by default the training reports."""
        text, mask = (None, None)
        if self.plain_model.retrieves:
            text, mask = (bank or self.bank).retrieved(retrieved)
        return Prompts(self.memory(batch), self.bank.local(batch.codes), text, mask, batch.scores)

    def memory(self, batch: Batch) -> Tensor | None:
        """The classifier's reports of a batch (B, K_m, V), where it has a memory."""
        return self.bank.memory(batch.memory) if self.settings.classifier.memory else None

    def bank_with(self, studies: list[Study]) -> PromptBank:
        """The training reports, and behind them those of `studies`: for the control that gives samples their own."""
        data = self.settings.training_data
        reports = clean_reports(studies, data.max_words, data.language)
        texts = further_reports(self.knowledge.texts, reports, self.knowledge.text_encoder)
        return PromptBank(texts, self.settings.lre.max_sentences, self.device)

    def bank_of(self, report: str) -> PromptBank:
        """One report alone, in row 0: what a user gives in the place of a retrieved one. UserError without a sentence,
        or where the folder lacks what knows its words."""
        data = self.settings.training_data
        cleaned = clean_for(data.language, report, data.max_words)
        texts = self.knowledge.texts
        none = replace(
            texts,
            report_ids=texts.report_ids[:0],
            offsets=texts.offsets[:1],
            sentence_ids=texts.sentence_ids[:0],
            sentences=texts.sentences[:0],
            reports=texts.reports[:0],
        )
        found = further_reports(none, [cleaned], self.knowledge.text_encoder)
        return PromptBank(found, self.settings.lre.max_sentences, self.device)

    def index(self) -> RetrievalIndex:
        """The training set as the model now embeds it."""
        if self.points is None:
            return self._index(embed_all(self.plain_model, self.knowledge.train, self.device))
        if self.opened_index is None:
            self.opened_index = self._index(self.points)
        return self.opened_index

    def _index(self, points: Tensor) -> RetrievalIndex:
        model = self.plain_model
        return RetrievalIndex(points, model.curvature, groups=self.knowledge.train.patients, metric=model.metric)

    @cached_property
    def consensus(self) -> Consensus:
        """What the training reports of such images say, by which candidates are chosen. UserError for a model that
        came without them."""
        train, reports = self.knowledge.train, self.knowledge.reports
        if reports is None:
            raise UserError(
                f"{self.knowledge.kept_reports} is not there: of the candidates the one is taken that is most like the "
                "training reports of such images. Attach them by `revtaf export FOLDER NEW --reports ANNOTATION`, or "
                "set generation.candidates=0, which is another model"
            )
        protocol = protocol_of(self.settings.training_data.language)
        return Consensus(reports, train.statuses, train.patients, protocol, self.settings.seed)

    def evidence(self, positive: np.ndarray, statuses: np.ndarray, told: Collection[int]) -> np.ndarray:
        """Raw P(positive) (B, K) -> by what training reports are weighted: calibrated ones, and the `statuses` (B, K)
        of categories that were told. UserError where there are no thresholds."""
        if not self.categories:
            return positive
        usual = self.consensus.usual
        found = self._known_thresholds("generation.candidates").calibrated(positive, usual)
        return with_told(found, statuses, told, usual)

    @property
    def thresholds(self) -> Thresholds | None:
        """Those of an opened model, or those that the held-out patients give, where they are what is asked for; None
        before there are any."""
        holdout = self.settings.classifier.calibration == "holdout"
        if self.kept_thresholds is None and self.held_out is not None and holdout:
            self.kept_thresholds = fit_thresholds(*self.held_out, source="holdout")
        return self.kept_thresholds

    def fitted_thresholds(self) -> Thresholds | None:
        """Those of the trained model, fitted on what `classifier.calibration` says; None where nothing was held out.
        Called by one process alone."""
        if not self.categories:
            return None
        if self.settings.classifier.calibration == "holdout":
            return self.thresholds
        dataset = self.validation_set
        found = predict_probabilities(self, dataset, list(range(len(dataset))), shared=False)
        return fit_thresholds(found.numpy(), dataset.features.statuses)

    def decider(self, generation: GenerationSettings) -> Callable[[Tensor], Tensor]:
        """P(status) (B, 4, K) -> statuses of the prompt (B, K). UserError where thresholds are asked for and there are
        none."""
        if generation.statuses != "calibrated":
            return likeliest
        found = self._known_thresholds("generation.statuses=calibrated")
        return lambda probabilities: torch.from_numpy(found.decide(probabilities.cpu().numpy())).to(self.device)

    def _known_thresholds(self, wanted: str) -> Thresholds:
        if (found := self.thresholds) is None:
            raise UserError(
                f"{wanted}, but this model has no {THRESHOLDS}: delete the model.json beside its weights and call "
                "`revtaf train` again, which fits them and trains nothing (of patients that were held out, with "
                "classifier.calibration=holdout, in training only); or take generation.statuses=argmax and "
                "generation.candidates=0"
            )
        return found

    # Training

    @property
    def weights(self) -> dict[str, float]:
        """Of the four losses (`revtaf.model.loss_weights`)."""
        weights = loss_weights(self.settings)
        if self.trunk is not None or not self.categories:
            del weights["disease"]  # the classifier is frozen, or there is none
        return weights

    def train_set(self) -> ReportDataset:
        """The training split, with augmentation; behind a frozen trunk its features of the plain images."""
        data, knowledge = self.settings.training_data, self.knowledge
        dataset = self._dataset(knowledge.studies, knowledge.train, data, train=True)
        dataset.patches = None if self.trunk is None else self.trunk.patches
        return dataset

    def evaluation_set(self, data: DataSettings, split: str) -> ReportDataset:
        """A split as it is written for; its features are made where they are missing."""
        with self.accelerator.main_process_first():
            features, studies = split_features(self.knowledge, self.settings, data, split, self.device)
        return self.dataset(studies, features, data)

    @cached_property
    def validation_set(self) -> ReportDataset:
        """The split that chooses the checkpoint."""
        data = self.settings.training_data
        dataset = self.evaluation_set(data, data.validation_split)
        if self.trunk is not None:
            dataset.patches = cached_patches(self, dataset)
        return dataset

    @cached_property
    def tested_set(self) -> ReportDataset:
        """The split that `test` writes for."""
        return self.evaluation_set(self.settings.data, self.settings.data.test_split)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW; the image encoder may have a learning rate of its own."""
        train = self.settings.train
        named = dict(self.model.named_parameters())
        encoder = {name: p for name, p in named.items() if name.startswith("encoder.")}
        others = [p for name, p in named.items() if name not in encoder]
        return [
            adamw({"encoder": (encoder.values(), train.encoder_lr or train.lr), "other": (others, train.lr)}, train)
        ]

    @cached_property
    def training_retrieved(self) -> TrainingRetrieved:
        """Which reports the training samples are given."""
        s, train = self.settings, self.knowledge.train
        nearest = torch.from_numpy(self.knowledge.texts.nearest.astype(np.int64))
        statuses = torch.from_numpy(np.array(train.statuses))
        source = s.lre.grp_source if s.retrieves else None
        learns = s.lre.enabled and not s.lre.steps
        return TrainingRetrieved(
            source, statuses, train.patients, nearest, s.seed, space_learns=learns, dropout=s.lre.grp_dropout
        )

    def prepare_trunk(self) -> None:
        """Fit, or find, what the staged schedule trains first."""
        with self.accelerator.main_process_first():
            self.trunk = fit_trunk(self)
        if (held := self.trunk.held).any():
            statuses = np.asarray(self.knowledge.train.statuses)[held].astype(np.int64)
            self.held_out = torch.from_numpy(self.trunk.probabilities[held]), torch.from_numpy(statuses)
        self.notes["schedule"] = self.trunk.note
        log.info("schedule: %s", self.trunk.note)

    def before_training(self) -> None:
        """Train LRE by itself, where it is not trained with the rest. A continued run has its weights already."""
        lre, net = self.settings.lre, self.plain_model.hnn
        if net is None or not lre.steps:
            return
        train = self.knowledge.train
        inputs = torch.from_numpy(train.retriever_inputs.astype(np.float32)).to(self.device)
        losses = fit(
            [net],
            to_space(inputs, lre.score_space),
            torch.from_numpy(train.statuses.astype(np.int64)).to(self.device),
            seeds=[self.settings.seed],
            steps=lre.steps,
            batch_size=lre.batch_size,
            lr=lre.lr,
            weight_decay=self.settings.train.weight_decay,
            ties=lre.ties,
            temperature=lre.temperature,
        )[0]
        for parameter in net.parameters():  # processes compute the same but for rounding; they go on with one result
            broadcast(parameter.data)
        shown = max(1, lre.steps // 20)
        self.fitted_lre = torch.stack([losses[:shown].mean(), losses[-shown:].mean()]).cpu()
        self._note_lre()

    def _note_lre(self) -> None:
        first, last = self.fitted_lre.tolist()
        lre = self.settings.lre
        others = max(1, min(lre.batch_size, len(self.knowledge.train)) - 1)
        self.notes["LRE"] = (
            f"trained alone, {lre.steps} updates of {lre.batch_size}: rank loss {first:.3f} -> {last:.3f} (first and "
            f"last twentieth; {math.log(others):.3f} at equal distances)"
        )
        log.info("LRE: %s", self.notes["LRE"])

    def start_epoch(self) -> None:
        """Retrieve anew for the training set, where the retriever itself is asked."""
        self.training_retrieved.start_epoch(self.index)

    def losses(self, batch: Batch, draw: int) -> dict[str, Tensor]:
        """The four losses of a batch (`revtaf.model.Losses`)."""
        retrieved = self.training_retrieved.rows(batch.rows.cpu(), draw)
        prompts = self.prompts(batch, retrieved)
        told = self._told(len(batch), draw)
        decide = likeliest if self.thresholds is None else self.decider(self.settings.generation)
        inputs, statuses = batch.retriever_inputs, batch.statuses
        tokens, recombined = self._recombined(batch, draw)
        return self.model(batch.images, inputs, statuses, tokens, prompts, told, decide, recombined)._asdict()

    @cached_property
    def recombiner(self) -> Recombiner | None:
        """What makes the reports of `decoder.recombined`."""
        if not self.settings.decoder.recombined:
            return None
        data = self.settings.training_data
        reports = clean_reports(self.knowledge.studies, data.max_words, data.language)
        reading, remembering = self.knowledge.components.labeler, self.knowledge.labeler  # no made report comes again
        return Recombiner(reports, reading, self.categories, data.max_words, remembering)

    def _recombined(self, batch: Batch, draw: int) -> tuple[Tensor, Recombined | None]:
        """The batch's tokens (B, T) with recombined reports in some rows, and in which: drawn anew at every step,
        repeatably. One that is too long for the decoder is not taken: its end might be what the prompt states."""
        if self.recombiner is None:
            return batch.tokens, None
        numbers = generator(self.settings.seed, "recombined", draw, self.accelerator.process_index)
        chosen = numbers.random(len(batch)) < self.settings.decoder.recombined
        texts, found = self.recombiner.make(batch.rows.cpu().numpy()[chosen].tolist(), numbers)
        reports = [[*ids, self.tokenizer.end] for ids in self.tokenizer.encode(texts)]
        fits = np.array([len(ids) <= self.settings.decoder.max_tokens for ids in reports], dtype=bool)
        chosen[np.flatnonzero(chosen)[~fits]] = False
        statuses = batch.statuses.clone()
        rows = torch.from_numpy(chosen).to(self.device)
        statuses[rows] = torch.from_numpy(found[fits].astype(np.int64)).to(self.device)
        kept = [ids for ids, whole in zip(reports, fits, strict=True) if whole]
        return replaced(batch.tokens, chosen, kept, self.tokenizer.pad), Recombined(rows, statuses)

    def _told(self, count: int, draw: int) -> Tensor | None:
        """(count,): what each prompt says, drawn anew at every step, repeatably; None where all say the truth."""
        source, dropout = self.settings.train.statuses, self.settings.decoder.prompt_dropout
        if source == "truth" and not dropout:
            return None
        numbers = generator(self.settings.seed, "prompt", draw, self.accelerator.process_index).random((2, count))
        predicted = {"truth": 0.0, "predicted": 1.0, "mixed": 0.5}[source]
        told = np.where(numbers[0] < predicted, TOLD.index("predicted"), TOLD.index("truth"))
        told = np.where(numbers[1] < dropout, TOLD.index("nothing"), told)
        return torch.from_numpy(told).to(self.device)

    def validate(self, write: bool) -> dict[str, Any]:
        """See `revtaf.system.evaluate`."""
        from revtaf.system.evaluate import validate

        return validate(self, self.validation_set, write)

    def state(self) -> dict[str, Tensor]:
        """The reports that this epoch began with, where the retriever found them; how LRE alone was trained."""
        chosen = self.training_retrieved
        state = {"retrieved": chosen.table} if chosen.source == "learned" and chosen.table is not None else {}
        return state if self.fitted_lre is None else state | {"lre": self.fitted_lre}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """A continued epoch goes on with the reports that it began with."""
        if self.training_retrieved.source == "learned":
            self.training_retrieved.table = state["retrieved"]  # KeyError: another version's state
        if self.plain_model.hnn is not None and self.settings.lre.steps:
            self.fitted_lre = state["lre"]
            self._note_lre()

    # The folder

    def identity(self) -> dict[str, Any]:
        """The features that it was trained on: what they were made of, and their bytes."""
        knowledge = self.knowledge
        identity = {"features": knowledge.key, "fingerprint": knowledge.fingerprint, "categories": self.categories}
        return identity if self.trunk is None else identity | {"trunk": self.trunk.mark}

    def save(self, folder: Path) -> None:
        """The tokenizer."""
        self.tokenizer.save(folder / TOKENIZER)

    def finish(self, folder: Path) -> None:
        """See `revtaf.system.folder`."""
        write_parts(self, folder)

    def external(self) -> dict[str, list[Path]]:
        """The experts' files."""
        components = self.knowledge.components
        asked = {"knowledge.medfuse": components.medfuse_files} if self.settings.reads_medfuse else {}
        return components.files | asked

    # Testing

    def evaluate(self) -> Written:
        """See `revtaf.system.evaluate`."""
        from revtaf.system.evaluate import evaluate

        return evaluate(self)

    def write(self, images: Sequence[Path], **asked: Any) -> list[ImageReport]:
        """See `revtaf.system.single`."""
        from revtaf.system.single import write

        return write(self, images, Asked(**asked))

    def analyse(self, folder: Path) -> list[Path]:
        """See `revtaf.system.analyses`. UserError where nobody labels: they compare by statuses."""
        if (labeler := self.settings.knowledge.labeler) in ("annotation", "none"):
            raise UserError(f"knowledge.labeler={labeler}: the analyses are of what a labeler reads, and there is none")
        from revtaf.system.analyses import analyse

        return analyse(self, folder)

    def dataset(self, studies: list[Study], features: Features, data: DataSettings) -> ReportDataset:
        """Any samples whose features are known, as they are written for."""
        return self._dataset(studies, features, data, train=False)

    def _dataset(self, studies: list[Study], features: Features, data: DataSettings, train: bool) -> ReportDataset:
        reports = clean_reports(studies, data.max_words, data.language)
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


def make_session(
    settings: Settings, accelerator: Accelerator, knowledge: Knowledge, tokenizer: ReportTokenizer
) -> Session:
    """A model of the configured size on its knowledge, with random weights."""
    texts = knowledge.texts
    categories = knowledge.train.statuses.shape[1]
    asked = knowledge.train.retriever_inputs.shape[1]
    model = REVTAF(settings, categories, tokenizer, texts.triplets.shape[1], texts.memory_width, asked)
    bank = PromptBank(texts, settings.lre.max_sentences, accelerator.device)
    return Session(settings, accelerator, knowledge, tokenizer, model, bank, dict(knowledge.notes))
