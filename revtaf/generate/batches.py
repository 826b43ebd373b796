"""Reports of many images in batches: what can be read is written, what cannot is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revtaf.data.images import read_image
from revtaf.errors import UserError
from revtaf.generate.result import ImageReport

if TYPE_CHECKING:
    from revtaf.engine.system import System


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, and why."""

    image: Path
    reason: str


def write_batches(
    system: System, images: Sequence[Path], asked: Mapping[str, Any], size: int
) -> Iterator[ImageReport | Unreadable]:
    """The report of each image, or why there is none, in their order; `size` images at once. UserError for what is
    wrong with the model, or with what is asked of it."""
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        try:
            yield from system.write(batch, **asked)
        except UserError:  # some image of it, or nothing works at all
            bad = {image: reason for image in batch if (reason := _why_not(image))}
            if not bad:
                raise
            good = iter(system.write([image for image in batch if image not in bad], **asked))
            for image in batch:
                yield Unreadable(image, bad[image]) if image in bad else next(good)


def _why_not(image: Path) -> str:
    """Why it cannot be read; "" where it can."""
    try:
        read_image(image)
    except UserError as error:
        return str(error)
    return ""
