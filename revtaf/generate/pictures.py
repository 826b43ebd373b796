"""The picture that a model saw of an image file, and what the reader has to say of the file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from revtaf.data.examine import examine
from revtaf.data.images import read_noted, resize_crop


def look(path: Path, resize: int, size: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The 8-bit grey crop (size, size) of `resize_crop`, and the warnings. UserError where it cannot be read."""
    image, notes = read_noted(path)
    return resize_crop(image, resize, size), (*notes, *examine(image))
