"""Report text: cleaning as the protocol prescribes, and splitting in sentences.

Three splits, for three texts: `split_raw_sentences` (raw, as the protocol cuts it before it cleans), `sentences`
(cleaned, what models are given), `readable_sentences` (any, for people).

The cleaning is the field's protocol (docs/method.md section 6.1; docs/evaluation.md, "Protocols"): lower case, numbered
lists and de-identification underscores removed, punctuation stripped, sentences joined by " . ", the first 100 words.
Its quirks ("2.5 cm" becomes "25 cm", a missing blank after a full stop glues two words) are part of every
published number and are kept; tests pin them.
"""

from __future__ import annotations

import re

# As published, the character class holds the range ":-[" (colon to opening bracket), hyphens stay.
_PUNCTUATION = re.compile(r"[.,?;*!%^&_+():-\[\]{}]")
SECTIONS = ("findings", "findings+impression")  # of a raw report: what a source may take as its text
_REMOVED = ('"', "'", "/", "\\")

# Sentences of words alone that state nothing, as one expression: "None.", "See impression below.", "N/A", "as above".
_TEXT = r"(?:findings?|impressions?|conclusions?|reports?|text)"
_THERE = rf"(?:{_TEXT}|notes?|comments?|addendum|body|ct|mri?|above|below)"
_ELSEWHERE = rf"(?:(?:the|this|full|final|separate|chest|ct|mri?) )*{_THERE}"
_NOTHING = re.compile(
    r"(?:none|nil|nan|null|nothing|na|n a|not applicable|blank|empty|unknown|pending|deleted|redacted|ditto|x+)"
    rf"|(?:(?:no|none) )?{_TEXT}"  # a heading, "Report:"; but "No findings." states something
    rf"|(?:(?:no|none) )?(?:{_TEXT} )?(?:is |are |was |were )?(?:not |un)?"
    r"(?:available|given|provided|recorded|stated|dictated|reported|pending)(?: separately| elsewhere)?"
    rf"|(?:{_TEXT} )?(?:is |are )?(?:please )?(?:as |same )*(?:described |stated |detailed |noted |mentioned )*"
    rf"(?:see|seen|refer to|per|under|in|above|below)(?: {_ELSEWHERE})?(?: (?:and|or|of|in) {_ELSEWHERE})*"
    r"(?: above| below| section)*(?: for (?:\w+ )?\w+)?"
)
_SAYS_LITTLE = re.compile(r"no (?:findings?|impressions?|conclusions?)")


def says_nothing(text: str) -> bool:
    """Whether a report, a section or a sentence states nothing: no word in it, or only "None.", "see impression"."""
    parts = re.split(r"[.;:!?\n]+", re.sub(r"\bn\.a\b|\bn/a\b", "na", text.lower()))
    words = (" ".join(re.findall(r"[^\W_]+", part)) for part in parts)
    return all(not part or (_NOTHING.fullmatch(part) and not _SAYS_LITTLE.fullmatch(part)) for part in words)


def split_raw_sentences(report: str) -> list[str]:
    """Lower-cased raw sentences, without line breaks and list numbers; may hold blank ones."""
    text = re.sub(r"_+", "_", re.sub(r"[\r\n\t]", " ", report))
    text = re.sub(r"\.{2,}", ".", re.sub(r" {2,}", " ", text))
    text = text.replace("1. ", "")
    for number in "2345":
        text = text.replace(f". {number}. ", ". ").replace(f" {number}. ", ". ")
    return text.strip().lower().split(". ")


def clean_report(report: str, max_words: int | None = 100) -> str:
    """The reference text that is trained on and scored under the `revtaf` protocol.

    Returns sentences joined by " . " and ended by " .", cut to the first `max_words` blank-separated words
    (a cut text therefore ends without full stop). An empty report gives " .", as published.
    """
    parts = []
    for sentence in split_raw_sentences(report):
        for mark in _REMOVED:
            sentence = sentence.replace(mark, "")
        parts.append(_PUNCTUATION.sub("", sentence.strip()))
    text = " . ".join(parts) + " ."
    return text if max_words is None else " ".join(text.split(" ")[:max_words])


def sentences(cleaned: str) -> list[str]:
    """The sentences of a cleaned report, without their full stops; none of a text of blanks and full stops."""
    return [s.strip() for s in re.split(r"\s\.(?:\s|$)", cleaned) if s.strip(" .")]


def readable(text: str) -> str:
    """A report of any kind (raw, cleaned, written) to be read: no line breaks, full stops next to their word."""
    return re.sub(r"\s+([.,])", r"\1", " ".join(text.split())).strip(" ")


def readable_sentences(text: str) -> list[str]:
    """The sentences of a report of any kind, each with its full stop; what people read, not what is trained on."""
    return [s for s in re.split(r"(?<=\.)\s+", readable(text)) if s.strip(" .")]
