"""Stage 1 (section 2.1, Eq. 1): an image and a random sentence of its report, in one space, as a system of the engine.

    L = -mean_i [ log softmax_j(t_i v_j / tau)_i + log softmax_j(v_i t_j / tau)_i ]

DIFFERS: Eq. 1 as printed is the loss of one pair, without sum and without a definition of v'; it is read as CLIP's, and
`objective.reduction=mean` halves it as open_clip does. Boiler-plate sentences repeat, so that a batch holds many that
are word for word the anchor's own; they are no negatives (`objective.dedupe_negatives`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from markupsafe import Markup
from torch import Tensor
from torch.utils.data import Dataset

from revtaf.comparators.medfuse import zero_shot
from revtaf.comparators.medfuse.data import StudyImages
from revtaf.comparators.medfuse.objective import contrast
from revtaf.comparators.trrg.clues import ClueBank, read_bank, texts_of
from revtaf.comparators.trrg.encoders import AlignedEncoders, SentenceWords, encode_clues
from revtaf.comparators.trrg.settings import Stage1Settings
from revtaf.config import DataSettings
from revtaf.data.annotations import Study, clean_reports, load_annotations
from revtaf.data.images import read_image
from revtaf.data.text import sentences
from revtaf.data.unreadable import readable
from revtaf.engine.optim import adamw
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.eval.metric import Metric
from revtaf.eval.rankings import Rankings
from revtaf.features import stages
from revtaf.features.build import make_labeler, select
from revtaf.features.packed import packed_images
from revtaf.features.store import FeatureStore
from revtaf.files import digest
from revtaf.knowledge.components import Components
from revtaf.labels import CHEXPERT_CATEGORIES, POSITIVE, UNCERTAIN
from revtaf.pages.parts import number
from revtaf.pages.section import PageSection
from revtaf.rng import generator

log = logging.getLogger("revtaf")
AT_ONCE = 64  # images or texts that are encoded together
TOKENIZER, BANK = "tokenizer.json", "clues.yaml"  # in a model's folder


@dataclass
class SentenceBatch:
    """B images, each with one sentence."""

    rows: Tensor  # (B,) long
    images: Tensor  # (B, 3, S, S) float32
    tokens: Tensor  # (B, T) long
    mask: Tensor  # (B, T) bool
    texts: Tensor  # (B,) long: equal where the sentences are

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SentenceBatch:
        """The same batch with every tensor on the device, called by accelerate, too."""
        return SentenceBatch(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))

    def pin_memory(self) -> SentenceBatch:
        """The same batch in page-locked memory, called by the loader where there is CUDA."""
        return SentenceBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    def __len__(self) -> int:
        return len(self.rows)


class SentenceDataset(Dataset):
    """Training studies with the sentences of their reports. What a sample draws depends on (seed, epoch, row) alone."""

    lengths = None

    def __init__(
        self, studies: Sequence[Study], reports: Sequence[str], reader: StudyImages, words: SentenceWords, seed: int
    ):
        """reports: cleaned. Studies whose report has no sentence are left out."""
        split = [sentences(report) for report in reports]
        self.kept = [row for row, found in enumerate(split) if found]
        self.sentences = [split[row] for row in self.kept]
        self.studies, self.ids = [studies[row] for row in self.kept], [studies[row].id for row in self.kept]
        self.reader, self.words, self.seed = reader, words, seed
        distinct = list(dict.fromkeys(s for found in self.sentences for s in found))
        self.text_ids = {sentence: i for i, sentence in enumerate(distinct)}

    def __len__(self) -> int:
        return len(self.studies)

    def sentence(self, epoch: int, row: int) -> str:
        """T_r of a row in an epoch."""
        found = self.sentences[row]
        return found[int(generator(self.seed, "sentence", epoch, row).integers(len(found)))]

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int, Tensor]:
        """(epoch, row) -> epoch, row and the image."""
        epoch, row = key
        draw = np.random.default_rng((self.seed, epoch, row))
        return epoch, row, self.reader.varied(self.reader.read(self.studies[row], self.kept[row]), draw)

    def collate(self, samples: list[tuple[int, int, Tensor]]) -> SentenceBatch:
        """Samples of one epoch -> a batch."""
        chosen = [self.sentence(epoch, row) for epoch, row, _ in samples]
        tokens, mask = self.words.padded(self.words.encode(chosen))
        return SentenceBatch(
            rows=torch.tensor([row for _, row, _ in samples]),
            images=torch.stack([image for _, _, image in samples]),
            tokens=tokens,
            mask=mask,
            texts=torch.tensor([self.text_ids[sentence] for sentence in chosen]),
        )


@dataclass
class Stage1(System):
    """The parts of a run. notes: where weights came from."""

    settings: Stage1Settings
    accelerator: Accelerator
    words: SentenceWords
    model: AlignedEncoders
    bank: ClueBank
    notes: dict[str, str] = field(default_factory=dict)
    weights = {"contrast": 1.0}

    @property
    def plain(self) -> AlignedEncoders:
        """The model without the engine's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    @cached_property
    def components(self) -> Components:
        """The report labeler."""
        return Components(self.settings.knowledge, self.accelerator.device)

    @cached_property
    def training(self) -> tuple[list[Study], list[str]]:
        """The training studies and their cleaned reports."""
        data = self.settings.training_data
        studies = readable(select(load_annotations(data.annotation), "train", data), data)
        return studies, clean_reports(studies, data.max_words, data.language)

    def train_set(self) -> SentenceDataset:
        """The training studies, with augmentation."""
        studies, reports = self.training
        reader = self.reader(studies, self.settings.training_data)
        return SentenceDataset(studies, reports, reader, self.words, self.settings.seed)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW over both encoders and the temperature."""
        train = self.settings.train
        return [adamw({"both encoders": (self.model.parameters(), train.lr)}, train)]

    def losses(self, batch: SentenceBatch, draw: int) -> dict[str, Tensor]:
        """Eq. 1."""
        options = self.settings.objective
        images, texts, scale = self.model(batch.images, batch.tokens, batch.mask)
        same = batch.texts[:, None] == batch.texts[None] if options.dedupe_negatives else None
        none = images.new_zeros(len(images), 0)  # no hard negatives
        found = contrast(images, texts, scale, images[:, None][:, :0], none.bool(), none, same, options.reduction)
        return {"contrast": found}

    def validate(self, write: bool) -> dict[str, Any]:
        """Zero-shot AUROC of the clues, which chooses the epoch."""
        data = self.settings.training_data
        studies = select(load_annotations(data.annotation), data.validation_split, data)
        values = self.clue_scores(studies, data)
        found = zero_shot.auroc("auroc", values, self.statuses(studies, data))
        auroc = 0.5 if found is None else found.corpus
        return {"score": auroc, "tie": 0.0, "zero_shot_auroc": auroc, "temperature": self.plain.temperature}

    # The folder

    def identity(self) -> dict[str, Any]:
        """Images and reports, and the clues, which choose the epoch."""
        studies, reports = self.training
        return {
            "pairs": digest([(s.id, s.image_path[0]) for s in studies], reports),
            "clues": digest([(clue.name, clue.wordings) for clue in self.bank]),
        }

    def save(self, folder: Path) -> None:
        """The vocabulary, and the bank as it was."""
        self.words.tokenizer.save(folder / TOKENIZER)
        (folder / BANK).write_text(self.bank.text, encoding="utf-8", newline="")

    def finish(self, folder: Path) -> None:
        """Nothing else is needed."""

    # Testing

    def evaluate(self) -> Rankings:
        """Zero-shot AUROC of the clues on the tested split, by category."""
        data = self.settings.data
        studies = select(load_annotations(data.annotation), data.test_split, data)
        values, statuses = self.clue_scores(studies, data), self.statuses(studies, data)
        found = zero_shot.auroc("zero_shot_auroc", values, statuses)
        if found is None:
            raise UserError(f"{data.annotation}: no category is positive of some and negative of others in the split")
        drawn = generator(self.settings.seed, "random clues").random(values.shape)
        return Rankings(
            ids=[s.id for s in studies],
            rows={
                "TRRG, stage 1": {"zero_shot_auroc": found},
                "random scores": {"zero_shot_auroc": zero_shot.auroc("zero_shot_auroc", drawn, statuses)},
            },
            ranked=f"zero-shot-clues,{len(studies)}",
            subjects=[s.subject_id for s in studies],
            studies=[s.study_id for s in studies],
            headings={"zero_shot_auroc": "zero-shot AUROC"},
            notes=("Cosine of an image and the clue of a category; uncertain statuses are left out.",),
            sections=[_by_category(values, statuses)],
        )

    def embed_images(self, images: Sequence[Path]) -> np.ndarray:
        """Image files as points of one space with texts: (N, D) float32 of unit length."""
        reader = StudyImages(self.settings.image, Path())
        return encode_images(self.plain, lambda row: reader.plain(read_image(images[row])), len(images), self.device)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts as points of one space with images: (N, D) float32 of unit length."""
        found = [np.zeros((0, self.settings.space.width), np.float32)]
        for part in parts(len(texts)):
            clues = encode_clues(self.plain, self.words, texts[part], range(len(texts[part])), self.device)
            found.append(clues.cls.float().cpu().numpy())
        return np.concatenate(found)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.accelerator.device

    def clue_scores(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """(N, 14): how near each image is to the clue of each category; of a category without one, 0 for all."""
        texts, owner = texts_of(self.bank, self.settings.clue.prefix, self.settings.clue.expanded)
        clues = encode_clues(self.plain, self.words, texts, owner, self.device)
        reader = self.reader(studies, data)
        images = encode_images(
            self.plain, lambda row: reader.plain(reader.read(studies[row], row)), len(studies), self.device
        )
        found, _ = clues.scores(torch.from_numpy(images).to(self.device))
        values = np.zeros((len(studies), len(CHEXPERT_CATEGORIES)))
        values[:, [clue.category for clue in self.bank]] = found.cpu().numpy()
        return values

    def statuses(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """(N, 14 or 18) uint8: the annotation's, or the report labeler's."""
        return split_statuses(self, studies, data)

    def reader(self, studies: Sequence[Study], data: DataSettings) -> StudyImages:
        """Their images as the encoder sees them."""
        return image_reader(self, self.settings, studies, data)


def read_kept_bank(folder: Path) -> ClueBank:
    """The bank of a model's folder."""
    return read_bank(folder / BANK)


def split_statuses(system: Any, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
    """(N, 14 or 18) uint8 of studies, for a system with `components`: found, or made once."""
    store = FeatureStore(Path(data.features))
    with system.accelerator.main_process_first():
        return stages.report_statuses(
            store, studies, system.components, lambda: make_labeler(system.settings, system.accelerator.device)
        )


def image_reader(system: Any, stage1: Stage1Settings, studies: Sequence[Study], data: DataSettings) -> StudyImages:
    """Studies' images in the geometry of stage 1."""
    packed = None
    if data.packed:
        with system.accelerator.main_process_first():
            packed = packed_images(studies, data, stage1.image.resize)
    return StudyImages(stage1.image, data.images, packed)


@torch.no_grad()
def encode_images(encoders: AlignedEncoders, read: Any, count: int, device: torch.device) -> np.ndarray:
    """v_cls (count, d) of images that `read(row)` gives, in full precision; training goes on as it was."""
    training, found = encoders.training, [np.zeros((0, encoders.of_visual.out_features), np.float32)]
    encoders.eval()
    try:
        for part in parts(count):
            images = torch.stack([read(row) for row in range(part.start, part.stop)]).to(device)
            found.append(encoders.image_vector(encoders.image_tokens(images)).cpu().numpy())
    finally:
        encoders.train(training)
    return np.concatenate(found)


def parts(count: int) -> Iterator[slice]:
    """Rows that are encoded together."""
    for start in range(0, count, AT_ONCE):
        yield slice(start, min(start + AT_ONCE, count))


def _by_category(values: np.ndarray, statuses: np.ndarray) -> PageSection:
    lines = []
    for category in zero_shot.defined(statuses):
        only = np.full_like(statuses[:, : len(CHEXPERT_CATEGORIES)], UNCERTAIN)
        only[:, category] = statuses[:, category]
        found: Metric | None = zero_shot.auroc("auroc", values, only)
        count = int((statuses[:, category] == POSITIVE).sum())
        row = (CHEXPERT_CATEGORIES[category], count, number(found.corpus))
        lines.append(Markup("<tr><td>{}</td><td>{}</td><td>{}</td></tr>").format(*row))
    head = Markup("<tr><th></th><th>positive</th><th>AUROC</th></tr>")
    return PageSection("Zero-shot AUROC of the clues", Markup("<table>{}{}</table>").format(head, Markup().join(lines)))
