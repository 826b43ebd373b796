"""A finished run of MedFuse-CLIP as an expert of another system (`revtaf.knowledge.base.StudyEncoder`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import GradientState

from revtaf.config import DataSettings
from revtaf.config_file import load_settings
from revtaf.data.annotations import Annotations, Study
from revtaf.engine.checkpoint import SETTINGS
from revtaf.engine.folder import MANIFEST, find_model, model_identity, open_model
from revtaf.errors import UserError
from revtaf.files import read_json, sha256

if TYPE_CHECKING:
    from revtaf.comparators.medfuse.settings import MedFuseSettings
    from revtaf.comparators.medfuse.system import MedFuse

SYSTEM_NAME = "medfuse"


class MedFuseExpert:
    """The model of a run's folder, known by its manifest; opened when something is to be encoded."""

    def __init__(self, folder: Path, device: torch.device):
        """UserError where the folder is no finished run of this system."""
        self.folder, self.device = find_model(folder), device
        model = model_identity(self.folder)
        if model["system"] != SYSTEM_NAME:
            raise UserError(f"{folder} is a model of system '{model['system']}', not '{SYSTEM_NAME}'")
        self.identity: str = model["digest"]
        self.files = [self.folder / MANIFEST]
        self.settings: MedFuseSettings = load_settings(self.folder / SETTINGS, [f"device={device.type}"], bases=False)

    @property
    def source(self) -> str:
        """Which model, for a run's report."""
        of, split = self.settings.training_data.name, self.settings.pairs.split
        return f"{self.folder}, digest {self.identity[:12]}, trained on {of} (split: {split}), not cross-fitted"

    @cached_property
    def system(self) -> MedFuse:
        """The model itself, on the device and in the process of the run that asks."""
        # Of a process, accelerate has one state: a second accelerator with other steps would change the first one's.
        accelerator = Accelerator(cpu=self.device.type == "cpu", gradient_accumulation_steps=GradientState().num_steps)
        return open_model(self.folder, accelerator, self.settings)

    def check_unseen(self, data: DataSettings, annotations: Annotations) -> None:
        """UserError where it was trained on patients of the validation or test split of `annotations`, or where
        nobody can tell: on the same set by another annotation. Another set's model has seen none of them."""
        if sha256(data.annotation) != read_json(self.folder / MANIFEST, "model").get("annotation"):
            if data.name == self.settings.training_data.name:
                raise UserError(
                    f"knowledge.medfuse: {self.folder} was trained on another annotation of {data.name} than "
                    f"{data.annotation}, so that its training studies are not known; train it on this one"
                )
            return
        if self.settings.pairs.split == "official":
            return
        mine = self.settings.splits(annotations)["train"]
        patients = {study.patient for study in mine}
        held_out = [study for split in ("val", "test") for study in annotations.get(split, [])]
        if seen := [study.id for study in held_out if study.patient in patients]:
            raise UserError(
                f"knowledge.medfuse: {self.folder} was trained on the patients of {len(seen):,} of {len(held_out):,} "
                f"validation and test studies of {data.annotation}, such as {seen[0]}; train it with "
                "pairs.split=official"
            )

    def encode_images(self, studies: Sequence[Study], data: DataSettings) -> np.ndarray:
        """(N, D) of length 1, of the files."""
        return self.system.embed_images([Path(data.images) / study.image_path[0] for study in studies])

    def encode_reports(self, studies: Sequence[Study]) -> np.ndarray:
        """(N, D) of length 1, of the sections that it was trained on."""
        return self.system.encode_texts(self.system.texts(studies))
