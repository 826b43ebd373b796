"""Report text: cleaning as the protocol prescribes, and splitting in sentences.

Three splits, for three texts: `split_raw_sentences` (raw, as the protocol cuts it before it cleans), `sentences`
(cleaned, what models are given), `readable_sentences` (any, for people).

The cleaning is the field's protocol (docs/method.md section 6.1; docs/evaluation.md, "Protocols"): lower case, numbered
lists and de-identification underscores removed, punctuation stripped, sentences joined by " . ", the first 100 words.
Its quirks ("2.5 cm" becomes "25 cm", a missing blank after a full stop glues two words) are part of every
published number and are kept; tests pin them.

It is made for English: it knows no accents in two characters, no full stop but ".", no language without blanks, and
takes "l'image" for a word. Texts in other languages have a cleaning of their own, `clean_words`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import lru_cache
from typing import Literal

# As published, the character class holds the range ":-[" (colon to opening bracket), hyphens stay.
_PUNCTUATION = re.compile(r"[.,?;*!%^&_+():-\[\]{}]")
SECTIONS = ("findings", "findings+impression")  # of a raw report: what a source may take as its text
_REMOVED = ('"', "'", "/", "\\")
Language = Literal["en", "other"]  # of the reports of a set: which of the two cleanings they get
# Blocks of letters that are written without blanks between words: Thai to Tibetan, Burmese, Khmer, kana, Chinese.
_WITHOUT_BLANKS = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF)),
    *((0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)

# What stands in the place of a text: an empty cell as programs write it, a removed word, somebody's name under it.
_PLACEHOLDERS = (
    "none nil nan nat null n na nothing blank empty unknown undefined missing unavailable pending awaiting awaited "
    "tbd tba deleted removed redacted deidentified phi name date test ditto idem id error ref value num div br nbsp "
    "p dr md m d signed electronically radiologist attending resident end intentionally left unk pad eos bos "
    "duplicate cancelled canceled void unsigned"
)
# Words that name a text or another examination, and words that send the reader to it.
_TEXTS = (
    "finding findings findingsimpression impression impressions conclusion conclusions report reports text texts "
    "note notes comment comments addendum body section sections paragraph page field summary interpretation "
    "dictation transcription description read reading result results imp impr data study studies exam exams "
    "examination examinations ct mr mri pet us ultrasound xray ray cxr chest radiograph radiographs film films "
    "detail details information discussion image images abdomen pelvis thorax procedure record chart pacs"
)
_REFERRING = (
    "see refer referred per as same above below following follow follows elsewhere under for from in on of to at by "
    "with and or the a an this that is are was were be been has have will it please pls also described stated "
    "detailed noted mentioned discussed listed documented reported dictated transcribed summarized entered "
    "available applicable given provided recorded done performed seen not no full final complete preliminary wet "
    "original official formal separate separately attached combined concurrent accompanying prior previous next "
    "other day today further more but"
)
_EMPTY_WORDS = frozenset(f"{_PLACEHOLDERS} {_TEXTS} {_REFERRING}".split())
_OFTEN_MISSPELT = ("findings", "impression", "conclusion")
_LONG = range(7, 13)  # letters
_CLOSE = 0.87  # difflib's ratio: one letter wrong; "compression" stays out
_WORD = re.compile(r"[^\W\d_]+")
_HIDDEN = re.compile(r"\[\*\*[^*]*\*\*\]")  # "[**Hospital1 18**]"
_NOT_APPLICABLE = re.compile(r"\bn\s?[./]\s?a\b")
_PIECE = re.compile(r"[^\W\n][\w'’ \t]*")  # what stands between two marks
_MOST_WORDS = 30  # between two marks; of these words alone nobody writes more, and matching takes the square of them
# Of those words alone, and yet a statement about the image: "No.", "No findings.", "None seen.", "Same as prior film."
_READ = "findings?|impressions?|conclusions?"
_NOT_WRITTEN = "available|given|provided|recorded|stated|dictated|reported|entered|pending"
_DENIES = re.compile(
    rf"no|no (?:\w+ )*(?:{_READ})\b(?!.*\b(?:{_NOT_WRITTEN})\b).*"
    r"|(?:none|nothing|nil|not)\b.*\b(?:seen|noted|described|mentioned|to report)\b.*"
    r"|.*\bsame\b.*\b(?:prior|previous)\b.*"
)


def says_nothing(text: str) -> bool:
    """Whether a report, a section or a sentence states nothing: no letter in it, or only what stands in for a text
    ("None.", "nan", "XXXX") or points elsewhere ("See impression.", "as above").

    "Unchanged." and "No findings." state something. Raw and cleaned texts are judged alike.
    """
    shown = _HIDDEN.sub(" ", text)
    if not all(_is_empty(word.group().lower()) for word in _WORD.finditer(shown)):  # ends at the first word of a report
        return False
    return not any(_states(piece.group()) for piece in _PIECE.finditer(_NOT_APPLICABLE.sub("na", shown.lower())))


@lru_cache(maxsize=65_536)
def _is_empty(word: str) -> bool:
    misspelt = len(word) in _LONG and difflib.get_close_matches(word, _OFTEN_MISSPELT, 1, _CLOSE)
    return word in _EMPTY_WORDS or set(word) == {"x"} or bool(misspelt)


def _states(piece: str) -> bool:
    """Whether empty words between two marks state something together, or are more than anybody writes."""
    words = [word for word in _WORD.findall(piece) if set(word) != {"x"}]  # XXXX: a removed word
    return len(words) > _MOST_WORDS or _DENIES.fullmatch(" ".join(words)) is not None


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


@lru_cache(maxsize=65_536)
def apart(character: str) -> bool:
    """Whether a character is a word of its own: a mark or a sign, or a letter of a language without blanks."""
    kind = unicodedata.category(character)
    return kind[0] in "PS" or (kind[0] == "L" and any(a <= ord(character) <= b for a, b in _WITHOUT_BLANKS))


def clean_words(text: str, max_words: int | None = None) -> str:
    """A report in any language as it is trained on, written and scored: words and marks between single blanks.

    Lower case; one spelling of what Unicode spells in several ways (NFKC: an accent in one character, full-width digits
    as plain ones); every punctuation mark is a word, and so is every character of a language without blanks, with the
    marks that combine with it. Nothing is removed but underscores and what cannot be seen. Raw texts, cleaned ones and
    what a decoder makes of their tokens come out the same: a second pass changes nothing. max_words: the first that
    are kept.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower()).translate(_SPACED)
    # NFC once more: a mark may have come next to its letter.
    words = _COMBINING.sub(rf"\1{_ENDS}", text).replace(_JOINS, "").replace(_ENDS, " ").split()
    return unicodedata.normalize("NFC", " ".join(words if max_words is None else words[:max_words]))


