"""Reports of many images in batches: what can be read is written, what cannot is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revtaf.data.images import read_image
from revtaf.errors import UserError
from revtaf.files import spelled
from revtaf.generate.result import ImageReport

if TYPE_CHECKING:
    from revtaf.engine.system import System


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, and why."""

    image: Path
    reason: str

    @property
    def name(self) -> str:
        """Its path, as `spelled` writes it down."""
        return spelled(self.image)


def write_batches(
    system: System, images: Sequence[Path], asked: Mapping[str, Any], size: int
) -> Iterator[ImageReport | Unreadable]:
    """The report of each image, or why there is none, in their order; `size` images at once. UserError for what is
    wrong with the model, or with what is asked of it."""
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        bad = {image: _unnamed(image) for image in batch if spelled(image) != str(image)}
        try:
            good = system.write([image for image in batch if image not in bad], **asked)
        except UserError:  # some image of it, or nothing works at all
            found = {image: why for image in batch if image not in bad and (why := _why_not(image))}
            if not found:
                raise
            bad |= found
            good = system.write([image for image in batch if image not in bad], **asked)
        reports = iter(good)
        for image in batch:
            yield Unreadable(image, bad[image]) if image in bad else next(reports)


def _why_not(image: Path) -> str:
    """Why it cannot be read; "" where it can."""
    try:
        read_image(image)
    except UserError as error:
        return str(error)
    return ""


def _unnamed(image: Path) -> str:
    return f"{spelled(image)}: its name is not UTF-8, so no report can name it; rename it"
