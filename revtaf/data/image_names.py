"""Images by the names that tables give them, where the disk spells the names otherwise.

Tables are written on one system and read on another: backslashes between folders, accents in one character or in two
(NFC, NFD), `.JPG` for `.jpg`, PNG where the table says JPEG. Each is found, and said.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath

ENDINGS = (".png", ".jpg", ".jpeg")  # one for another; the first that exists is taken


class ImageNames:
    """The files below a folder, found by their names. Every folder is listed once, when it is first asked for."""

    def __init__(self, root: Path):
        """root: what names are relative to."""
        self._root = root
        self._listed = lru_cache(maxsize=None)(self._list)

    def find(self, name: str) -> str | None:
        """The path below the folder as the disk spells it, with "/" between its parts; None where there is none."""
        found = ""
        *folders, last = (part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        for part in folders:
            exact, alike = self._listed(found)
            here = part if part in exact else alike.get(_key(part))
            if here is None:
                return None
            found = f"{found}{here}/"
        exact, alike = self._listed(found)
        stem = PurePosixPath(_key(last)).stem
        spelled = (last if last in exact else None, *(alike.get(key) for key in (_key(last), *_endings(stem))))
        return next((found + here for here in spelled if here and (self._root / found / here).is_file()), None)

    def _list(self, folder: str) -> tuple[frozenset[str], dict[str, str]]:
        try:
            names = os.listdir(self._root / folder)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        return frozenset(names), {_key(name): name for name in sorted(names, reverse=True)}


def difference(name: str, found: str) -> str:
    """In words, how the name of a file that was found differs from the one that was asked for."""
    said = name.replace("\\", "/")
    reasons = ["backslashes between folders"] if said != name else []
    if unicodedata.normalize("NFC", said) != said or unicodedata.normalize("NFC", found) != found:
        reasons.append("accents as one character or two (NFC, NFD)")
    a, b = (unicodedata.normalize("NFC", text) for text in (said, found))
    if a != b and a.casefold() == b.casefold():
        reasons.append("capitals")
    elif a.casefold() != b.casefold():
        reasons.append("another ending")
    return " and ".join(reasons) or "the same name"


def _endings(stem: str) -> list[str]:
    return [stem + ending for ending in ENDINGS]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
