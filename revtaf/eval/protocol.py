"""Protocols by name: what is done to a text before it is scored, and the signature that says so.

Tokenisation moves these scores more than most models do (BLEU-1 .28 to .43 for the same pairs), so every table carries
the signature, as sacrebleu's do. Two numbers compare only where the signatures agree. `revtaf` is the protocol of the
paper's tables; the others answer how the same predictions stand elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from revtaf import __version__
from revtaf.data.text import Language, clean_report, clean_words
from revtaf.errors import UserError
from revtaf.eval.meteor import version as meteor_name
from revtaf.files import digest

UNKNOWN = "<unk>"
UNLABELLED = "none"  # in the place of a labeler: nobody labels
_SHARE_TOLD = 0.001  # of tokens that can never match
# Of tokens with capitals or marks: a row with fewer is written without them, one with more with them.
_SHARE_PLAIN, _SHARE_MARKED = 0.01, 0.05
_HYPHEN = re.compile(r"(?<=\w)\s*-\s*(?=\w)")
_BREAK = re.compile(r"\r\n|[^\S ]")  # a line's end, a tab
_TOKEN = re.compile(r"\w+(?:-\w+)*|[^\w\s]")


class Processed(str):
    """A text that a protocol has processed: no protocol takes it again. Texts in files have lost this mark;
    `revtaf.eval.records.looks_processed` knows them by their spacing."""

    __slots__ = ()


@dataclass(frozen=True)
class Protocol:
    """What a protocol does to references and hypotheses, and why (`choices`, one sentence each).

    clean_reference, clean_hypothesis: text -> text; their names in the signature follow. max_words: blank-separated
    words of a reference that are kept, max_words_hypothesis likewise; None keeps all. min_count: words rarer than this
    in the training reports become <unk> in the references (and, with unknown_in_hypothesis, in the hypotheses), once
    `fit` has counted them.
    """

    name: str
    description: str
    choices: tuple[str, ...]
    clean_reference: Callable[[str], str]
    clean_hypothesis: Callable[[str], str]
    reference_name: str
    hypothesis_name: str
    max_words: int | None = None
    max_words_hypothesis: int | None = None
    min_count: int | None = None
    unknown_in_hypothesis: bool = False
    vocabulary: frozenset[str] | None = None
    refuses_processed: bool = False  # whether a text in scored spacing would change at a second pass

    def reference(self, text: str) -> Processed:
        """The reference that is scored, from a raw report. TypeError for a text that is processed already."""
        return self._processed(text, self.clean_reference, self.max_words, self.vocabulary)

    def hypothesis(self, text: str) -> Processed:
        """The hypothesis that is scored, from a system's text. TypeError for a text that is processed already."""
        vocabulary = self.vocabulary if self.unknown_in_hypothesis else None
        return self._processed(text, self.clean_hypothesis, self.max_words_hypothesis, vocabulary)

    def unmatchable(self, texts: Iterable[str]) -> float:
        """The share of tokens, 0 to 1, of processed texts that no reference of this protocol can hold: those with
        capitals or marks that its cleaning removes."""
        counts = Counter(token for text in texts for token in text.split())
        lost = sum(n for token, n in counts.items() if token not in self.clean_reference(token).split())
        return lost / max(counts.total(), 1)

    def fit(self, train_reports: Iterable[str]) -> Protocol:
        """The protocol with the words of raw training reports, one a training sample; itself where it counts none."""
        if self.min_count is None:
            return self
        counts = Counter(word for report in train_reports for word in self.clean_reference(report).split())
        kept = frozenset(word for word, count in counts.items() if count >= self.min_count)
        if not kept:
            raise UserError(f"protocol {self.name}: no word occurs {self.min_count} times in the training reports")
        return replace(self, vocabulary=kept)

    def signature(self, n: int, labeler: str, java: str, unit: str = "image", clusters: str | None = None) -> str:
        """For example `revtaf|n:294|unit:image|..|ce:rules-v3,pos-only,example|v0.1.0`.

        n: scored samples. labeler: its name and version, or "none". java: "java17", or "no-java" without METEOR.
        clusters: what intervals are drawn over, for example "289subj".
        """
        fields = (
            self.name,
            f"n:{n}",
            f"unit:{unit}",
            *([f"clusters:{clusters}"] if clusters else []),
            f"ref:{self.reference_name}{_cut(self.max_words)}{self._unknown()}",
            f"hyp:{self.hypothesis_name}{_cut(self.max_words_hypothesis)}"
            + (self._unknown() if self.unknown_in_hypothesis else ""),
            "bleu:coco-closest",
            f"meteor:{meteor_name(java) or 'none'}",
            "rouge:coco-b1.2",
            "ce:none" if labeler == UNLABELLED else f"ce:{labeler},pos-only,example",
            f"v{__version__}",
        )
        return "|".join(fields)

    def _processed(self, text: str, clean: Callable[[str], str], limit: int | None, vocabulary) -> Processed:
        if isinstance(text, Processed):
            raise TypeError(f"protocol {self.name} was given a text that is processed already: {text!r:.80}")
        cleaned = clean(text)
        if limit is not None:
            cleaned = " ".join(cleaned.split(" ")[:limit])
        if vocabulary is not None:
            cleaned = " ".join(word if word in vocabulary else UNKNOWN for word in cleaned.split())
        return Processed(cleaned)

    def _unknown(self) -> str:
        """Of the signature: which words are <unk>. The digest tells two training sets apart."""
        if self.min_count is None:
            return ""
        if self.vocabulary is None:
            return "+no-unk"
        return f"+unk<{self.min_count}({len(self.vocabulary)}w,{digest(sorted(self.vocabulary))[:8]})"


