"""The folder of an index: whether it may be written to, and what a build clears away. Other people's files stay."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from revtaf.errors import UserError
from revtaf.files import read_json
from revtaf.locks import LOCK
from revtaf.search.index import FILES, KINDS, MANIFEST, named_folders

_KINDS = "|".join(KINDS)
_FOLDER = rf"(?:(?:{_KINDS})-\d{{4,}}-\d{{9,}}|(?:projection|held|centroids-(?:{_KINDS}))-\d{{4,}})"
_MADE = re.compile(rf"{_FOLDER}|\.{_FOLDER}\.(?:partial|old)-\d+-\w+")  # in `files/`, by any build
_OURS = ("format", "generation", "galleries")  # of every manifest


def check_place(folder: Path) -> None:
    """UserError where an index must not be written: the folder holds what no build of an index makes.

    Beside an index other files may lie; they are left alone. Where its manifest is damaged or not there, nothing else
    may: what looks like a damaged index could be anything.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file, expected a folder; choose another place")
    if not folder.is_dir() or _is_manifest(_content(folder)):
        return
    if other := _not_made(folder):
        raise UserError(
            f"{folder} is not empty and no index: {other[0]} is there, which no build of an index makes; choose "
            "another place, or move what is there away"
        )


def generation(folder: Path) -> int:
    """Of the index that is there, whole or not; 0 where there is none."""
    content = _content(folder)
    number = content.get("generation") if isinstance(content, dict) else None
    return number if isinstance(number, int) else 0


def clean(folder: Path) -> None:
    """Remove what builds made and the manifest does not name, which a killed build or an earlier index left.

    What cannot be removed now, as on Windows while somebody searches it, the next build removes.
    """
    if not (folder / FILES).is_dir():
        return
    try:
        named = set(named_folders(_content(folder)))
    except (KeyError, TypeError, AttributeError):  # damaged: it names nothing that could be kept
        named = set()
    for path in (folder / FILES).iterdir():
        if _made(path) and path.name not in named:
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # where it is empty
        (folder / FILES).rmdir()


def _content(folder: Path) -> Any:
    """Of the manifest; None where there is none, or it cannot be read."""
    try:
        return read_json(folder / MANIFEST, "index")
    except UserError:
        return None


def _is_manifest(content: Any) -> bool:
    return isinstance(content, dict) and all(key in content for key in _OURS)


def _made(path: Path) -> bool:
    """Whether something in `files/` is a build's, whole or not."""
    return bool(_MADE.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _not_made(folder: Path) -> list[Path]:
    """What no build makes, in a folder whose manifest is damaged or not there."""
    inner = sorted((folder / FILES).iterdir()) if (folder / FILES).is_dir() else []
    ours = {LOCK, *([FILES] if (folder / FILES).is_dir() else [])}
    if _content(folder) is None and any(_made(path) for path in inner):
        ours.add(MANIFEST)  # damaged, beside what it named
    outer = [path for path in sorted(folder.iterdir()) if path.name not in ours]
    outer = [path for path in outer if not path.name.startswith(f".{MANIFEST}.partial-")]
    return outer + [path for path in inner if not _made(path)]
