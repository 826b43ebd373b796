"""BLEU-1..4, METEOR, ROUGE-L and CIDEr as the COCO evaluation computes them (supplement, Tables 1 to 3).

BLEU and METEOR are computed over the corpus, ROUGE-L (beta 1.2, words split at single blanks) and CIDEr are
means over samples. Every metric is kept as statistics of its samples, equal to pycocoevalcap's to 1e-9.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from revtaf.eval import bleu, cider, meteor_score, rouge
from revtaf.eval.meteor import Meteor, MeteorError, unavailable_reason
from revtaf.eval.metric import Metric

METRICS = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L", "CIDEr")

References = Sequence[str | Sequence[str]]


def metrics(
    references: References,
    hypotheses: Sequence[str],
    meteor: Meteor | None = None,
    cider_references: Sequence[str] | None = None,
) -> dict[str, Metric]:
    """The metrics of N processed texts, in the order of METRICS; METEOR only with a client.

    references: N texts, or N lists of texts (several references each). hypotheses: N texts.
    cider_references: texts, processed like the references, whose document frequencies CIDEr weighs by, normally the
    training references. Without them it takes those of the call, depends on the evaluated set and is 0 for one sample.
    Raises ValueError for no input or for unequal lengths, MeteorError where the client fails.
    """
    lists = _checked(references, hypotheses)
    if cider_references is not None and not len(cider_references):
        raise ValueError("no texts for CIDEr's document frequencies (leave them out to take the references)")
    found = bleu.metrics(lists, hypotheses)
    if meteor is not None:
        found["METEOR"] = meteor_metric(lists, hypotheses, meteor)
    found["ROUGE_L"] = rouge.metric(lists, hypotheses)
    found["CIDEr"] = cider.metric(lists, hypotheses, cider_references)
    return found


def meteor_metric(references: References, hypotheses: Sequence[str], meteor: Meteor) -> Metric:
    """METEOR alone. Raises MeteorError with the reason where it cannot be computed."""
    lists = _checked(references, hypotheses)
    return Metric("METEOR", meteor.statistics(lists, hypotheses), meteor_score.value)


def compute(
    references: References,
    hypotheses: Sequence[str],
    java: str | None = None,
    meteor: bool | Meteor = True,
) -> dict[str, float | None]:
    """The values of all metrics of N processed texts. Arguments as in `metrics`.

    java: the Java for METEOR, found by itself if not given. meteor: False leaves METEOR out; a running client
    is used and left open, which saves its ten seconds of start-up in a series of calls.
    Returns METRICS -> value; METEOR is None where it was left out or failed, the latter with a warning that
    says why (`meteor_status` says beforehand). Raises ValueError for no input or for unequal lengths.
    """
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    values.update((name, metric.corpus) for name, metric in metrics(references, hypotheses).items())
    if meteor:
        try:
            if isinstance(meteor, Meteor):
                values["METEOR"] = meteor_metric(references, hypotheses, meteor).corpus
            else:
                with Meteor(java) as client:
                    values["METEOR"] = meteor_metric(references, hypotheses, client).corpus
        except MeteorError as error:
            warnings.warn(str(error), stacklevel=2)
    return values


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
