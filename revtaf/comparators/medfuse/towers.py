"""Two encoders, one space (Eq. 2 to 6): image -> z_i, report -> z_j, both of length 1, compared by their product.

The networks are open_clip's: a model that it knows by name (the paper's ViT-B/32: 512 numbers, 151 M parameters), or
its classes in sizes of one's own. The image may also be read by one of REVTAF's backbones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from revtaf.comparators.medfuse.settings import MedFuseSettings
from revtaf.comparators.medfuse.text import TextTokens
from revtaf.errors import UserError
from revtaf.knowledge.clip import build, import_open_clip, model_config, read_state
from revtaf.pretrained.backbone import Backbone, imagenet_file, load_imagenet
from revtaf.pretrained.strict import load_strictly
from revtaf.rng import stream

LARGEST_SCALE = 100.0  # 1 / t at most, as in CLIP: beyond it a single pair decides the loss


class Encoded(NamedTuple):
    """images (B, D) and texts (M, D) of length 1; scale (), 1 / t."""

    images: Tensor
    texts: Tensor
    scale: Tensor


class DualEncoder(nn.Module):
    """`visual` and `text` end in the same width. whole: texts are padded to the whole context, as CLIP's text encoder
    was trained; else to the longest of a batch, and padding changes nothing."""

    def __init__(self, visual: nn.Module, text: nn.Module, temperature: float, whole: bool, centred: int = 0):
        """centred: the width of the space, where both encoders' outputs are standardised; else 0."""
        super().__init__()
        self.visual, self.text, self.whole = visual, text, whole
        self.of_images, self.of_texts = (_standard(centred) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(1 / temperature).log())

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D) of length 1."""
        return F.normalize(self.of_images(self.visual(images).float()), dim=-1)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """(M, T) -> (M, D) of length 1."""
        return F.normalize(self.of_texts(self.text(tokens).float()), dim=-1)

    def forward(self, images: Tensor, tokens: Tensor) -> Encoded:
        """images (B, 3, S, S), tokens (M, T)."""
        with torch.no_grad():  # the parameter itself, which can come back: beyond the bound a clamp has no gradient
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return Encoded(self.encode_images(images), self.encode_texts(tokens), self.log_scale.exp())

    def padded(self, texts: list[list[int]], tokens: TextTokens) -> Tensor:
        """(M, T) long of M texts."""
        width = tokens.context if self.whole else max(map(len, texts))
        return torch.tensor([ids + [tokens.pad] * (width - len(ids)) for ids in texts], dtype=torch.long)


class BackboneTower(nn.Module):
    """The mean of a backbone's patches, mapped to the space."""

    def __init__(self, name: str, width: int, dropout: float = 0.0):
        super().__init__()
        self.backbone = Backbone(name)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(self.backbone.width, width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width)."""
        return self.project(self.dropout(self.backbone(images).mean((2, 3))))


def make_encoder(settings: MedFuseSettings, tokens: TextTokens) -> DualEncoder:
    """On random weights, each part from its own stream of the run's seed. UserError where open_clip is missing."""
    open_clip = import_open_clip()
    space, image, text = settings.space, settings.image, settings.text
    if space.name is not None:
        size = model_config(open_clip, space.name)["vision_cfg"]["image_size"]
        if size != image.size:
            raise UserError(f"space.name={space.name} sees {size} pixels, image.size is {image.size}; set it to {size}")
        with stream(settings.seed, "medfuse"):
            net = build(open_clip, space.name, apart=True)
        if tokens.context != net.text.context_length:
            raise UserError(f"space.name={space.name} reads {net.text.context_length} tokens: set text.context to it")
        width = net.text.output_dim
        if width != space.width:
            raise UserError(f"space.name={space.name} has a space of {width}, space.width is {space.width}")
        return DualEncoder(net.visual, net.text, space.temperature, whole=True)
    with stream(settings.seed, "medfuse.image"):
        visual = _image_tower(settings)
    with stream(settings.seed, "medfuse.text"):
        encoder = open_clip.transformer.TextTransformer(
            context_length=text.context,
            vocab_size=tokens.size,
            width=text.width,
            heads=text.heads,
            layers=text.layers,
            output_dim=space.width,
            no_causal_mask=True,
            use_pad_mask=True,
            pad_id=tokens.pad,
            eos_id=tokens.end,
            pool_type="eos",
        )
    return DualEncoder(visual, encoder, space.temperature, whole=False, centred=space.centred * space.width)


def initialise(encoder: DualEncoder, settings: MedFuseSettings) -> str:
    """Load `space.weights` or `image.weights`; one line for the run's report. UserError where a file does not fit."""
    space, image = settings.space, settings.image
    if space.name is not None:
        if space.weights is None or not space.weights.is_file():
            missing = f": {space.weights} not found" if space.weights else ""
            return f"{space.name} from random weights{missing}"
        from open_clip.model import convert_to_custom_text_state_dict

        state = convert_to_custom_text_state_dict(read_state(space.weights))
        state["log_scale"] = state.pop("logit_scale", encoder.log_scale.detach()).reshape(())
        load_strictly(encoder, state, space.weights, "space.weights", f"{space.name} must be the very architecture")
        with torch.no_grad():  # the paper's start, whatever the file's training ended with
            encoder.log_scale.copy_(torch.tensor(1 / space.temperature).log())
        return f"{space.name} from {space.weights.name}"
    if image.weights is None:
        return f"{image.tower} and text transformer from random weights"
    path = imagenet_file(image.tower) if image.weights == "imagenet" else image.weights
    if path is None:
        return f"{image.tower} from random weights: ImageNet weights not found (see checkpoints/README.md)"
    load_imagenet(encoder.visual.backbone, path)
    return f"{image.tower} from {getattr(path, 'name', path)}, text transformer from random weights"


def _standard(width: int) -> nn.Module:
    return nn.BatchNorm1d(width, affine=False) if width else nn.Identity()


def _image_tower(settings: MedFuseSettings) -> nn.Module:
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    image, width = settings.image, settings.space.width
    if image.tower == "vit":
        return VisionTransformer(
            image_size=image.size,
            patch_size=image.patch,
            width=image.width,
            layers=image.layers,
            heads=image.heads,
            mlp_ratio=4.0,
            output_dim=width,
        )
    if image.tower == "modified_resnet":
        return ModifiedResNet([image.layers] * 4, width, image.heads, image.size, image.width)
    return BackboneTower(image.tower, width, image.dropout)
