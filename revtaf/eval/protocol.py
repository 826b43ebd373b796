"""The `revtaf` protocol: what is done to a text before it is scored, and the signature that says so.

References are cleaned and cut to 100 words (`revtaf.data.text.clean_report`); hypotheses are only put in the
same spacing. Tokenisation moves these scores more than most models do (BLEU-1 .28 to .43 for the same pairs),
so every table carries the signature, as sacrebleu's do. Two numbers compare only where the signatures agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from revtaf import __version__
from revtaf.data.text import clean_report


@dataclass(frozen=True)
class Protocol:
    """The constants of a protocol. The defaults are the ones of the field's released evaluation code."""

    name: str = "revtaf"
    max_words: int = 100
    reference: str = "mimic-clean"
    hypothesis: str = "r2gen-post"
    bleu: str = "coco-closest"
    meteor: str = "1.5jar"
    rouge: str = "coco-b1.2"
    clinical: str = "pos-only,example"

    def signature(self, n: int, labeler: str, java: str, unit: str = "image") -> str:
        """For example `revtaf|n:294|unit:image|..|ce:rules-v1,pos-only,example|v0.1.0`.

        n: scored samples. labeler: its name and version. java: "java17", or "no-java" without METEOR.
        """
        fields = (
            self.name,
            f"n:{n}",
            f"unit:{unit}",
            f"ref:{self.reference}+{self.max_words}w",
            f"hyp:{self.hypothesis}",
            f"bleu:{self.bleu}",
            f"meteor:{self.meteor},{java}" if java.startswith("java") else "meteor:none",
            f"rouge:{self.rouge}",
            f"ce:{labeler},{self.clinical}",
            f"v{__version__}",
        )
        return "|".join(fields)


PROTOCOL = Protocol()


def postprocess(hypothesis: str) -> str:
    """Decoder text in the spacing of the references: "well - expanded. clear." -> "well-expanded . clear . ".

    Apply exactly once: a second pass doubles blanks, and ROUGE-L counts each of them as a word. The final
    blank is part of the published protocol, too, and costs ROUGE-L one empty word per report.
    """
    return (hypothesis + " ").replace(". ", " . ").replace(" - ", "-")


def reference_text(report: str) -> str:
    """The reference that is scored, from a raw report."""
    return clean_report(report, PROTOCOL.max_words)
