"""Pictures inside a page: PNGs as the value of `src`, because a page loads nothing from elsewhere."""

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
