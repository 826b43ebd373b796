"""One line of `revtaf check`: something that is there, or is not, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckLine:
    """level: "ok", "note" (the run works without it) or "error" (it does not).

    stand_in: of an error that `missing=stand-in` would make a note, what would take whose place.
    """

    level: str
    what: str
    advice: str = ""
    stand_in: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok   ", "note": "note ", "error": "ERROR"}[self.level]
        return f"{mark}  {self.what}" + (f"\n         -> {self.advice}" if self.advice else "")
