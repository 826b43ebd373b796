"""Training goes on where an image cannot be read (`data.on_error`, `data.max_bad_share`).

What is found while caches and features are made is left out of the training set (`revtaf.data.unreadable`). What fails
later, in an epoch, gives its place to the next sample that can be read: a function of the files alone, so that a
continued run sees the same, and every process has whole batches. Each file is noted once, in the run's
`bad_samples.jsonl`. A set that is validated on, or tested, is never changed: there a bad image is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator

from revtaf.config import DataSettings, RunSettings
from revtaf.data.annotations import load_annotations
from revtaf.data.unreadable import check_share, list_unreadable, listed
from revtaf.engine.runtime import append_jsonl, read_jsonl
from revtaf.engine.system import TrainSet
from revtaf.errors import BadImage, UserError
from revtaf.locks import alone

FILE = "bad_samples.jsonl"
Result = TypeVar("Result")
log = logging.getLogger("revtaf")


def leaving_out(settings: RunSettings, accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """`work()`; where it meets an unreadable training image, that of the set without all that cannot be read.

    Raises BadImage where images may not be left out, or where it is not the training set that has one.
    """
    data = settings.training_data
    while True:
        try:
            return work()
        except BadImage as error:
            if data.on_error == "stop":
                raise
            if accelerator.num_processes > 1:
                raise UserError(f"{error}; or begin with one process, which leaves out what cannot be read") from None
            studies = settings.splits(load_annotations(data.annotation)).get("train", [])[: data.max_samples]
            if not list_unreadable(studies, data, error):
                raise
            accelerator.free_memory()  # what the first attempt had registered


class StrictSet:
    """A data set that gives the error of an unreadable image in the place of the sample, and then of the batch: a
    loader's processes cannot raise one without wrapping its message into a traceback."""

    def __init__(self, base: TrainSet):
        self.base = base

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, key: Any) -> Any:
        """A sample, or a UserError."""
        try:
            return self.base[key]
        except BadImage as error:
            return error

    def collate(self, samples: list) -> Any:
        """A batch; a UserError where one of the samples is."""
        failed = next((sample for sample in samples if isinstance(sample, UserError)), None)
        return self.base.collate(samples) if failed is None else failed


class TolerantSet(StrictSet):
    """A training set in which a sample that cannot be read is replaced by the next one."""

    def __init__(self, base: TrainSet, data: DataSettings, run: Path):
        super().__init__(base)
        self.data, self.file = data, Path(run) / FILE
        self.noted: set[str] = set()  # files that this process has met

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """A sample; a UserError where none may take its place."""
        epoch, row = key
        for step in range(len(self)):
            try:
                return self.base[(epoch, (row + step) % len(self))]
            except BadImage as error:
                if self.data.on_error == "stop":
                    return error
                try:
                    self._note(error)
                except UserError as too_many:
                    return too_many
        return UserError(f"none of the {len(self):,} training images can be read")

    def _note(self, error: BadImage) -> None:
        """Once for each file, whichever process of the run meets it. UserError where there are too many."""
        name = str(error.path)
        if name in self.noted:
            return
        with alone(self.file.parent / ".bad_samples", "noting an unreadable image"):
            before = read_jsonl(self.file)
            if all(line["image"] != name for line in before):
                check_share(len(before) + 1, len(self), self.data, str(error))
                append_jsonl(self.file, {"image": name, "error": str(error)})
                log.warning("left out, the next sample is in its place: %s", error)
        self.noted.add(name)


def note_left_out(folder: Path, data: DataSettings) -> None:
    """The images that were left out before the first epoch, in the run's list."""
    before = {line["image"] for line in read_jsonl(folder / FILE)}
    for name, reason in listed(data).items():
        if (path := str(Path(data.images) / name)) not in before:
            append_jsonl(folder / FILE, {"image": path, "error": reason})


def told(run: Path) -> dict[str, str]:
    """What a report's facts say of them; nothing where there are none."""
    bad = len(read_jsonl(Path(run) / FILE))
    return {"bad samples": f"{bad:,} training images could not be read and were left out ({FILE})"} if bad else {}
