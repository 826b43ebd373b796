"""DICOM radiographs -> 8-bit grey, by pydicom (`pip install 'revtaf[dicom]'`).

In the standard's order (PS3.3 C.11): modality LUT or rescale, then VOI LUT or window, then the photometric
interpretation, all by pydicom. A film without a window is scaled as other deep films are (`revtaf.data.grey`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from revtaf.data.grey import outer_levels, scale, to_grey
from revtaf.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

PROJECTIONS = ("CR", "DX", "RG", "DR", "OT")  # modalities of radiographs; OT: other, as converted films say
FRONTAL = ("AP", "PA")
CHEST = ("CHEST", "THORAX", "LUNG", "RIB")
_PREAMBLE = 128  # bytes of any content, before the four letters
# Written as text. Some devices write them without a value, which PS3.5 7.4 means as unknown: as if they were not there.
_MAY_BE_EMPTY = ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept")
_FAR = 1e9  # darker and brighter than any grey level: what a window makes of them are its black and its white


def is_dicom(file: BinaryIO) -> bool:
    """By content, not by name: PS3.10's four letters behind the preamble."""
    file.seek(_PREAMBLE)
    return file.read(4) == b"DICM"


def read(file: BinaryIO, path: str | Path) -> tuple[Image.Image, list[str]]:
    """8-bit grey, and notes on the header. Raises UserError where there is no single frame that can be decoded."""
    data = _dataset(file, path)
    modality = str(data.get("Modality", "") or "unknown")
    if not any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError(f"{path}: a DICOM file without pixels (modality {modality}); give the one that holds the image")
    frames = int(data.get("NumberOfFrames", None) or 1)
    if frames > 1:
        raise UserError(f"{path}: a DICOM file of {frames} frames; a radiograph has one, export the one that is meant")
    if Image.MAX_IMAGE_PIXELS and int(data.Rows) * int(data.Columns) > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    notes = _doubts(data, modality)
    kind = str(data.PhotometricInterpretation)
    values = _decoded(data, path)
    if kind.startswith("MONOCHROME"):
        padding = _padding(values, data)
        levels = _windowed(values, padding, data, notes)
        if kind == "MONOCHROME1":  # its lowest value is white
            levels = 255 - levels
        levels[padding] = 0
        return Image.fromarray(levels), notes
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        values = apply_color_lut(values, data)
    if values.dtype != np.uint8:
        values = scale(values, 0, np.iinfo(values.dtype).max)
    grey, more = to_grey(Image.fromarray(values))
    return grey, notes + more


def size(file: BinaryIO, path: str | Path) -> tuple[int, int]:
    """(width, height), from the header alone."""
    data = _dataset(file, path, stop_before_pixels=True)
    if "Rows" not in data or "Columns" not in data:
        raise UserError(f"{path}: a DICOM file without pixels; give the one that holds the image")
    return int(data.Columns), int(data.Rows)


def _dataset(file: BinaryIO, path: str | Path, stop_before_pixels: bool = False) -> Dataset:
    try:
        from pydicom import dcmread
    except ImportError:
        raise UserError(
            f"{path} is a DICOM file, and pydicom is not installed: convert it to PNG, or pip install 'revtaf[dicom]'"
        ) from None
    file.seek(0)
    data = dcmread(file, stop_before_pixels=stop_before_pixels)
    for name in _MAY_BE_EMPTY:
        element = data.get_item(name)  # as it is in the file: bytes
        if element is not None and not (element.value or b"").strip():
            del data[name]
    return data


def _decoded(data: Dataset, path: str | Path) -> np.ndarray:
    """The stored values, (H, W) or (H, W, 3) in RGB."""
    try:
        return data.pixel_array
    except (RuntimeError, NotImplementedError) as error:
        syntax = data.file_meta.TransferSyntaxUID.name
        lacking = "missing dependencies" in str(error)
        fix = "pip install 'revtaf[dicom]' for its decoders" if lacking else "is the file whole?"
        told = str(error).splitlines()[0]
        raise UserError(f"{path}: a DICOM file, compressed as {syntax}, is not decoded ({told}); {fix}") from None


def _windowed(values: np.ndarray, padding: np.ndarray, data: Dataset, notes: list[str]) -> np.ndarray:
    """Stored values (H, W) -> uint8 through the modality LUT or rescale, and the first VOI LUT or window."""
    from pydicom.pixels import apply_modality_lut

    rescaled = apply_modality_lut(values, data)
    if data.get("VOILUTSequence") or ("WindowWidth" in data and "WindowCenter" in data):
        try:
            return _voi(rescaled, data)
        except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
            notes.append(f"damaged DICOM window: scaled by its own grey levels ({error})")
    if values.dtype == np.uint8 and np.array_equal(rescaled, values):
        return values.copy()
    shown = rescaled[~padding]
    return scale(rescaled, *outer_levels(shown if shown.size else rescaled))


def _voi(rescaled: np.ndarray, data: Dataset) -> np.ndarray:
    """uint8 by the VOI LUT, whose extremes are black and white, or by the window."""
    from pydicom.pixels import apply_voi_lut

    if data.get("VOILUTSequence"):
        count, first, _ = data.VOILUTSequence[0].LUTDescriptor
        table = apply_voi_lut(np.arange(first, first + (count or 2**16)), data)
        return scale(apply_voi_lut(np.rint(rescaled).astype(np.int64), data), table.min(), table.max())
    with np.errstate(over="ignore"):  # a sigmoid's exponential, far from the window
        black, white = apply_voi_lut(np.array([-_FAR, _FAR]), data)
        return scale(apply_voi_lut(rescaled, data), black, white)


def _padding(values: np.ndarray, data: Dataset) -> np.ndarray:
    """Where there is no film, (H, W) bool: PS3.3 C.7.5.1.1.2."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return np.zeros(values.shape, bool)
    limit = data.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None else limit)))
    return (values >= ends[0]) & (values <= ends[1])


def _doubts(data: Dataset, modality: str) -> list[str]:
    """What the header says against a frontal chest radiograph that is seen from the front."""
    notes = []
    view, part = (str(data.get(name, "") or "").upper() for name in ("ViewPosition", "BodyPartExamined"))
    if modality not in (*PROJECTIONS, "unknown"):
        notes.append(f"no radiograph by its DICOM header: modality {modality}")
    if part and not any(name in part for name in CHEST):
        notes.append(f"no chest by its DICOM header: body part {part}")
    if view and view not in FRONTAL:
        notes.append(f"not frontal by its DICOM header: view {view}")
    return notes
