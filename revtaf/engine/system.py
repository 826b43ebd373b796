"""What the engine asks of a system: one small protocol, and no knowledge of any.

A package names its `Declaration` in an entry point of the group `revtaf.systems`. `start` gives a `System` that trains,
`open` one from a finished model's folder. The engine knows batches, optimisers, checkpoints and processes; whatever
has a name of its own (sections of the settings, losses, modules, retrieval) stays with the system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from revtaf.config import RunSettings
from revtaf.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator

    from revtaf.check_line import CheckLine
    from revtaf.data.annotations import Study
    from revtaf.data.blocks import Shard
    from revtaf.eval.advanced import AdvancedSources
    from revtaf.eval.rankings import Rankings
    from revtaf.generate.result import ImageReport
    from revtaf.knowledge.base import Labeler, StudyEncoder
    from revtaf.pretrained.needed import Needed


class Declaration(Protocol):
    """What an entry point names. Importing it loads no model code, so that settings are read quickly."""

    settings: type[RunSettings]
    title: str  # of its row in tables
    beside: tuple[str, ...] | None = None  # further rows of its test's table, for grids; None: those of written reports

    def start(self, settings: RunSettings, accelerator: Accelerator) -> System:
        """A system as configured, for training; makes whatever features it needs."""

    def open(self, folder: Path, settings: RunSettings, accelerator: Accelerator) -> System:
        """A trained one, from the folder that `System.save` and `System.finish` wrote; nothing else is needed."""

    def needed(self, settings: RunSettings, training: bool | None = None) -> Iterable[Needed]:
        """The pretrained files that training (True), a test (False) or both (None) would read, there or not.

        `check` says which are absent and what that means by `missing`, `fetch` gets those that are public.
        """
        return ()

    def requirements(self, settings: RunSettings) -> Iterable[CheckLine]:
        """What else must be there beside the data, and what of it is."""
        return ()

    def prepare_features(self, settings: RunSettings, device: torch.device, shard: Shard) -> None:
        """One part, or all, of what `start` and a test would make before they begin."""
        raise UserError(f"system '{settings.system}' has no features to prepare")

    def study_encoder(self, folder: Path, device: torch.device) -> StudyEncoder:
        """A finished run of this system as an expert of another one's. UserError where the folder is none; nothing is
        loaded before it encodes."""
        raise UserError(f"{folder}: '{self.title}' is no expert of other systems")


class TrainSet(Protocol):
    """Training samples. Items are asked for by (epoch, row)."""

    ids: list[str]
    lengths: Any = None  # (N,) of the reports in tokens; read where `train.bucketed` is set

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Any: ...

    def collate(self, samples: list) -> Any:
        """A batch: an object with `rows` (B,), the samples' positions, and `to(device)`."""


class System(Protocol):
    """A model in its surroundings. A subclass writes what has no default here."""

    settings: RunSettings
    accelerator: Accelerator
    model: nn.Module  # trained; the engine wraps it for precision and processes
    notes: dict[str, str]  # where knowledge and weights came from; they go into every report
    weights: Mapping[str, float]  # of the losses: the objective is their weighted sum, in this order

    # Training

    def train_set(self) -> TrainSet:
        """The samples to train on."""

    def optimizers(self) -> list[Optimizer]:
        """Over the parameters that train (see `revtaf.engine.optim.adamw`)."""

    def before_training(self) -> None:
        """Whatever is fitted before the first epoch; called once, not when a run is continued, by every process."""

    def start_epoch(self) -> None:
        """Called before an epoch's first batch; not where an interrupted epoch is continued."""

    def losses(self, batch: Any, draw: int) -> Mapping[str, Tensor]:
        """The losses of a batch by name, those of `weights`. `draw` numbers the batch over the whole run."""

    def validate(self, write: bool) -> dict[str, Any]:
        """Validation after an epoch, and what follows from it. `write`: also reports, or rankings, with "score", by
        which the best epoch is chosen, and "tie", which decides between equal ones; all else is logged."""

    def state(self) -> dict[str, Tensor]:
        """What a continued run needs beside weights, optimisers and random numbers."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The opposite of `state`."""

    # The folder

    def identity(self) -> dict[str, Any]:
        """What it was trained on, as JSON; a run is continued, and its best epoch finished, only on the same."""
        return {}

    def save(self, folder: Path) -> None:
        """Into the folder of a new best epoch: what `open` needs and may change from epoch to epoch, weights aside."""

    def finish(self, folder: Path) -> None:
        """Into the same folder, once, after training, with the best weights loaded: the rest of what `open` needs."""

    def external(self) -> dict[str, list[Path]]:
        """Files that an opened model needs and its folder does not hold, by the key that says where they are."""
        return {}

    # Testing

    def evaluate(self) -> Written | Rankings:
        """Write, or rank, the tested split; on several processes, all take part and each returns the whole."""

    def report(self, images: str | Path | Sequence[str | Path], **asked: Any) -> ImageReport | list[ImageReport]:
        """The report of an image file and what it rests on; a list of them for a sequence of files.

        asked: what you decide in the model's place (`revtaf.generate.asked.Asked`): statuses={"edema": "negative"},
        retrieve=False, retrieved="The heart is enlarged.". UserError where an image cannot be read, or where the model
        has no place for what is asked. See `revtaf.load` for an example.
        """
        if isinstance(images, str | Path):
            return self.write([Path(images)], **asked)[0]
        return self.write([Path(image) for image in images], **asked)

    def write(self, images: Sequence[Path], **asked: Any) -> list[ImageReport]:
        """What `report` gives: one for each image, of images that no data set knows."""
        raise UserError(f"system '{self.settings.system}' writes no reports of single images")

    def embed_images(self, images: Sequence[Path]) -> np.ndarray:
        """Image files as points of one space with texts: (N, D) float32 of unit length."""
        raise UserError(f"system '{self.settings.system}' makes no embeddings")

    def texts(self, studies: Sequence[Study]) -> list[str]:
        """What `embed_texts` reads of each study, as it did in training; `revtaf index` finds and shows these."""
        return [study.report for study in studies]

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts as points of one space with images: (N, D) float32 of unit length."""
        raise UserError(f"system '{self.settings.system}' makes no embeddings")

    def truncation(self, texts: Sequence[str]) -> str:
        """How much of the texts `embed_texts` does not read, as a sentence; empty where it reads all of every text."""
        return ""

    def analyse(self, folder: Path) -> list[Path]:
        """Further analyses of the tested split into `folder`; the files written."""
        raise UserError(f"system '{self.settings.system}' has no analyses")


@dataclass
class Written:
    """Reports of a split: what they are scored with and shown beside."""

    records: list[dict[str, Any]]  # lines of predictions.jsonl: id, reference, prediction, and whatever else
    labeler: Labeler | None  # None: nobody labels, and there are no clinical scores
    train_reports: Sequence[str] = ()  # for the rows that look at no image; may be empty
    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)  # rows of reports that people wrote
    sources: AdvancedSources | None = None
    cards: Sequence[Any] = ()  # `revtaf.pages.cards.Card`
    sections: Sequence[Any] = ()  # `revtaf.pages.section.PageSection`
    facts: Mapping[str, Any] = field(default_factory=dict)  # further lines of the report's "run"
    notes: Sequence[str] = ()  # below the table
