"""Raw files that are absent, or there but may not be read: each said as what it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

from revtaf.data.image_names import why_absent
from revtaf.errors import UserError

SHOWN = 5  # examples in a message, after the count


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


def check_missing(images: Path, missing: list[str], total: int, fix: str) -> None:
    """Raises UserError that counts and lists missing images, if there are any."""
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise UserError(
            f"{images}: {len(missing)} of {total} images are missing: {', '.join(missing[:SHOWN])}{more}"
            f"{why_absent(images / missing[0])}{fix}"
        )


def inside(path: str) -> bool:
    """Whether a relative path stays below the folder that it is relative to."""
    return bool(path) and not path.startswith(("/", "\\")) and ".." not in PurePosixPath(path).parts
