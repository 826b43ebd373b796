"""Reports put together from the sentences of several: what a decoder that is to follow its prompt learns from.

A few thousand reports are soon known by heart, nearly all of them hold the same normal sentences, and a rare finding
stands in a handful. In a recombined report findings of other reports stand in the place of what contradicts them, so
that nothing but the prompt tells what comes (`decoder.recombined`; docs/method.md section 6.2, not in the paper).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from revtaf.data.text import sentences
from revtaf.eval.texts import label_texts
from revtaf.knowledge.base import Labeler
from revtaf.labels import BLANK, NO_FINDING, POSITIVE

MOST = 3  # findings that are put in
LEFT_OUT = 0.5  # of the recombined reports lack a sentence
# Says that all is well and names no category, such as "the lungs are clear": contradicts any finding.
_WELL = re.compile(
    r"\b(?:lungs?|chest|examination|exam)\b(?!.*\b(?:tube|catheter|wall|views?)\b).*\b(?:clear|normal|unremarkable)\b"
    r"|\bno (?:evidence of )?(?:an )?(?:acute|active)\b"
)


class Recombiner:
    """Makes reports of the sentences of N cleaned training reports."""

    def __init__(
        self,
        reports: Sequence[str],
        labeler: Labeler,
        categories: int,
        max_words: int,
        remembering: Labeler | None = None,
    ):
        """The labeler reads every report that is made; of its statuses `categories` are kept. max_words: of a report,
        as the training reports are cut. remembering: reads every distinct sentence once, where it is another."""
        self.labeler, self.categories, self.max_words = labeler, categories, max_words
        self.sentences = [_whole(report) for report in reports]
        distinct = list(dict.fromkeys(sentence for report in self.sentences for sentence in report))
        found = self._label([f"{sentence} ." for sentence in distinct], remembering or labeler)
        found[:, NO_FINDING] = BLANK  # of a whole report, not of a sentence
        self.statuses = dict(zip(distinct, found, strict=True))  # (K,) uint8 of each
        self.well = {s for s, statuses in self.statuses.items() if not statuses.any() and _WELL.search(s)}
        donors: dict[int, list[tuple[int, int]]] = {}
        for row, report in enumerate(self.sentences):
            for place, sentence in enumerate(report):
                for category in np.flatnonzero(self.statuses[sentence] == POSITIVE):
                    donors.setdefault(int(category), []).append((row, place))
        self.donors = [donors[category] for category in sorted(donors)]  # report and place of each category's findings

    def make(self, rows: Sequence[int], draw: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """Reports that begin as those of `rows` (n,) -> n cleaned texts and their statuses (n, K) uint8."""
        texts = [self._recombined(row, draw) for row in rows]
        return texts, self._label(texts, self.labeler)

    def _recombined(self, row: int, draw: np.random.Generator) -> str:
        """None to MOST findings are put in, of categories drawn evenly, at about the place where their reports have
        them; what the report says of the same categories goes, and that all is well. An empty report stays empty."""
        chosen = _placed(self.sentences[row])
        for _ in range(int(draw.integers(MOST + 1)) if self.donors and chosen else 0):
            findings = self.donors[draw.integers(len(self.donors))]
            donor, number = findings[draw.integers(len(findings))]
            place, finding = _placed(self.sentences[donor])[number]
            said = self.statuses[finding] != BLANK
            chosen = [
                (p, s) for p, s in chosen if s not in self.well and not (said & (self.statuses[s] != BLANK)).any()
            ]
            chosen.append((place, finding))
        if len(chosen) > 1 and draw.random() < LEFT_OUT:
            del chosen[draw.integers(len(chosen))]
        return " ".join(" ".join(f"{sentence} ." for _, sentence in sorted(chosen)).split()[: self.max_words])

    def _label(self, texts: Sequence[str], labeler: Labeler) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.categories), dtype=np.uint8)
        return label_texts(labeler, texts)[:, : self.categories]


def _whole(report: str) -> list[str]:
    """Its sentences, without a last one that was cut."""
    found = sentences(report)
    return found if len(found) < 2 or report.rstrip().endswith(".") else found[:-1]


def _placed(report: Sequence[str]) -> list[tuple[float, str]]:
    """Each sentence with where it stands, 0 to 1."""
    return [((number + 0.5) / len(report), sentence) for number, sentence in enumerate(report)]
