"""Reading radiographs, and the paper's transforms (docs/method.md section 1).

Training: Resize(256), RandomCrop(224), RandomRotation(5). Evaluation: Resize(256), CenterCrop(224). A stronger
augmentation, not the paper's, is for small training sets. Grey levels are scaled as the encoder's weights want them. No
horizontal flip: left and right matter. The random draws of a sample depend on (seed, epoch, sample) alone, so that an
interrupted run continues with exactly the same images, whatever the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from revtaf.config import InputKind
from revtaf.errors import UserError

STRONG_SHIFT, STRONG_ZOOM, STRONG_LIGHT = 0.05, 0.1, 0.2  # of the side; of the size; of brightness, and of contrast
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def read_image(path: str | Path) -> Image.Image:
    """The image in 8-bit grey. Raises UserError where it is missing, truncated or no image."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "I;16", "I;16B", "F"):  # 16-bit PNG: scale, do not clip
                pixels = np.asarray(image, dtype=np.float32)
                low, high = float(pixels.min()), float(pixels.max())
                scaled = (pixels - low) * (255.0 / max(high - low, 1.0))
                return Image.fromarray(scaled.astype(np.uint8), "L")
            return image.convert("L")
    except FileNotFoundError:
        raise UserError(f"image not found: {path}; check data.images and the annotation") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"not a readable image: {path} ({error}); replace it or drop the study") from None


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


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height), from the header alone. Raises UserError as `read_image`."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"not a readable image: {path} ({error}); replace it or drop the study") from None


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
