"""Written reports against their references: the one place where a list of texts becomes metrics.

A test, a grid's row, `revtaf score` and the validation after an epoch all come here. Texts are processed by a protocol
(`revtaf.eval.protocol`) before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from revtaf.eval import cider, clinical, nlg
from revtaf.eval.meteor import Meteor, MeteorError
from revtaf.eval.metric import Metric
from revtaf.eval.protocol import PROTOCOL, Protocol
from revtaf.knowledge.base import Labeler

VALIDATED = ("example_f1", "micro_f1", "micro_f1_positive", "macro_f1", "BLEU_1", "BLEU_4", "ROUGE_L", "CIDEr")


@dataclass(frozen=True)
class TextScores:
    """metrics: BLEU, ROUGE-L, CIDEr where it is defined, METEOR where it could be computed, then the clinical ones
    where both sides have statuses. truth, statuses: (N, 14 or 18) of references and hypotheses, None where nobody
    labelled. failed: why METEOR is missing although it was asked for; "" otherwise."""

    metrics: dict[str, Metric]
    truth: np.ndarray | None
    statuses: np.ndarray | None
    failed: str = ""


def score_texts(
    references: Sequence[str],
    hypotheses: Sequence[str],
    labeler: Labeler | None = None,
    *,
    truth: np.ndarray | None = None,
    statuses: np.ndarray | None = None,
    meteor: Meteor | None = None,
    cider_references: Sequence[str] | None = None,
) -> TextScores:
    """Score N processed texts against N processed references.

    truth, statuses: what is known already of references and hypotheses, (N, 14 or 18); the labeler is asked for the
    rest, and without one there are no clinical metrics. meteor: a running client, left open; without one there is no
    METEOR. cider_references: as in `nlg.metrics`. Raises ValueError for no input or for unequal lengths.
    """
    metrics = nlg.metrics(references, hypotheses, cider_references=cider_references)
    if not cider.is_defined(references if cider_references is None else cider_references):
        del metrics["CIDEr"]
    failed = add_meteor(metrics, references, hypotheses, meteor) if meteor is not None else ""
    if labeler is not None:
        truth = label_texts(labeler, references) if truth is None else truth
        statuses = label_texts(labeler, hypotheses) if statuses is None else statuses
    if truth is not None and statuses is not None:
        metrics |= clinical.metrics(truth, statuses)
    return TextScores(metrics, truth, statuses, failed)


def add_meteor(metrics: dict[str, Metric], references: Sequence[str], hypotheses: Sequence[str], meteor: Meteor) -> str:
    """Put METEOR into `metrics`; returns why it could not be computed, or ""."""
    try:
        metrics["METEOR"] = nlg.meteor_metric(references, hypotheses, meteor)
    except MeteorError as error:
        return str(error)
    return ""


def validation_scores(
    references: Sequence[str],
    hypotheses: Sequence[str],
    labeler: Labeler | None,
    truth: np.ndarray | None = None,
    protocol: Protocol = PROTOCOL,
) -> dict[str, float]:
    """VALIDATED and `distinct_reports` of N raw texts under a protocol, for the validation after an epoch: without
    METEOR, which takes longer than all others together, and without clinical metrics where nobody labels. truth:
    statuses of the references, where known. A CIDEr that is not defined is 0 here, for every checkpoint alike."""
    processed = [protocol.reference(r) for r in references], [protocol.hypothesis(h) for h in hypotheses]
    found = score_texts(*processed, labeler, truth=truth).metrics
    scores = {name: found[name].corpus for name in VALIDATED if name in found}
    return {**scores, "CIDEr": scores.get("CIDEr", 0.0), "distinct_reports": len(set(hypotheses))}


def label_texts(labeler: Labeler, texts: Sequence[str]) -> np.ndarray:
    """Statuses (N, 14 or 18) of N texts, each distinct text labelled once: a constant row costs one report."""
    index = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    statuses = np.asarray(labeler.label(list(index)))
    return statuses[[index[text] for text in texts]]
