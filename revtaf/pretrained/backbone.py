"""Feature extractors, shared by the encoder and the entity scorer: torchvision's ResNets, and EfficientNet-Lite0.

How a grey image becomes their input depends on the weights: `revtaf.settings.inputs_of`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from revtaf.pretrained import efficientnet
from revtaf.pretrained.strict import load_strictly, read_tensors

WIDTHS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, efficientnet.NAME: efficientnet.WIDTH}


class Backbone(nn.Module):
    """A network without pooling and classifier: (B, 3, H, W) -> (B, width, H/32, W/32). UserError where its package is
    not installed."""

    def __init__(self, name: str):
        super().__init__()
        if name == efficientnet.NAME:
            net = efficientnet.make_network()
        else:
            net = torchvision.models.get_model(name, weights=None)
            net.fc = nn.Identity()
        self.name = name
        self.width = WIDTHS[name]
        self.net = net.to(memory_format=torch.channels_last)  # a fifth faster on CPUs, and on GPUs in bf16

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W), normalised -> the last feature map (B, width, H/32, W/32)."""
        net = self.net
        images = images.contiguous(memory_format=torch.channels_last)
        if self.name == efficientnet.NAME:
            return net.forward_features(images)
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def imagenet_file(name: str) -> Path | None:
    """The file of a backbone's ImageNet weights; None where there is none.

    torchvision's lie in checkpoints/ or in its download cache. Where both are there, IMAGENET1K_V1 is taken before V2:
    it is the one that the field's papers started from. EfficientNet-Lite0's: see `efficientnet.weights_file`.
    """
    if name == efficientnet.NAME:
        return efficientnet.weights_file()
    for weights in torchvision.models.get_model_weights(name):
        for folder in (Path("checkpoints"), Path(torch.hub.get_dir()) / "checkpoints"):
            path = folder / Path(weights.url).name
            if path.is_file():
                return path
    return None


def load_imagenet(backbone: Backbone, path: str | Path) -> None:
    """Load an ImageNet classifier, strictly: all keys but the 1000-way head must match.

    torchvision's files older than PyTorch 0.4.1 lack BatchNorm's counters of batches, which take no part in any output;
    they start at 0, as when torchvision loads such a file.
    """
    if backbone.name == efficientnet.NAME:
        return efficientnet.load_weights(backbone.net, Path(path))
    state = read_tensors(Path(path), "encoder.weights")
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    counters = [key for key in backbone.net.state_dict() if key.endswith("num_batches_tracked")]
    if not any(key in state for key in counters):
        state |= {key: torch.zeros((), dtype=torch.long) for key in counters}
    load_strictly(backbone.net, state, Path(path), "encoder.weights", f"give torchvision's weights of {backbone.name}")