def form_notes(lost: Mapping[str, float], marked: Mapping[str, float], protocol: Protocol) -> list[str]:
    """What of each row's spelling can never be found in a reference, and which rows are written in another form than
    the rest. lost: row -> `protocol.unmatchable` of its texts; marked: row -> that of `PROTOCOL`."""
    notes = [
        f"{row}: {share:.1%} of its tokens can never match, as {protocol.name} takes capitals and punctuation from the "
        "references alone; --protocol clean reads both sides alike."
        for row, share in lost.items()
        if share >= _SHARE_TOLD
    ]
    written = [row for row, share in marked.items() if share >= _SHARE_MARKED]
    plain = [row for row, share in marked.items() if share < _SHARE_PLAIN]
    if written and plain:
        marks, way_out = "punctuation", "--protocol r2gen takes it from both sides"
        if notes:
            marks, way_out = "capitals and punctuation", "--protocol clean reads both sides alike"
        notes.append(
            f"{_listed(written)} written with {marks}, {_listed(plain)} not: their difference is one of spelling, too; "
            f"{way_out}."
        )
    return notes


def _listed(rows: list[str]) -> str:
    return f"{', '.join(rows)} {'is' if len(rows) == 1 else 'are'}"


def _decoder_text(text: str) -> str:
    """Decoder text in the spacing of the references: "well - expanded. clear." -> "well-expanded . clear . "."""
    return (text + " ").replace(". ", " . ").replace(" - ", "-")


def _single_blanks(text: str) -> str:
    """R2Gen's cleaning, then words as its tokenizer takes them, between any blanks."""
    return " ".join(clean_report(text, max_words=None).split())


def _lower(text: str) -> str:
    """Lower case on one line; every blank stays."""
    return _BREAK.sub(" ", text.lower())


def _clean(text: str) -> str:
    """Lower case, hyphens joined, every other mark a word of its own. The same for raw and for decoder text."""
    return " ".join(_TOKEN.findall(_HYPHEN.sub("-", text.lower().replace("_", " "))))


def _cut(limit: int | None) -> str:
    return "" if limit is None else f"+{limit}w"


PROTOCOL = Protocol(
    name="revtaf",
    description="the paper's tables (PromptMRG's evaluation code)",
    choices=(
        "References: lower case, list numbers and punctuation removed, sentences joined by ' . ', the first 100 words.",
        "Its quirks stay: '2.5 cm' becomes '25 cm', 'clear.There' becomes 'clearthere', '1. ' is deleted anywhere.",
        "Hypotheses: decoder text; full stops set apart and ' - ' joined, nothing cleaned or cut; a final blank stays.",
    ),
    clean_reference=lambda text: clean_report(text, max_words=None),
    clean_hypothesis=_decoder_text,
    reference_name="mimic-clean",
    hypothesis_name="r2gen-post",
    max_words=100,
    refuses_processed=True,
)

