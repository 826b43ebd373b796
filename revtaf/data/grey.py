"""A picture of any kind -> 8-bit grey, and notes on what was lost on the way.

Eight bits stay as they are. Deeper films are scaled between two percentiles of their own grey levels: a lead marker at
65,535 must not black out a film of 12 bits. Transparent places become black, the colour of unexposed film.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

BLACK, WHITE = 0.5, 99.5  # percentiles; a burnt-in letter covers less
COLOURED, COLOURED_SHARE = 32, 0.001  # levels between two channels; share of pixels. JPEG alone makes a few levels
SAMPLED = 256  # pixels a side that colour is looked for in
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue, as Pillow's
_GREY_ALPHA = "LA;16B"  # Pillow's raw modes of a PNG: upper bytes of 16-bit channels
_LOWER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", _GREY_ALPHA: "RGBA"}
_WHITE_IS_ZERO = 0  # of TIFF's PhotometricInterpretation


def to_grey(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A Pillow image of any mode -> (8-bit grey, notes). ValueError where grey levels are NaN or infinite."""
    if image.mode.startswith(("I", "F")):  # more than 8 bits
        values = np.asarray(image)
        levels = scale(values, *outer_levels(values))
        return Image.fromarray(255 - levels if _stored_inverted(image) else levels), []
    notes = []
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema()[0] < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), layers)
            notes.append("transparent in places: laid on black")
    if share := _coloured(image):
        notes.append(f"in colour: {share:.0%} of its pixels; read as grey")
    return image.convert("L"), notes


def scale(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Grey levels of any depth -> uint8 of the same shape, linear from `black` to `white` and cut beyond.

    Black throughout where the two are equal. ValueError for NaN or infinity.
    """
    _require_finite(values)
    if black == white:
        return np.zeros(values.shape, np.uint8)
    levels = (values.astype(np.float64) - black) * (255.0 / (white - black))
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


def outer_levels(values: np.ndarray) -> tuple[float, float]:
    """Black and white of a deep film: two percentiles, or the extremes where that much of it is of one level."""
    _require_finite(values)
    black, white = (float(level) for level in np.percentile(values, (BLACK, WHITE)))
    return (black, white) if black < white else (float(values.min()), float(values.max()))


def _require_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("some grey levels are NaN or infinite")


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an opened, not yet loaded file holds 16 bits a channel, of which Pillow reads the upper 8."""
    arguments = [tile[3] for tile in image.tile]  # of the decoder: the raw mode, "RGB;16B", alone or first
    raw_modes = (told[0] if isinstance(told, tuple) and told else told for told in arguments)
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(mode) for mode in raw_modes)


def read_deep_colour(file: BinaryIO, image: Image.Image) -> Image.Image:
    """The same file in grey of mode F, with the EXIF data of `image`. ValueError where it is no PNG, Pillow's errors
    where it is damaged.

    Pillow has no image of 16 bits a channel: its decoder runs twice, once for the upper bytes and once for the lower.
    """
    if image.format != "PNG":
        raise ValueError("colour of 16 bits a channel is read from PNG alone; save it in grey")
    raw_mode = image.tile[0].args
    upper = np.asarray(image)
    file.seek(0)
    again = Image.open(file, formats=("PNG",))
    again.tile = [again.tile[0]._replace(args=_LOWER[raw_mode])]
    lower = np.asarray(again)
    if raw_mode == _GREY_ALPHA:  # read as four bytes: both of the level, both of the opacity
        lower = lower[..., [1, 1, 1, 3]]
    channels = upper * np.float32(256) + lower  # (H, W, 3 or 4)
    grey = channels[..., :3] @ np.float32(LUMINANCE)
    if channels.shape[-1] == 4:
        grey *= channels[..., 3] / np.iinfo(np.uint16).max
    deep = Image.fromarray(grey)
    deep.info = {name: value for name, value in image.info.items() if name == "exif"}
    return deep


def _stored_inverted(image: Image.Image) -> bool:
    """Whether a deep TIFF says that white is zero, which Pillow minds in 8 bits alone."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO


def _coloured(image: Image.Image) -> float:
    """Share of the pixels whose channels differ much, 0 where there are too few."""
    if image.mode in ("1", "L", "LA"):
        return 0.0
    width, height = (min(side, SAMPLED) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.NEAREST).convert("RGB"), dtype=np.int16)
    share = float((np.ptp(pixels, axis=-1) > COLOURED).mean())
    return share if share > COLOURED_SHARE else 0.0
