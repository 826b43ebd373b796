"""The record of a backbone's ImageNet weights, the same for every system: are they there, where do they come from?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from revtaf.pretrained import efficientnet
from revtaf.pretrained.backbone import imagenet_file
from revtaf.pretrained.fetch import imagenet_name
from revtaf.pretrained.needed import Imagenet, Needed, Package


def imagenet_weights(backbone: str, fits: Callable[[Path], object] | None = None) -> Needed:
    """fits: raises UserError where the file that is there has another layout."""
    path, packed = imagenet_file(backbone), backbone == efficientnet.NAME
    place = Path("checkpoints") / (efficientnet.FILE if packed else imagenet_name(backbone))
    elsewhere = f"the package {efficientnet.PACKAGE}" if packed else "torchvision's cache"
    return Needed(
        f"ImageNet weights of {backbone}",
        "the image encoder's start",
        str(path or place),
        () if path else (f"{place} or in {elsewhere}",),
        "random weights",
        Package(efficientnet.INSTALL, "17 MB, Apache-2.0; ImageNet's terms") if packed else Imagenet(backbone),
        None if path is None or fits is None else lambda: fits(path),
    )
