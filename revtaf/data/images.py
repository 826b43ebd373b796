"""Reading radiographs, and the paper's transforms (docs/method.md section 1).

`read_noted` is the one way from a file to an image, for training, features, search and reports alike. Which files it
reads, and how: docs/data.md, "Images".

Training: Resize(256), RandomCrop(224), RandomRotation(5). Evaluation: Resize(256), CenterCrop(224). A stronger
augmentation, not the paper's, is for small training sets. Grey levels are scaled as the encoder's weights want them. No
horizontal flip: left and right matter. The random draws of a sample depend on (seed, epoch, sample) alone, so that an
interrupted run continues with exactly the same images, whatever the workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from revtaf.config import InputKind
from revtaf.data import dicom
from revtaf.data.grey import is_deep_colour, read_deep_colour, to_grey
from revtaf.data.image_names import find_file, why_absent
from revtaf.errors import BadImage, UserError
from revtaf.files import regular_file

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "JPEG2000", "PPM")  # of Pillow's; others run programs
SMALLEST = 16  # pixels a side; a radiograph cannot be told in fewer
STRONG_SHIFT, STRONG_ZOOM, STRONG_LIGHT = 0.05, 0.1, 0.2  # of the side; of the size; of brightness, and of contrast
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_INSTEAD = {  # what files that are no images begin with
    b"%PDF": "it is a PDF, whatever its name says; export the picture",
    b"<!doctype": "it is a web page, as failed downloads leave; download it again",
    b"<html": "it is a web page, as failed downloads leave; download it again",
    b"version https://git-lfs": "it is a Git LFS pointer; fetch the file itself with git lfs pull",
    b"pk\x03\x04": "it is a ZIP archive; unpack it",
    b"\x1f\x8b": "it is a gzip archive; unpack it",
}


def read_image(path: str | Path) -> Image.Image:
    """The image in 8-bit grey, upright. Raises BadImage where it is missing, damaged, no image, or too large."""
    return read_noted(path)[0]


def read_noted(path: str | Path) -> tuple[Image.Image, list[str]]:
    """`read_image`, and notes on the file: "in colour: ...", each a kind, a colon and what was made of it.

    What the grey image itself looks like: `revtaf.data.examine.examine`.
    """
    with _readable(path) as file:
        if dicom.is_dicom(file):
            grey, notes = dicom.read(file, path)
        else:
            grey, notes = _read_picture(file)
        if min(grey.size) < SMALLEST:
            raise ValueError(f"{grey.width} x {grey.height} pixels; at least {SMALLEST} x {SMALLEST} are needed")
    return grey, notes


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of `read_image`, without scaling grey levels. Raises UserError likewise."""
    with _readable(path) as file:
        if dicom.is_dicom(file):
            return dicom.size(file, path)
        image = _open(file)
        if image.format == "TIFF":
            image.load()  # which turns it upright, and forgets the orientation
        try:
            sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        except Exception:  # as in _upright
            sideways = False
        return (image.height, image.width) if sideways else image.size


def _read_picture(file: BinaryIO) -> tuple[Image.Image, list[str]]:
    image, notes = _open(file), []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"several frames: the first of {frames} is read")
    if is_deep_colour(image):
        image = read_deep_colour(file, image)
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # EXIF is a file format of its own; Pillow's reader raises many kinds where it is damaged
        notes.append("damaged EXIF data: the image may lie on its side")
    grey, more = to_grey(image)
    return grey, notes + more


def _open(file: BinaryIO) -> Image.Image:
    """Header read, pixels not."""
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return image


@contextmanager
def _readable(path: str | Path) -> Iterator[BinaryIO]:
    """The opened file; whatever goes wrong while it is read becomes one BadImage."""
    broken = f"not a readable image: {path}"
    try:
        with _opened(path) as file:
            yield file
        return
    except UserError as error:
        said = str(error)
    except Image.DecompressionBombError:
        limit = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's limit"
        said = f"{broken} ({limit}); scale it down, 1,000 pixels a side are plenty"
    except UnidentifiedImageError:
        said = f"{broken} ({_instead(path)}); replace it or drop the study"
    except Exception as error:  # decoders raise many kinds on damaged files; all mean the same here
        said = f"{broken} ({error or type(error).__name__}); replace it or drop the study"
    raise BadImage.at(path, said)


