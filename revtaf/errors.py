"""The one exception that a user is meant to read: what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

_ALIKE = 0.5  # of 1; below it another name is a guess, and the list of all says more
LONGEST, _END = 3500, 500  # characters of a message, and of its end, which says what to do


class UserError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2. A message that quotes a value of a
    megabyte is cut in its middle."""

    def __init__(self, message: str):
        left_out = len(message) - LONGEST
        if left_out > 0:
            message = f"{message[: LONGEST - _END]} [... {left_out:,} characters ...] {message[-_END:]}"
        super().__init__(message)


class BadImage(UserError):
    """An image file that is missing, damaged or no image; `path` says which."""

    path: Path

    @classmethod
    def at(cls, path: str | Path, message: str) -> BadImage:
        """The error of one file."""
        error = cls(message)
        error.path = Path(path)
        return error


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """How an error about an unknown name ends: "did you mean 'lre.metric'?", or all known names where none is near.

    prefix: what stands before the name when it is written in full ("lre.").
    """
    known = list(known)
    if near := difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
        return f"did you mean '{prefix}{near[0]}'?"
    return f"expected one of {', '.join(known)}" if known else "none is known"