class _Spacing(dict):
    """For `str.translate`: a character -> what stands in its place. _JOINS is before a mark that combines, _ENDS behind
    a character that is apart."""

    def __missing__(self, code: int) -> str:
        character, kind = chr(code), unicodedata.category(chr(code))[0]
        if character.isspace() or character == "_":  # underscores stand for what was taken out of a text
            found = " "
        elif kind == "C" or character == "\ufffd":
            found = ""
        elif kind == "M":
            found = _JOINS + character
        else:
            found = f" {character}{_ENDS}" if apart(character) else character
        self[code] = found
        return found


_JOINS, _ENDS = "\0", "\1"  # the text itself holds no such characters any more
_SPACED = _Spacing()
_COMBINING = re.compile(f"{_ENDS}((?:{_JOINS}.)+)")  # of a character that is apart


def clean_for(language: Language, report: str, max_words: int | None) -> str:
    """What a model is trained on, of a report of a set in `language` (`data.language`)."""
    return clean_report(report, max_words) if language == "en" else clean_words(report, max_words)


def closed_up(text: str) -> str:
    """A text of `clean_words` without the blanks that its language does not write: "心 影 不 大 。" -> "心影不大。"."""

    def bound(character: str) -> bool:
        return apart(character) and not character.isascii()

    words = text.split()
    pieces = words[:1]
    for before, word in zip(words, words[1:], strict=False):
        pieces.append(word if bound(before[0]) and bound(word[0]) else f" {word}")
    return "".join(pieces)


def sentences(cleaned: str) -> list[str]:
    """The sentences of a cleaned report, without their full stops; none of a text of blanks and full stops."""
    return [s.strip() for s in re.split(r"\s[.\u3002\u0964](?:\s|$)", cleaned) if s.strip(" .\u3002\u0964")]


def readable(text: str) -> str:
    """A report of any kind (raw, cleaned, written) to be read: no line breaks, full stops next to their word."""
    return re.sub(r"\s+([.,])", r"\1", " ".join(text.split())).strip(" ")


def readable_sentences(text: str) -> list[str]:
    """The sentences of a report of any kind, each with its full stop; what people read, not what is trained on."""
    return [s for s in re.split(r"(?<=\.)\s+", readable(text)) if s.strip(" .")]