def _opened(path: str | Path) -> BinaryIO:
    """The file, where the disk spells its name otherwise, too."""
    try:
        return open(regular_file(path), "rb")
    except (FileNotFoundError, NotADirectoryError):
        if found := find_file(path):
            return open(regular_file(found), "rb")
        told = f"image not found: {path}{why_absent(path)}; check data.images and the annotation"
        raise UserError(told) from None
    except UserError as error:
        raise UserError(f"not a readable image: {error}") from None


def _instead(path: str | Path) -> str:
    """What a file that is no image seems to be."""
    with _opened(path) as file:
        head = file.read(64).lower()
    if not head:
        return "the file is empty"
    found = (said for begin, said in _INSTEAD.items() if head.startswith(begin.lower()))
    return next(found, "no known image format: PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000, PNM, DICOM")


def resize_crop(image: Image.Image, resize: int, size: int) -> Image.Image:
    """Shorter side to `resize`, centre crop of `size`: what the model sees at evaluation."""
    return F.center_crop(F.resize(image, resize, InterpolationMode.BILINEAR), [size, size])


def crop_box(xyxy: Sequence[float], size: tuple[int, int], resize: int, crop: int) -> tuple[float, ...]:
    """A box in fractions of the whole image of `size` (width, height) -> in fractions of the crop of `resize_crop`,
    cut at its borders."""
    scale = resize / min(size)
    moved = []
    for i, value in enumerate(xyxy):
        side = size[i % 2] * scale
        moved.append(min(max((value * side - (side - crop) / 2) / crop, 0.0), 1.0))
    return tuple(moved)


def augment(image: Image.Image, resize: int, size: int, rotation: float, draw: np.random.Generator) -> Image.Image:
    """Random crop and rotation of the training images, all randomness from `draw`."""
    image = F.resize(image, resize, InterpolationMode.BILINEAR)
    width, height = image.size
    top = int(draw.integers(0, max(height - size, 0) + 1))
    left = int(draw.integers(0, max(width - size, 0) + 1))
    angle = float(draw.uniform(-rotation, rotation)) if rotation else 0.0
    image = F.crop(image, top, left, size, size)
    return F.rotate(image, angle, InterpolationMode.BILINEAR) if angle else image


def augment_strongly(
    image: Image.Image, resize: int, size: int, rotation: float, draw: np.random.Generator
) -> Image.Image:
    """Random rotation, shift, zoom, brightness and contrast around the crop of `resize_crop`; what leaves the image is
    black. For 1,000 to 2,000 training images. All randomness from `draw`."""
    angle = float(draw.uniform(-rotation, rotation)) if rotation else 0.0
    shift = (draw.uniform(-STRONG_SHIFT, STRONG_SHIFT, 2) * size).round().astype(int).tolist()
    zoom, brightness, contrast = (
        1 + float(draw.uniform(-bound, bound)) for bound in (STRONG_ZOOM, STRONG_LIGHT, STRONG_LIGHT)
    )
    image = F.resize(image, resize, InterpolationMode.BILINEAR)
    image = F.affine(image, angle, shift, zoom, [0.0, 0.0], InterpolationMode.BILINEAR)
    image = F.center_crop(image, [size, size])
    return F.adjust_contrast(F.adjust_brightness(image, brightness), contrast)


def to_tensor(image: Image.Image, inputs: InputKind) -> Tensor:
    """Grey image (H, W) -> float32 (3, H, W), see `normalise`."""
    return normalise(torch.from_numpy(np.array(image)), inputs)


def normalise(grey: Tensor, inputs: InputKind) -> Tensor:
    """Grey levels 0 to 255 (..., H, W) -> what networks see, float32 (..., 3, H, W), three channels of the same image.

    imagenet: with the mean and deviation of ImageNet's colours, as torchvision's weights were trained.
    clip: with those of CLIP's training images, likewise.
    lite: (x - 127) / 128, as EfficientNet-Lite's were.
    image: each image with its own mean and deviation, as the entity scorer's are: exposure is no finding. The deviation
    counts as 1 at least, so that a uniform image stays uniform.
    """
    x = grey.float()
    if inputs in ("imagenet", "clip"):
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if inputs == "imagenet" else (CLIP_MEAN, CLIP_STD)
        return F.normalize(x.div(255.0).unsqueeze(-3).expand(*x.shape[:-2], 3, -1, -1), mean, std)
    if inputs == "lite":
        x = (x - 127.0) / 128.0
    else:
        x = (x - x.mean((-2, -1), keepdim=True)) / x.std((-2, -1), keepdim=True).clamp(min=1.0)
    return x.unsqueeze(-3).expand(*x.shape[:-2], 3, -1, -1)
