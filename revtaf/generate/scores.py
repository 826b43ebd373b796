"""Per-sample scores of reports that have a reference, by the project's own metrics (docs/evaluation.md).

CIDEr is left out: it weighs words by all references of a set, so a report's value would depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from revtaf.data.text import Language
from revtaf.eval import nlg
from revtaf.eval.meteor import Meteor
from revtaf.eval.protocol import protocol_of
from revtaf.eval.texts import score_texts
from revtaf.generate.result import ImageReport
from revtaf.knowledge.rules import RuleLabeler

SHOWN = ("BLEU_4", "METEOR", "ROUGE_L", "example_f1")


def with_scores(reports: Sequence[ImageReport], language: Language = "en") -> list[ImageReport]:
    """The same, with scores where there is a reference: METEOR where Java is there; CE F1 by the phrase rules, which
    read English alone. language: of the reports, as in `data.language`."""
    rows = [row for row, report in enumerate(reports) if report.reference is not None]
    scored = list(reports)
    if not rows:
        return scored
    protocol, labeler = protocol_of(language), RuleLabeler() if language == "en" else None
    references = [protocol.reference(reports[row].reference) for row in rows]
    hypotheses = [protocol.hypothesis(reports[row].report) for row in rows]
    with ExitStack() as stack:
        client = None if nlg.meteor_status() else stack.enter_context(Meteor())
        metrics = score_texts(references, hypotheses, labeler, meteor=client).metrics
    for place, row in enumerate(rows):
        found = {name: float(metrics[name].per_sample[place]) for name in SHOWN if name in metrics}
        scored[row] = replace(reports[row], scores=found)
    return scored
