"""The picture that a model saw of an image file, and what the reader has to say of the file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from revtaf.data import images
from revtaf.data.images import read_image, resize_crop


def look(path: Path, resize: int, size: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The 8-bit grey crop (size, size) of `resize_crop`, and the warnings. UserError where it cannot be read."""
    image = read_image(path)
    examine = getattr(images, "examine", lambda image: ())
    return resize_crop(image, resize, size), tuple(examine(image))
