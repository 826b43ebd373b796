"""Samples of stage 2: images or their kept tokens, the instruction around them, the report, and given clues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from revtaf.comparators.medfuse.data import StudyImages
from revtaf.comparators.trrg.fit import padded
from revtaf.comparators.trrg.given import GivenClues
from revtaf.comparators.trrg.language import CausalLanguage
from revtaf.comparators.trrg.network import ClueBatch
from revtaf.comparators.trrg.settings import IMAGE, STATUSES
from revtaf.data.annotations import Study
from revtaf.errors import UserError

GREY = 127  # of every pixel, where the image is hidden


class ClueDataset(Dataset):
    """One split: images or their kept tokens, reports and instructions as ids, and the clues that are given."""

    lengths = None

    def __init__(
        self,
        studies: Sequence[Study],
        reader: StudyImages,
        texts: Sequence[list[int]],
        instruction: Instruction,
        states: Sequence[str],
        clues: GivenClues,
        pad: int,
        blind: bool,
    ):
        """texts: (N,) ids, ended; states: (N,) what <statuses> is for each."""
        self.studies, self.ids = studies, [study.id for study in studies]
        self.reader, self.texts, self.clues, self.pad, self.blind = reader, texts, clues, pad, blind
        self.before, self.after = instruction.before, instruction.after(states)
        self.kept: np.ndarray | None = None  # (N, n, d) tokens, where they are

    def __len__(self) -> int:
        return len(self.studies)

    def image(self, row: int) -> Tensor:
        """(3, S, S), as the encoder sees it."""
        read = self.reader.read(self.studies[row], row)
        return self.reader.plain(read.point(lambda _: GREY) if self.blind else read)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[int, Tensor, Tensor]:
        """(epoch, row), or the row -> row, image or tokens, given scores."""
        epoch, row = key if isinstance(key, tuple) else (0, key)
        image = self.image(row) if self.kept is None else torch.from_numpy(self.kept[row])
        return row, image, torch.from_numpy(self.clues.row(row, epoch))

    def collate(self, samples: list[tuple[int, Tensor, Tensor]]) -> ClueBatch:
        """Samples -> a batch."""
        rows = [row for row, _, _ in samples]
        tokens, real = padded([self.texts[row] for row in rows], self.pad)
        after, after_real = padded([self.after[row] for row in rows], self.pad)
        return ClueBatch(
            rows=torch.tensor(rows),
            images=torch.stack([image for _, image, _ in samples]),
            tokens=tokens,
            real=real,
            before=torch.tensor([self.before]).expand(len(rows), -1).contiguous(),
            after=after,
            after_real=after_real,
            given=torch.stack([given for _, _, given in samples]),
        )


class Instruction:
    """`prompt.template` as ids: `before` the image, with the start token, and what stands behind it."""

    def __init__(self, template: str, language: CausalLanguage):
        self.language = language
        first, self.rest = template.split(IMAGE)
        if STATUSES in first:
            raise UserError(f"prompt.template: {STATUSES} has to stand behind {IMAGE}")
        self.before = [language.start, *(language.encode([first])[0] if first else [])]

    def after(self, states: Sequence[str]) -> list[list[int]]:
        """(N,) ids, of N texts for <statuses>."""
        texts = [self.rest.replace(STATUSES, state) for state in states]
        distinct = list(dict.fromkeys(texts))
        found = dict(zip(distinct, self.language.encode(distinct), strict=True))
        return [found[text] if text else [] for text in texts]
