"""Images by the names that tables give them, where the disk spells the names otherwise.

Tables are written on one system and read on another: backslashes between folders, accents in one character or in two
(NFC, NFD), capitals, blanks at an end, PNG where the table says JPEG. Each is found, and said. `find_file` is what
every reader of images asks; of a file that is not there, `why_absent` says what is there in its place.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath

_ALIKE = 0.6  # of 1: names that are less alike are not called near
ENDINGS = (".png", ".jpg", ".jpeg")  # one for another; the first that exists is taken
# Of images, as people name them. What is behind another dot is part of the name: study1.1, UIDs.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm", ".dicom"})


def find_file(path: str | Path) -> Path | None:
    """The file of that path, as the disk spells it; None where there is none. A path that is right costs one look."""
    path = Path(path)
    if os.path.isfile(path):
        return path
    folder, rest = _standing(path)
    found = _below(folder).find(rest) if rest else None
    return folder / found if found else None


def why_absent(path: str | Path) -> str:
    """What is known of a file that `find_file` does not find, in words to put behind "not found: PATH"; or ""."""
    path = Path(path)
    folder, rest = _standing(path)
    if os.path.islink(path):
        return f"; it is a link to {os.readlink(path)}, which is not there"
    if not rest:
        return "; it is a folder"
    if re.match(r"([A-Za-z]:|\\)\\|[A-Za-z]:/", rest):
        return "; that is a place on a Windows machine: name images relative to the image folder"
    parts = [part for part in rest.replace("\\", "/").split("/") if part not in ("", ".")]
    for i in range(1, len(parts)):
        if found := _below(folder).find("/".join(parts[i:])):
            return f"; {folder / found} is there: leave {'/'.join(parts[:i])}/ out of the name"
    if near := _below(folder).nearest(parts):
        return f"; {near}"
    return ""


class ImageNames:
    """The files below a folder, found by their names. Every folder is listed once, and again when it has changed."""

    def __init__(self, root: Path):
        """root: what names are relative to."""
        self._root = root
        self._list = lru_cache(maxsize=None)(self._read)

    def find(self, name: str) -> str | None:
        """The path below the folder as the disk spells it, with "/" between its parts; None where there is none."""
        found = ""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:  # the folder itself
            return None
        *folders, last = parts
        for part in folders:
            exact, alike = self._listed(found)
            here = part if part in exact else alike.get(_key(part))
            if here is None:
                return None
            found = f"{found}{here}/"
        exact, alike = self._listed(found)
        key = _key(last)
        keys = (key, *_endings(key), *_endings(without_suffix(key)))
        spelled = (last if last in exact else None, *(alike.get(key) for key in keys))
        return next((found + here for here in spelled if here and (self._root / found / here).is_file()), None)

    def nearest(self, parts: list[str]) -> str | None:
        """Where the search for a name of these parts ends, and the nearest name there."""
        found = ""
        for i, part in enumerate(parts):
            exact, alike = self._listed(found)
            here = part if part in exact else alike.get(_key(part))
            if here and i + 1 < len(parts):
                found += f"{here}/"
                continue
            where = self._root / found
            if not exact:
                return f"{where} is empty"
            # Another number is another patient, however alike the names are.
            alike = {key: name for key, name in alike.items() if _numbers(key) == _numbers(part)}
            near = difflib.get_close_matches(_key(part), alike, n=1, cutoff=_ALIKE)
            what = "folder" if i + 1 < len(parts) else "file"
            if near or what == "folder":
                return f"the nearest {what} in {where} is {alike[near[0]]}" if near else f"{where} has no folder {part}"
        return None

    def _listed(self, folder: str) -> tuple[frozenset[str], dict[str, str]]:
        try:
            stamp = (self._root / folder).stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return frozenset(), {}
        return self._list(folder, stamp)

    def _read(self, folder: str, _: int) -> tuple[frozenset[str], dict[str, str]]:
        """The names in a folder that was changed last at that time, and each by what it has in common with others."""
        try:
            names = os.listdir(self._root / folder)
        except NotADirectoryError:
            names = []
        return frozenset(names), {_key(name): name for name in sorted(names, reverse=True)}


def difference(name: str, found: str) -> str:
    """In words, how the name of a file that was found differs from the one that was asked for."""
    reasons = ["backslashes between folders"] if "\\" in name else []
    said = "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if unicodedata.normalize("NFC", said) != said or unicodedata.normalize("NFC", found) != found:
        reasons.append("accents as one character or two (NFC, NFD)")
    if any(part != part.strip() for text in (said, found) for part in text.split("/")):
        reasons.append("blanks at an end")
        said, found = ("/".join(part.strip() for part in text.split("/")) for text in (said, found))
    a, b = (unicodedata.normalize("NFC", text) for text in (said, found))
    if a != b and a.casefold() == b.casefold():
        reasons.append("capitals")
    elif a.casefold() != b.casefold():
        reasons.append("another ending")
    return " and ".join(reasons) or "the same name"


def without_suffix(name: str) -> str:
    """a/study1.1.png -> a/study1.1, and a/study1.1 as it is."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name


def _endings(stem: str) -> list[str]:
    return [stem + ending for ending in ENDINGS]


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _standing(path: Path) -> tuple[Path, str]:
    """The last folder of `path` that is there, and what of it is not."""
    folder = path
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    return folder, "/".join(path.parts[len(folder.parts) :])


@lru_cache(maxsize=64)
def _below(folder: Path) -> ImageNames:
    return ImageNames(folder)
