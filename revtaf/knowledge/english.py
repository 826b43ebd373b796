"""How much of a text the labelers can read: the share of its words that are English words of a radiology report.

Phrase rules and CheXbert know English. Of a German text they find the findings, whose names are alike, and miss what
denies them: "Kein Pneumothorax" is positive. Nothing in the statuses shows it, the words do.

The words known are those of the phrase lists and of `english.txt`, a fixed list, with the common endings. A text's
words are its runs of letters; a Chinese or Japanese character is one. Not counted are numbers, single letters and marks
of de-identification ("XXXX", "___").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from revtaf.data.text import apart

THRESHOLD = 0.6  # docs/labeler.md, "Reports that are not English": what was measured on either side
FEWEST = 10  # words; of fewer nothing is said
SAMPLE = 2_000  # texts that are read of a set, evenly spread
WAYS_OUT = (
    "knowledge.labeler=annotation, with statuses in its `labels`, or knowledge.labeler=none: no statuses, no "
    "classifier, no LRE, no clinical scores, and CIDEr chooses the checkpoint; docs/data.md, Reports that are not "
    "English"
)
_HERE = Path(__file__).parent
_LETTERS = re.compile(r"[^\W\d_]+")
_HIDDEN = re.compile(r"x{2,}")
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "ly", "al", "y", "ies", "ity", "ities")


@dataclass(frozen=True)
class Reading:
    """What the labelers know of texts. words: counted; known: of them; example: a text, or its beginning, of which
    they know least."""

    words: int
    known: int
    example: str

    @property
    def share(self) -> float:
        """Of the words that count, 0 to 1; 1 where none does."""
        return self.known / self.words if self.words else 1.0

    @property
    def foreign(self) -> bool:
        """Whether the texts are no English that a labeler could read."""
        return self.words >= FEWEST and self.share < THRESHOLD

    def refusal(self, where: str) -> str:
        """Why no labeler reads the texts of `where`, in a sentence."""
        return (
            f"{where}: the labelers read English, and know {self.share:.0%} of the words ({THRESHOLD:.0%} at least are "
            f"needed), next to none of {self.example!r}: they would find the findings and miss what denies them"
        )


def sampled(texts: Sequence[str]) -> Sequence[str]:
    """At most SAMPLE of the texts, evenly spread."""
    return texts[:: -(-len(texts) // SAMPLE)] if texts else []


def read(texts: Sequence[str]) -> Reading:
    """Count the words of a sample of the texts."""
    counts = [(*_count(text), text) for text in sampled(texts)]
    words, known = sum(n for n, _, _ in counts), sum(k for _, k, _ in counts)
    worst = max(counts, key=lambda c: c[0] - 2 * c[1], default=(0, 0, ""))[2]
    return Reading(words, known, " ".join(worst.split())[:80])


def _count(text: str) -> tuple[int, int]:
    """Words that count, and how many of them are known."""
    counted = list(_words(text))
    return len(counted), sum(map(_is_known, counted))


def _words(text: str) -> Iterable[str]:
    text = text.lower().replace("'", "").replace("\u2019", "")
    for run in _LETTERS.findall("".join(f" {c} " if apart(c) else c for c in text)):
        if (len(run) > 1 or not run.isascii()) and not _HIDDEN.fullmatch(run):
            yield run


def _is_known(word: str) -> bool:
    vocabulary = _vocabulary()
    return any(word.endswith(end) and word[: len(word) - len(end)] in vocabulary for end in _ENDINGS)


@cache
def _vocabulary() -> frozenset[str]:
    lines = (_HERE / "english.txt").read_text(encoding="utf-8").splitlines()
    words = {word for line in lines if not line.startswith("#") for word in line.split()}
    for path in sorted((_HERE / "phrases").rglob("*.yaml")):
        words |= set(_letters_in(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for path in sorted((_HERE / "phrases" / "chexpert").rglob("*.txt")):
        words |= set(_LETTERS.findall(path.read_text(encoding="utf-8").lower().replace("_", " ")))
    return frozenset(words)


def _letters_in(content: object) -> Iterable[str]:
    """Every run of letters in the texts of a YAML file; of an expression ("opacit(?:y|ies)") its pieces."""
    if isinstance(content, str):
        yield from _LETTERS.findall(re.sub(r"\\[a-zA-Z]|\(\?[:!<=]+", " ", content.lower()))
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _letters_in(key)
            yield from _letters_in(value)
    elif isinstance(content, list):
        for item in content:
            yield from _letters_in(item)
