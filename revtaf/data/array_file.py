"""Arrays from .npy files: numbers alone, from regular files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from revtaf.errors import UserError
from revtaf.files import regular_file


def read_array(path: Path, remedy: str, mapped: Literal["r", "c"] | None = None) -> np.ndarray:
    """The array of an .npy file, `mapped` from disk or read. UserError, with `remedy` at its end, where it is missing,
    damaged, or holds anything but an array of numbers."""
    try:
        array = np.load(regular_file(path), mmap_mode=mapped, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except Exception as error:  # a header is Python's syntax, and its reader raises what that reader meets
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    if not isinstance(array, np.ndarray):  # a packed file of several
        raise UserError(f"{path} is damaged (not one array); {remedy}")
    return array
