"""Image encoder (paper section 3.2; docs/method.md section 1): a network's patch features and their mean.

At 224 px, ResNet-101: patches (B, 49, 2048), row-major over the 7 x 7 grid, and pooled (B, 2048).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from revtaf.pretrained.backbone import Backbone


class Vision(NamedTuple):
    """An image's features, as they are (F_v) and on average."""

    patches: Tensor  # (B, P, width)
    pooled: Tensor  # (B, width)


class Encoder(nn.Module):
    """blind: every image is replaced by the mean grey of its scale, so that the output is the same for all (a control).
    That is 0 after normalisation: ImageNet's mean grey, 127 of 255, or, where each image has its own mean, any grey."""

    def __init__(self, backbone: str, blind: bool = False):
        super().__init__()
        self.backbone = Backbone(backbone)
        self.width = self.backbone.width
        self.blind = blind

    def forward(self, images: Tensor) -> Vision:
        """(B, 3, H, W), normalised -> patches (B, P, width) with P = H/32 * W/32, pooled (B, width). Patches
        (B, P, width) that it made before are taken as they are."""
        if images.ndim == 3:
            return Vision(images, images.mean(1))
        if self.blind:
            grid = self.backbone(torch.zeros_like(images[:1])).expand(len(images), -1, -1, -1)
        else:
            grid = self.backbone(images)
        patches = grid.flatten(2).transpose(1, 2)
        return Vision(patches, patches.mean(1))
