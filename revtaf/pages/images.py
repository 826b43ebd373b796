"""Pictures inside a page: PNGs and JPEGs as the value of `src`, because a page loads nothing from elsewhere."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def image_data(png: bytes) -> str:
    """The bytes of a PNG as the value of `src`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def pixel_data(pixels: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 as the value of `src`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return image_data(buffer.getvalue())


def picture_data(picture: Image.Image, quality: int = 90) -> str:
    """A grey picture as the value of `src`, as JPEG: of 224 x 224 pixels some 15 kB, a third of the PNG."""
    buffer = io.BytesIO()
    picture.convert("L").save(buffer, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
