"""BLEU-1..4, METEOR, ROUGE-L and CIDEr as the COCO evaluation computes them (supplement, Tables 1 to 3).

BLEU and METEOR are computed over the corpus, ROUGE-L (beta 1.2, words split at single blanks) and CIDEr are
means over samples. CIDEr takes its document frequencies from the references of the call, so that it depends
on the evaluated set and is 0 for a single sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from revtaf.eval.meteor import Meteor, MeteorError, unavailable_reason

METRICS = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L", "CIDEr")

References = Sequence[str | Sequence[str]]


def compute(
    references: References,
    hypotheses: Sequence[str],
    java: str | None = None,
    meteor: bool | Meteor = True,
) -> dict[str, float | None]:
    """All metrics of N processed texts.

    references: N texts, or N lists of texts (several references each). hypotheses: N texts.
    java: the Java for METEOR, found by itself if not given. meteor: False leaves METEOR out; a running client
    is used and left open, which saves its ten seconds of start-up in a series of calls.
    Returns METRICS -> value; METEOR is None where it was left out or failed, the latter with a warning that
    says why (`meteor_status` says beforehand). Raises ValueError for no input or for unequal lengths.
    """
    lists = _checked(references, hypotheses)
    gts = dict(enumerate(lists))
    res = {i: [h] for i, h in enumerate(hypotheses)}
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, _ = Rouge().compute_score(gts, res)
    cider, _ = Cider().compute_score(gts, res)
    scores: dict[str, float | None] = {f"BLEU_{n}": float(value) for n, value in enumerate(bleu, start=1)}
    scores["METEOR"] = None
    scores["ROUGE_L"] = float(rouge)
    scores["CIDEr"] = float(cider)
    if meteor:
        try:
            scores["METEOR"] = corpus_meteor(lists, hypotheses, java, meteor)
        except MeteorError as error:
            warnings.warn(str(error), stacklevel=2)
    return scores


def corpus_meteor(
    references: References,
    hypotheses: Sequence[str],
    java: str | None = None,
    client: bool | Meteor = True,
) -> float:
    """METEOR alone. Raises MeteorError with the reason where it cannot be computed."""
    lists = _checked(references, hypotheses)
    if isinstance(client, Meteor):
        return client.score(lists, hypotheses)
    with Meteor(java) as own:
        return own.score(lists, hypotheses)


def meteor_status(java: str | None = None) -> str | None:
    """Why METEOR cannot run here, in one sentence, or None if it can."""
    return unavailable_reason(java)


def _checked(references: References, hypotheses: Sequence[str]) -> list[list[str]]:
    if len(references) != len(hypotheses):
        raise ValueError(f"got {len(references)} references and {len(hypotheses)} hypotheses; they must pair up")
    if not len(hypotheses):
        raise ValueError("nothing to score: no references and no hypotheses")
    lists = [[r] if isinstance(r, str) else list(r) for r in references]
    for i, (texts, hypothesis) in enumerate(zip(lists, hypotheses, strict=True)):
        if not texts:
            raise ValueError(f"sample {i} has no reference")
        if not isinstance(hypothesis, str) or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"sample {i}: expected texts, got {texts!r:.80} and {hypothesis!r:.80}")
    if not any(text.split() for texts in lists for text in texts):
        raise ValueError("nothing to score: no reference holds a word")
    return lists
