"""The picture that a model saw of an image file, and what the reader has to say of the file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from revtaf.data import images
from revtaf.data.images import resize_crop

try:
    from revtaf.data.examine import examine
except ImportError:  # of a version whose reader has nothing to say

    def examine(image: Image.Image) -> list[str]:
        """No warning."""
        return []


def look(path: Path, resize: int, size: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The 8-bit grey crop (size, size) of `resize_crop`, and the warnings. UserError where it cannot be read."""
    read = getattr(images, "read_noted", lambda path: (images.read_image(path), []))
    image, notes = read(path)
    return resize_crop(image, resize, size), (*notes, *examine(image))