_R2GEN = Protocol(
    name="r2gen",
    description="R2Gen on MIMIC-CXR: its cleaning, its vocabulary, 100 words",
    choices=(
        "References: cleaned as under `revtaf`, words between any blanks, the first 100.",
        "Words that occur fewer than 10 times in the training reports become <unk>; without training reports none do.",
        "Assumed: every training sample counts its report, the start token takes none of the 100 places, and texts of "
        "other systems are cleaned, cut and limited to the vocabulary like those of R2Gen's decoder.",
    ),
    clean_reference=_single_blanks,
    clean_hypothesis=_single_blanks,
    reference_name="r2gen-clean",
    hypothesis_name="r2gen-clean",
    max_words=100,
    max_words_hypothesis=100,
    min_count=10,
    unknown_in_hypothesis=True,
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        PROTOCOL,
        _R2GEN,
        replace(
            _R2GEN,
            name="r2gen-iu",
            description="R2Gen on IU X-Ray: its cleaning, its vocabulary, 60 words",
            choices=(
                "As `r2gen`, with the first 60 words and <unk> for words that occur fewer than 3 times.",
                "Assumed: the cleaning is that for MIMIC-CXR; else as for `r2gen`.",
            ),
            max_words=60,
            max_words_hypothesis=60,
            min_count=3,
        ),
        replace(
            _R2GEN,
            name="cvt2distilgpt2",
            description="CvT2DistilGPT2 on MIMIC-CXR: R2Gen's references, the system's text in full",
            choices=(
                "References: as `r2gen`, which its scores named 'chen' are taken against.",
                "Assumed: hypotheses are cleaned like the references, and neither cut nor limited to the vocabulary, "
                "because its decoder writes sub-words.",
            ),
            max_words_hypothesis=None,
            unknown_in_hypothesis=False,
        ),
        Protocol(
            name="raw",
            description="the texts as they are, in lower case",
            choices=(
                "Both sides: lower case, words between blanks, nothing removed or cut; 'clear.' is not 'clear'.",
                "Doubled blanks stay: ROUGE-L counts each further one as a word, as pycocoevalcap does.",
            ),
            clean_reference=_lower,
            clean_hypothesis=_lower,
            reference_name="lower+blanks",
            hypothesis_name="lower+blanks",
        ),
        Protocol(
            name="clean",
            description="recommended for new work: both sides alike, nothing lost",
            choices=(
                "Both sides: lower case, each punctuation mark a word of its own, hyphens between words joined.",
                "Nothing is cut; numbers and list numbers stay; underscores, which hide names, are no words.",
                "A second pass changes nothing, and raw text and its BERT-decoded form ('2. 5 cm') come out the same.",
            ),
            clean_reference=_clean,
            clean_hypothesis=_clean,
            reference_name="clean",
            hypothesis_name="clean",
        ),
        Protocol(
            name="unicode",
            description="any language: accents kept, Chinese, Japanese and Thai by characters",
            choices=(
                "Both sides: lower case, Unicode's NFKC, each mark a word of its own, hyphens and apostrophes too.",
                "A letter of a language that is written without blanks is a word, with the marks that combine with it.",
                "Nothing is cut; underscores, which hide names, are no words. METEOR runs in its English setting: its "
                "stems, synonyms and function words find little, and exact matches decide.",
            ),
            clean_reference=clean_words,
            clean_hypothesis=clean_words,
            reference_name="nfkc-words",
            hypothesis_name="nfkc-words",
        ),
    )
}


def protocol_of(language: Language) -> Protocol:
    """What the reports of a set in `language` (`data.language`) are scored by."""
    return PROTOCOL if language == "en" else PROTOCOLS["unicode"]


def postprocess(hypothesis: str) -> Processed:
    """Decoder text as the `revtaf` protocol scores it. A second pass is refused: it would double blanks, and ROUGE-L
    counts each of them as a word."""
    return PROTOCOL.hypothesis(hypothesis)


def reference_text(report: str) -> Processed:
    """The reference that the `revtaf` protocol scores, from a raw report."""
    return PROTOCOL.reference(report)
