"""Raw files that are there but may not be read: said as that, not as absent or damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from revtaf.errors import UserError


def unreadable(path: str | Path, error: OSError) -> UserError:
    """The message for a file or folder that the system refuses to open."""
    return UserError(f"{path}: cannot be read ({error.strerror}); change its rights")


def names_in(folder: Path) -> list[str]:
    """What a folder holds, sorted; `Path.glob` finds nothing in one that may not be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from None


def is_file(path: Path) -> bool:
    """`Path.is_file`, where a name that is too long to exist is absent. UserError where nobody may look."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise unreadable(path, error) from None
