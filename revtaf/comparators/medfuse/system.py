"""MedFuse-CLIP as a system of the engine (`revtaf.engine.system.System`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from revtaf.comparators.medfuse.data import PairBatch, PairDataset, StudyImages
from revtaf.comparators.medfuse.negatives import HardNegatives, check_negatives, hard_negatives, no_negatives
from revtaf.comparators.medfuse.objective import contrast, margin_loss
from revtaf.comparators.medfuse.settings import MedFuseSettings
from revtaf.comparators.medfuse.single import POINTS, REPORTS, holds_reports, kept
from revtaf.comparators.medfuse.text import SentenceTokens, TextTokens, report_text
from revtaf.comparators.medfuse.towers import DualEncoder
from revtaf.config import DataSettings
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import read_image
from revtaf.data.unreadable import readable
from revtaf.engine.optim import adamw
from revtaf.engine.runtime import write_jsonl
from revtaf.engine.system import System
from revtaf.eval.rankings import Rankings
from revtaf.features import stages
from revtaf.features.build import make_labeler, select
from revtaf.features.packed import packed_images
from revtaf.features.store import FeatureStore
from revtaf.files import atomic_write, digest
from revtaf.generate.asked import Asked
from revtaf.generate.result import ImageReport
from revtaf.knowledge.components import Components
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.labels import CHEXPERT_CATEGORIES

log = logging.getLogger("revtaf")
AT_ONCE = 64  # images or texts that are encoded together
TFIDF_WIDTH = 512


@dataclass
class MedFuse(System):
    """The parts of a run. notes: where weights and negatives came from."""

    settings: MedFuseSettings
    accelerator: Accelerator
    tokens: TextTokens
    model: DualEncoder
    notes: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None  # of an opened model
    _said_cut: bool = False

    @property
    def plain(self) -> DualEncoder:
        """The model without the engine's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    @cached_property
    def components(self) -> Components:
        """Labeler, entity scores and text encoder, as `knowledge` says."""
        return Components(self.settings.knowledge, self.accelerator.device)

    # Data

    def studies(self, data: DataSettings, split: str) -> list[Study]:
        """Those of a split, by the annotation's or by our own (`pairs.split`)."""
        return select(self.settings.splits(load_annotations(data.annotation)), split, data)

    def texts(self, studies: Sequence[Study]) -> list[str]:
        """What the text encoder reads of each."""
        return [report_text(study, self.settings.text.sections) for study in studies]

    def statuses(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """(N, 14 or 18) uint8: the annotation's, or the report labeler's."""
        store = FeatureStore(Path(data.features))

        def labeler():
            return make_labeler(self.settings, self.accelerator.device)

        with self.accelerator.main_process_first():
            return stages.report_statuses(store, studies, self.components, labeler)

    def truncation(self, texts: Sequence[str]) -> str:
        """See `System.truncation`."""
        share, context = self.tokens.truncated(texts), self.tokens.context
        return f"{100 * share:.1f} % of the texts exceed {context} tokens and are cut."

    def tfidf(self, texts: Sequence[str]) -> np.ndarray:
        """(N, W) float32 of length 1, by words of these very texts."""
        return TfidfEncoder(min(TFIDF_WIDTH, len(texts))).fit(texts, seed=self.settings.seed).encode(texts)

    # Training

    @cached_property
    def training(self) -> tuple[list[Study], list[str]]:
        """The training studies and their texts."""
        data = self.settings.training_data
        studies = readable(self.studies(data, "train"), data)
        return studies, self.texts(studies)

    @cached_property
    def training_points(self) -> np.ndarray:
        """(N, D) of length 1 of the training texts: as the finished run kept them, where its reports are these."""
        studies, texts = self.training
        if holds_reports(self.folder):
            reports, points = kept(self.folder)
            if [(r["id"], r["report"]) for r in reports] == [(study.id, study.report) for study in studies]:
                return points
        return self.encode_texts(texts)

    @cached_property
    def hard(self) -> HardNegatives:
        """Of the training samples. UserError where they are asked for and cannot be."""
        settings, (studies, texts) = self.settings, self.training
        options = settings.negatives
        if not options.hard:
            return no_negatives(len(studies))
        check_negatives(settings, studies)
        labels = self.statuses(studies, settings.training_data)[:, : len(CHEXPERT_CATEGORIES)]
        if self.components.clinical_bert:
            embed = self.components.text.encode
        else:
            encoder = TfidfEncoder(TFIDF_WIDTH).fit(texts, seed=settings.seed)
            embed = encoder.encode
        tau = options.weight_tau if options.weighted else None
        return hard_negatives(studies, texts, labels, embed, options.k, options.min_label_hamming, tau)

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses (Eq. 11)."""
        margin = self.settings.objective.margin_weight
        return {"nce": 1.0, **({"margin": margin} if margin else {})}

    def train_set(self) -> PairDataset:
        """The training pairs."""
        settings, (studies, texts) = self.settings, self.training
        reader = self._reader(studies, settings.training_data)
        tokens = SentenceTokens(self.tokens, texts, settings.text)
        return PairDataset(studies, texts, reader, tokens, self.hard, self.plain, settings.seed)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW over both encoders and the temperature."""
        train = self.settings.train
        return [adamw({"both encoders": (self.model.parameters(), train.lr)}, train)]

    def losses(self, batch: PairBatch, draw: int) -> dict[str, Tensor]:
        """nce, and the margin where it has a weight."""
        options = self.settings.objective
        images, texts, scale = self.model(batch.images, batch.tokens)
        own, hard = texts[: len(images)], texts[batch.negatives]
        same = batch.texts[:, None] == batch.texts[None] if self.settings.negatives.mask_same_text else None
        negatives = (hard, batch.mask, batch.weights)
        found = {"nce": contrast(images, own, scale, *negatives, same, options.reduction)}
        if options.margin_weight:
            found["margin"] = margin_loss(images, own, *negatives, options.margin, options.margin_over)
        return found

    @cached_property
    def validation_studies(self) -> list[Study]:
        """The split that chooses the checkpoint."""
        data = self.settings.training_data
        return self.studies(data, data.validation_split)

    def validate(self, write: bool) -> dict[str, Any]:
        """See `revtaf.comparators.medfuse.evaluate.validation`."""
        if not write:
            return {}
        from revtaf.comparators.medfuse.evaluate import validation

        found = validation(self, self.validation_studies, self.settings.training_data)
        return found | {"temperature": (-self.plain.log_scale.detach()).exp().item()}

    # The folder

    def identity(self) -> dict[str, Any]:
        """The pairs and their negatives."""
        studies, texts = self.training
        return {
            "pairs": digest([(s.id, s.image_path[0]) for s in studies], texts),
            "negatives": digest(self.hard.rows.tolist(), np.round(self.hard.weights, 4).tolist()),
        }

    def save(self, folder: Path) -> None:
        """The vocabulary, where it was fitted."""
        self.tokens.save(folder)

    def finish(self, folder: Path) -> None:
        """The training reports and their points, so that an image alone finds the nearest (`write`)."""
        studies, texts = self.training
        with atomic_write(folder / POINTS) as partial:
            save_file({"points": self.encode_texts(texts)}, partial)  # the best weights' points, not an earlier epoch's
        write_jsonl(folder / REPORTS, [{"id": study.id, "report": study.report} for study in studies])

    # Testing

    def evaluate(self) -> Rankings:
        """See `revtaf.comparators.medfuse.evaluate`."""
        from revtaf.comparators.medfuse.evaluate import evaluate

        return evaluate(self)

    def write(self, images: Sequence[Path], **asked: Any) -> list[ImageReport]:
        """See `revtaf.comparators.medfuse.single`."""
        from revtaf.comparators.medfuse.single import write

        return write(self, images, Asked(**asked))

    def embed_images(self, images: Sequence[Path]) -> np.ndarray:
        """(N,) images -> (N, D) float32 of length 1, in one space with `embed_texts`."""
        reader = StudyImages(self.settings.image, Path())
        return self._encode_images(lambda row: reader.plain(read_image(images[row])), len(images))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) texts -> (N, D) float32 of length 1, in one space with `embed_images`."""
        texts = [" ".join(text.split()) for text in texts]
        if not self._said_cut and self.tokens.truncated(texts):
            log.warning("texts that exceed %d tokens are cut", self.tokens.context)
            self._said_cut = True
        return self.encode_texts(texts)

    def encode_images(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """(N, D) of length 1 of the studies' images."""
        reader = self._reader(studies, data)
        return self._encode_images(lambda row: reader.plain(reader.read(studies[row], row)), len(studies))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) texts -> (N, D) of length 1; equal texts have the same vector."""
        distinct = list(dict.fromkeys(texts))
        tokens = self.tokens.encode(distinct)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        vectors = np.empty((len(distinct), self.settings.space.width), np.float32)
        for rows in _parts(order):
            vectors[rows] = self._run(
                self.plain.encode_texts, self.plain.padded([tokens[i] for i in rows], self.tokens)
            )
        place = {text: i for i, text in enumerate(distinct)}
        return vectors[[place[text] for text in texts]]

    def _encode_images(self, read, count: int) -> np.ndarray:
        vectors = np.empty((count, self.settings.space.width), np.float32)
        for rows in tqdm(list(_parts(np.arange(count))), desc="images", leave=False, disable=count <= AT_ONCE):
            vectors[rows] = self._run(self.plain.encode_images, torch.stack([read(int(row)) for row in rows]))
        return vectors

    @torch.no_grad()
    def _run(self, encode, batch: Tensor) -> np.ndarray:
        """In full precision, and as at evaluation."""
        training = self.plain.training
        self.plain.eval()
        try:
            return encode(batch.to(self.accelerator.device)).cpu().numpy()
        finally:
            self.plain.train(training)

    def _reader(self, studies: Sequence[Study], data: DataSettings) -> StudyImages:
        packed = None
        if data.packed:
            with self.accelerator.main_process_first():
                packed = packed_images(studies, data, self.settings.image.resize)
        return StudyImages(self.settings.image, data.images, packed)


def _parts(rows: np.ndarray):
    for start in range(0, len(rows), AT_ONCE):
        yield rows[start : start + AT_ONCE]
