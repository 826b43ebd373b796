"""REVTAF: Learnable Retrieval Enhanced Visual-Text Alignment and Fusion (ICCV 2025).

A clean-room reference implementation, written from the paper. Not a medical device.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from revtaf.engine.system import System

__version__ = "0.1.0"


def load(folder: str | Path, overrides: Sequence[str] = (), device: str = "auto") -> System:
    """Open a trained model: the folder of a finished run, or a copy of its `checkpoints/best` on any machine.

    Nothing of the set that it was trained on is needed. overrides: `key=value`, for what is not architecture
    ("generation.beams=1"), and for the places of external files ("knowledge.medklip=PATH"). Raises
    `revtaf.errors.UserError` where the folder is no model, damaged, of another format, or of a system that is not
    installed. With `folder` of a model and `image` a file:

    >>> model = revtaf.load(folder, device="cpu")
    >>> out = model.report(image)  # an ImageReport; in a notebook it shows picture and text
    >>> type(out.report), out.picture.mode
    (<class 'str'>, 'L')
    >>> found = out.retrieved[0]  # whose report it rests on
    >>> found.id == out.record()["retrieved"][0]["id"]
    True
    >>> what_if = model.report(image, statuses={"edema": "pos"}, retrieve=False)
    >>> [(s.category, s.status) for s in what_if.statuses if s.given]
    [('edema', 'positive')]
    >>> [one.report for one in model.report([image, image])] == [out.report] * 2
    True
    """
    from revtaf.config_file import load_settings
    from revtaf.engine.checkpoint import SETTINGS
    from revtaf.engine.folder import find_model, open_model
    from revtaf.engine.runtime import make_accelerator

    place = find_model(folder)
    settings = load_settings(place / SETTINGS, [*overrides, f"device={device}"], bases=False)
    return open_model(place, make_accelerator(settings), settings)
