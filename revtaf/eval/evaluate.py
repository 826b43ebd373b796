"""One evaluation: the model's row, the constant rows beside it, and what a reader must know about them.

References are cleaned, hypotheses post-processed exactly once (`revtaf.eval.protocol`), then both are scored
as text and labelled for clinical efficacy. The constant rows go through the same scorers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from revtaf.eval import clinical, nlg
from revtaf.eval import floors as floor_rows
from revtaf.eval.meteor import Meteor, MeteorError, java_version
from revtaf.eval.protocol import PROTOCOL, postprocess, reference_text
from revtaf.knowledge.base import Labeler

MODEL = "REVTAF"


@dataclass
class Evaluation:
    """rows: name -> {"nlg": .., "clinical": ..}, the model first. lengths: what the text looks like."""

    rows: dict[str, dict[str, dict]]
    signature: str
    lengths: dict[str, float]
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> dict[str, dict]:
        return self.rows[MODEL]

    def to_dict(self) -> dict:
        return asdict(self)


def evaluate(
    references: list[str],
    hypotheses: list[str],
    labeler: Labeler,
    train_reports: list[str],
    reference_statuses=None,
    java: str | None = None,
    floors: bool = True,
) -> Evaluation:
    """Score N hypotheses (decoder text) against N raw reports.

    train_reports: raw, for the constant rows and the copy check; may be empty. reference_statuses: (N, 14) or
    (N, 18), labelled from the cleaned references where not given.
    """
    _check(references, hypotheses)
    cleaned = [reference_text(r) for r in references]
    rows = {MODEL: [postprocess(h) for h in hypotheses]}
    notes: list[str] = []
    if floors and train_reports:
        for name, text in floor_rows.constant_rows(train_reports).items():
            rows[name] = [text] * len(cleaned)
    elif floors:
        notes.append("No constant rows: there are no training reports to choose them from.")
    if reference_statuses is None:
        reference_statuses = labeler.label(cleaned)
    if not labeler.name.lower().startswith("chexbert"):
        notes.append(
            f"Clinical efficacy is labelled by {labeler.name}, not CheXbert: "
            "compare rows of this table with each other, not with published numbers."
        )

    skipped = nlg.meteor_status(java)
    if skipped:
        notes.append(skipped)
    scored: dict[str, dict[str, dict]] = {}
    with Meteor(java) as client:
        for name, texts in rows.items():
            scores = nlg.compute(cleaned, texts, meteor=False)
            try:
                scores["METEOR"] = None if skipped else client.score([[r] for r in cleaned], texts)
            except MeteorError as error:
                notes.append(f"{name}: {error}")
            predicted = _statuses(labeler, texts)
            scored[name] = {"nlg": scores, "clinical": clinical.compute(reference_statuses, predicted)}
    absent = scored[MODEL]["clinical"]["zero_support"]
    if absent:
        notes.append(f"No reference is positive for {', '.join(absent)}: macro counts these categories as 0.")
    measured = any(row["nlg"]["METEOR"] is not None for row in scored.values())
    java_name = java_version(java) if measured else "no-java"
    return Evaluation(
        rows=scored,
        signature=PROTOCOL.signature(len(cleaned), labeler.name, java_name),
        lengths=_lengths(cleaned, rows[MODEL], train_reports),
        notes=notes,
    )


def quick_clinical(
    references: Sequence[str], hypotheses: Sequence[str], labeler: Labeler, reference_statuses=None
) -> dict:
    """The clinical scores alone, for the validation after each epoch. Arguments as in `evaluate`."""
    _check(references, hypotheses)
    if reference_statuses is None:
        reference_statuses = labeler.label([reference_text(r) for r in references])
    return clinical.compute(reference_statuses, labeler.label([postprocess(h) for h in hypotheses]))


def _statuses(labeler: Labeler, texts: list[str]) -> np.ndarray:
    """Labels of N texts, each distinct text labelled once: a constant row costs one report."""
    index = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    statuses = np.asarray(labeler.label(list(index)))
    return statuses[[index[text] for text in texts]]


def _lengths(references: list[str], hypotheses: list[str], train_reports: Sequence[str]) -> dict[str, float]:
    """Diagnostics of collapse and copying. Texts are compared word by word, blanks and case aside."""
    words = [" ".join(h.split()) for h in hypotheses]
    known = {" ".join(reference_text(r).split()) for r in train_reports}
    counts = Counter(words)
    n = len(words)
    return {
        "mean_words_hypothesis": float(np.mean([len(w.split()) for w in words])),
        "mean_words_reference": float(np.mean([len(r.split()) for r in references])),
        "distinct_hypotheses": len(counts),
        "share_most_frequent_hypothesis": counts.most_common(1)[0][1] / n,
        "share_identical_to_training": sum(w in known for w in words) / n,
        "share_empty": sum(not w.strip(" .") for w in words) / n,
    }


def _check(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses) or not len(references):
        raise ValueError(
            f"expected as many references as hypotheses, and at least one; got {len(references)} and {len(hypotheses)}"
        )
