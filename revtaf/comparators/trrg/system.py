"""TRRG's stage 2 as a system of the engine (`revtaf.engine.system.System`)."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from revtaf.comparators.trrg.clues import NEVER, ClueBank
from revtaf.comparators.trrg.data import ClueDataset, Instruction
from revtaf.comparators.trrg.fit import FOLDER, ended
from revtaf.comparators.trrg.given import given_clues, stated
from revtaf.comparators.trrg.network import ClueBatch, ClueInjector
from revtaf.comparators.trrg.settings import Stage1Settings, TRRGSettings
from revtaf.comparators.trrg.stage1 import BANK, TOKENIZER, image_reader, parts, split_statuses
from revtaf.comparators.trrg.states import in_words, read_predicted
from revtaf.config import DataSettings
from revtaf.data.annotations import Study, clean_reports, load_annotations
from revtaf.data.unreadable import readable
from revtaf.engine.checkpoint import META, SETTINGS, WEIGHTS
from revtaf.engine.optim import adamw
from revtaf.engine.runtime import write_jsonl
from revtaf.engine.system import System, Written
from revtaf.features.build import make_labeler, select
from revtaf.features.stages import array_hash
from revtaf.files import digest, sha256, write_json
from revtaf.generate.asked import Asked
from revtaf.generate.result import ImageReport
from revtaf.knowledge.base import Labeler
from revtaf.knowledge.components import Components
from revtaf.knowledge.entity_scorer import EntityScorer

log = logging.getLogger("revtaf")
ENCODERS, SCORER, REPORTS, ABOUT = "stage1", "scorer", "reports.jsonl", "trrg.json"  # in a model's folder


@dataclass
class TRRG(System):
    """The parts of a run. stage1: settings of the encoders. scorer: where one chooses the clues.
    kept_reports: the training reports of an opened model."""

    settings: TRRGSettings
    accelerator: Accelerator
    stage1: Stage1Settings
    stage1_folder: Path
    bank: ClueBank
    model: ClueInjector
    language_folder: Path | None  # of the small one that was fitted; None where llm.folder is the model
    clue_texts: list[str]  # of the encoded bank, by row
    notes: dict[str, str] = field(default_factory=dict)
    scorer: EntityScorer | None = None
    scorer_mark: str = ""
    kept_clues: np.ndarray | None = None  # of an opened model: `training_clues`
    kept_patients: list[str] | None = None  # of its training samples; None in a model of an earlier version, too
    kept_reports: list[str] | None = None

    @property
    def plain(self) -> ClueInjector:
        """The model without the engine's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.accelerator.device

    @cached_property
    def components(self) -> Components:
        """Labeler and entity scores, as `knowledge` says."""
        return Components(self.settings.knowledge, self.device)

    @cached_property
    def labeler(self) -> Labeler:
        """Reports -> statuses."""
        return make_labeler(self.settings, self.device)

    # Data

    def statuses(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """(N, 14 or 18) uint8: the annotation's, or the report labeler's."""
        return split_statuses(self, studies, data)

    @cached_property
    def training(self) -> list[Study]:
        """The training studies."""
        data = self.settings.training_data
        return readable(select(load_annotations(data.annotation), "train", data), data)

    @property
    def train_reports(self) -> list[str]:
        """For the rows that look at no image."""
        return [s.report for s in self.training] if self.kept_reports is None else self.kept_reports

    @cached_property
    def training_clues(self) -> np.ndarray:
        """(N, m): what each training report states."""
        if self.kept_clues is not None:
            return self.kept_clues
        return stated(self.bank, self.training_statuses)

    @cached_property
    def training_statuses(self) -> np.ndarray:
        """(N, K) uint8 of the training reports. All processes ask for them first, in `start`: they wait for each other
        in it."""
        return self.statuses(self.training, self.settings.training_data)

    @property
    def training_patients(self) -> list[str] | None:
        """(N,): whose these reports are; None where the model does not know it."""
        return [s.patient for s in self.training] if self.kept_clues is None else self.kept_patients

    def dataset(
        self, studies: Sequence[Study], data: DataSettings, source: str, train: bool = False, alone: bool = False
    ) -> ClueDataset:
        """Any studies with reports. alone: images that no data set knows."""
        settings, language = self.settings, self.plain.language
        reports = clean_reports(list(studies), settings.training_data.max_words)
        clues = given_clues(self, source, studies, data, train)
        dataset = ClueDataset(
            studies,
            image_reader(self, self.stage1, studies, data),
            ended(language, reports, settings.llm.max_tokens),
            Instruction(settings.prompt.template, language),
            [""] * len(studies) if alone else self._states(studies, data, train),
            clues,
            language.pad,
            settings.vision.blind,
        )
        if settings.vision.cached and not alone:
            dataset.kept = self._tokens(dataset)
        return dataset

    def _states(self, studies: Sequence[Study], data: DataSettings, train: bool) -> list[str]:
        """What <statuses> is for each study."""
        wanted = self.settings.prompt
        if wanted.statuses == "none":
            return [""] * len(studies)
        if wanted.statuses == "truth" or train:
            return in_words(self.statuses(studies, data))
        return in_words(read_predicted(wanted.predictions, [study.id for study in studies]))

    @torch.no_grad()
    def _tokens(self, dataset: ClueDataset) -> np.ndarray:
        """(N, n, d) float32: v_e of every image."""
        model = self.plain
        found = []
        for part in tqdm(list(parts(len(dataset))), desc="encoding images", leave=False):
            images = torch.stack([dataset.image(row) for row in range(part.start, part.stop)])
            found.append(model.encode(images.to(self.device)).cpu().numpy())
        return np.concatenate(found)

    # Training

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses (Eq. 5)."""
        return {"lm": 1.0, **({"dc": self.settings.loss.dc} if self.settings.loss.dc else {})}

    def train_set(self) -> ClueDataset:
        """The training split."""
        return self.dataset(self.training, self.settings.training_data, self.settings.clue.source, train=True)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW over what trains: no state is kept for what is frozen."""
        train = self.settings.train
        return [adamw({"trained": (self.model.parameters(), train.lr)}, train)]

    def losses(self, batch: ClueBatch, draw: int) -> dict[str, Tensor]:
        """lm, dc, and the gauge of a collapse beside them."""
        return self.model(batch)

    @cached_property
    def validation_set(self) -> ClueDataset:
        """The split that chooses the checkpoint."""
        data = self.settings.training_data
        studies = select(load_annotations(data.annotation), data.validation_split, data)
        return self.dataset(studies, data, self.settings.clue.source)

    def validate(self, write: bool) -> dict[str, Any]:
        """See `revtaf.comparators.trrg.evaluate`."""
        if not write:
            return {}
        from revtaf.comparators.trrg.evaluate import validate

        return validate(self, self.validation_set)

    # The folder

    def identity(self) -> dict[str, Any]:
        """Encoders, language model, clues and reports."""
        return self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        reports = clean_reports(self.training, self.settings.training_data.max_words)
        found = {
            "pairs": digest([(s.id, s.image_path[0]) for s in self.training], reports),
            "stage 1": sha256(self.stage1_folder / WEIGHTS),
            "language model": self._language_mark(),
            "clues": digest([(clue.name, clue.wordings) for clue in self.bank]),
        }
        if self.settings.clue.source == "scorer":  # no other source looks at the entities
            by_medklip = self.components.medklip and self.scorer is None
            mark = self.components.identity["entities"] if by_medklip else self.scorer_mark
            found["clue scores"] = digest(mark, [clue.entities for clue in self.bank])
        if self.settings.prompt.statuses != "none" or self.settings.clue.source in ("oracle", "random"):
            found["statuses"] = array_hash(self.training_statuses)
        return found

    def _language_mark(self) -> str:
        """Of a small model its bytes; of a large one its files' names and sizes, as its bytes take minutes to read."""
        if self.language_folder is not None:
            return digest([sha256(path) for path in sorted(self.language_folder.glob("*.safetensors"))])
        files = sorted(Path(self.settings.llm.folder).glob("*.safetensors"))
        return digest([(path.name, path.stat().st_size) for path in files])

    def save(self, folder: Path) -> None:
        """The bank as it was."""
        (folder / BANK).write_text(self.bank.text, encoding="utf-8", newline="")

    def finish(self, folder: Path) -> None:
        """The frozen parts that no other file names: encoders, a small language model, a fitted scorer."""
        copy_stage1(self.stage1_folder, folder / ENCODERS)
        if self.language_folder is not None:
            aside = shutil.ignore_patterns("manifest.json", "*.npy")  # of the feature
            shutil.copytree(self.language_folder, folder / FOLDER, ignore=aside, dirs_exist_ok=True)
        if self.scorer is not None:
            (folder / SCORER).mkdir(exist_ok=True)
            self.scorer.save(folder / SCORER)
        clues = [[None if value == NEVER else float(value) for value in row] for row in self.training_clues]
        about = {"scorer_mark": self.scorer_mark, "training_clues": clues, "training_patients": self.training_patients}
        write_json(folder / ABOUT, about, indent=None)
        write_jsonl(folder / REPORTS, [{"id": s.id, "report": s.report} for s in self.training])

    def external(self) -> dict[str, list[Path]]:
        """A language model that lies in a folder of its own."""
        if self.language_folder is not None:
            return {}
        return {"llm.folder": sorted(Path(self.settings.llm.folder).glob("*.safetensors"))}

    # Testing

    def evaluate(self) -> Written:
        """See `revtaf.comparators.trrg.evaluate`."""
        from revtaf.comparators.trrg.evaluate import evaluate

        return evaluate(self)

    def write(self, images: Sequence[Path], **asked: Any) -> list[ImageReport]:
        """See `revtaf.comparators.trrg.evaluate`."""
        from revtaf.comparators.trrg.evaluate import write

        return write(self, images, Asked(**asked))


def copy_stage1(source: Path, folder: Path) -> None:
    """What `read_stage1` reads, so that a model does not depend on the run it began with."""
    folder.mkdir(exist_ok=True)
    for name in (WEIGHTS, SETTINGS, TOKENIZER, META):
        shutil.copyfile(source / name, folder / name)
