"""A report as the text encoder reads it: which sections, and as which tokens.

Texts longer than the context are cut. How many that are is said in every report of a run, because much of a report may
be lost: of IU X-Ray's findings with impressions 18 % exceed CLIP's 77 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from revtaf.comparators.medfuse.settings import CLIP_TOKENS, TextTowerSettings
from revtaf.data.annotations import Study
from revtaf.data.text import Language, readable_sentences
from revtaf.errors import UserError
from revtaf.tokenizer import ReportTokenizer

FILE = "tokenizer.json"  # of a vocabulary that was fitted


def report_text(study: Study, sections: str) -> str:
    """`report`, or with the study's impression behind or before it; line breaks and repeated blanks are one blank."""
    parts = {"report": study.report, "impression": study.impression}
    return " ".join(" ".join(parts[name] for name in sections.split("+")).split())


class TextTokens:
    """Texts -> token ids with a start and an end, cut to `context`. `size`: of the vocabulary."""

    def __init__(self, context: int, fitted: ReportTokenizer | None = None):
        """fitted: None for CLIP's byte pairs, which come with open_clip."""
        self.context, self.fitted = context, fitted
        if fitted is None:
            from open_clip.tokenizer import SimpleTokenizer

            self.clip = SimpleTokenizer(context_length=context)
            self.start, self.end, self.pad, self.size = self.clip.sot_token_id, self.clip.eot_token_id, 0, CLIP_TOKENS
        else:
            self.start, self.end, self.pad, self.size = fitted.start, fitted.end, fitted.pad, fitted.size

    @classmethod
    def fit(cls, settings: TextTowerSettings, texts: Sequence[str], language: Language = "en") -> TextTokens:
        """CLIP's, or of the training texts."""
        if settings.tokens != "train":
            return cls(settings.context)
        return cls(settings.context, ReportTokenizer.fit(texts, settings.vocabulary_size, language))

    @classmethod
    def open(cls, folder: Path, settings: TextTowerSettings) -> TextTokens:
        """What `save` wrote."""
        return cls(settings.context, ReportTokenizer.load(folder / FILE) if settings.tokens == "train" else None)

    def save(self, folder: Path) -> None:
        """A fitted vocabulary; CLIP's is the same everywhere."""
        if self.fitted is not None:
            self.fitted.save(folder / FILE)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, whole, without start and end."""
        return self.fitted.encode(texts) if self.fitted is not None else [self.clip.encode(text) for text in texts]

    def ended(self, pieces: Sequence[int]) -> list[int]:
        """With start and end, and cut."""
        return [self.start, *pieces[: self.context - 2], self.end]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, as the encoder gets them. UserError for a text of blanks."""
        for number, text in enumerate(texts):
            if not text.strip():
                raise UserError(f"text {number + 1} of {len(texts)} is empty: there is nothing to look for")
        return [self.ended(ids) for ids in self.pieces(texts)]

    def truncated(self, texts: Sequence[str]) -> float:
        """The share of texts that lose their end."""
        return float(np.mean([len(ids) > self.context - 2 for ids in self.pieces(texts)]))


class SentenceTokens:
    """Training texts as the tokens of their sentences, which may be shuffled and left out, as
    `TextTowerSettings.augment` says; the draw depends on its generator alone."""

    def __init__(self, tokens: TextTokens, texts: Sequence[str], settings: TextTowerSettings):
        self.tokens, self.whole = tokens, settings.whole
        self.varied = settings.augment == "sentences"
        split = [readable_sentences(text) or [text] if self.varied else [text] for text in texts]
        pieces = iter(tokens.pieces([sentence for sentences in split for sentence in sentences]))
        self.sentences = [[next(pieces) for _ in sentences] for sentences in split]

    def text(self, row: int, draw: np.random.Generator) -> list[int]:
        """Ids of the text of a row, with start and end."""
        sentences = self.sentences[row]
        if self.varied and draw.random() >= self.whole:
            kept = draw.permutation(len(sentences))[: draw.integers(1, len(sentences) + 1)]
            sentences = [sentences[i] for i in kept]
        return self.tokens.ended([piece for ids in sentences for piece in ids])
