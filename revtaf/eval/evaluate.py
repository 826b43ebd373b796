"""One evaluation: the system's row, the rows beside it, intervals, tests, diagnostics, and what a reader must know.

References and hypotheses pass through a protocol exactly once (`revtaf.eval.protocol`), then both are scored as text
and labelled for clinical efficacy (CE). Every row of a table goes through the same scorers: other systems, and what a
system that never looks at the image would get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from revtaf.eval import advanced, cider, classified, clinical, nlg, statistics
from revtaf.eval import floors as floor_rows
from revtaf.eval.advanced import AdvancedSources
from revtaf.eval.diagnostics import by_length, diagnose, study_rows
from revtaf.eval.evaluated import Evaluated
from revtaf.eval.kept import Kept, made_from_texts
from revtaf.eval.meteor import Meteor, java_version
from revtaf.eval.meteor import version as meteor_name
from revtaf.eval.metric import Metric
from revtaf.eval.protocol import PROTOCOL, UNLABELLED, Processed, Protocol, form_notes
from revtaf.eval.records import Samples, join
from revtaf.eval.texts import label_texts, score_texts
from revtaf.knowledge.base import Labeler

MODEL = "REVTAF"
ORACLE = floor_rows.NEAREST
SELECTED_HERE = "The checkpoint was selected on this split: these are validation figures."
# The columns of the paper's Table 1, whose mean is its "Avg"; then those of the clinical averages.
AVERAGED = (
    *("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L"),
    *("example_precision", "example_recall", "example_f1"),
)
HEADLINE = (*AVERAGED[:6], "CIDEr", *AVERAGED[6:], "micro_f1", "macro_f1")


# The table of the paper, with CIDEr and three averages of CE F1 beside: heading -> (kind, key in the row)
COLUMNS = {
    "BLEU-1": ("nlg", "BLEU_1"),
    "BLEU-2": ("nlg", "BLEU_2"),
    "BLEU-3": ("nlg", "BLEU_3"),
    "BLEU-4": ("nlg", "BLEU_4"),
    "METEOR": ("nlg", "METEOR"),
    "ROUGE-L": ("nlg", "ROUGE_L"),
    "CIDEr": ("nlg", "CIDEr"),
    "CE-P": ("clinical", "example_precision"),
    "CE-R": ("clinical", "example_recall"),
    "CE-F1": ("clinical", "example_f1"),
    "micro-F1": ("clinical", "micro_f1"),
    "micro-F1-positive": ("clinical", "micro_f1_positive"),
    "macro-F1": ("clinical", "macro_f1"),
}


@dataclass(kw_only=True)
class Evaluation(Evaluated):
    """Of written reports. rows: name -> {"nlg", "clinical", "classified", "advanced", "average"}. lengths:
    `revtaf.eval.diagnostics`. classified: `revtaf.eval.classified.details` of the system; empty where its records say
    nothing of a classifier."""

    lengths: dict[str, Any]
    study_level: dict[str, Any] | None = None
    by_length: list[dict] = field(default_factory=list)  # ROUGE-L
    classified: dict[str, dict] = field(default_factory=dict)

    def said(self) -> list[str]:
        """Sentences below every table: does the system say more than "no finding"?"""
        own, lengths = self.model["clinical"], self.lengths
        different = (
            f"{lengths['distinct_hypotheses']} different texts, {lengths['distinct_references']} different references."
        )
        if not own:
            return [different]
        references = own["references"]
        sentences = [
            f'"No finding" is said in {own["no_finding_share"]:.1%} of the texts and in '
            f"{references['no_finding_share']:.1%} of the references.",
            different,
            "A report whose reference has no positive category scores 0 in CE-F1 whatever it says: at most "
            f"{references['example_f1_ceiling']:.3f} can be reached. micro-F1-positive is over the 13 findings without "
            '"no finding".',
        ]
        if always := self.rows.get(floor_rows.ALWAYS_NO_FINDING):
            shown = ("CE-F1", "micro-F1", "micro-F1-positive")
            scores = ", ".join(f"{name} {always['clinical'][COLUMNS[name][1]]:.3f}" for name in shown)
            sentences.insert(1, f"Always saying it scores {scores}.")
        return sentences

    def details(self) -> dict[str, Any]:
        """What report.json says of written reports alone."""
        found = {"study_level": self.study_level, "lengths": self.lengths, "by_length": self.by_length}
        if self.classified:
            found["classified"] = {**self.model["classified"], "auc is over": classified.RULE, "each": self.classified}
        return found


@dataclass(frozen=True)
class Statuses:
    """Statuses made elsewhere, (N, 14) or (N, 18), in the order of the samples; None is labelled now."""

    references: np.ndarray | None = None
    predictions: np.ndarray | None = None
    source: str = ""


def evaluate(
    samples: Samples,
    labeler: Labeler | None,
    train_reports: Sequence[str] = (),
    *,
    name: str = MODEL,
    protocol: Protocol = PROTOCOL,
    others: Mapping[str, Samples] | None = None,
    copies: Mapping[str, Sequence[str]] | None = None,
    given: Statuses = Statuses(),
    sources: AdvancedSources | None = None,
    java: str | None = None,
    cider_idf: str = "references",
    floors: bool = True,
    resamples: int = 10_000,
    seed: int = 0,
) -> Evaluation:
    """Score N raw predictions against N raw reports.

    labeler: None where nobody labels; then there are no clinical scores. train_reports: raw, for the rows without an
    image and the copy check; may be empty. others: further systems on the same ids, each a row, and tested against this
    one. copies: rows of N raw reports that were written by people, processed like references. sources: of the advanced
    metrics. cider_idf: document frequencies of the "references", as COCO, or of the "train" reports. resamples: for
    intervals and tests; 0 leaves them out.
    """
    protocol = protocol.fit(train_reports) if train_reports else protocol
    references = [protocol.reference(r) for r in samples.references]
    hypotheses = [protocol.hypothesis(h) for h in samples.predictions]
    trained = [protocol.reference(r) for r in train_reports]
    notes = list(samples.notes)
    texts: dict[str, list[Processed]] = {name: hypotheses}
    systems: dict[str, Samples] = {}
    for other, theirs in (others or {}).items():
        samples, theirs = join(samples, theirs)
        systems[other] = theirs
        notes += [f"{other}: {note}" for note in theirs.notes]
        texts[other] = [protocol.hypothesis(h) for h in theirs.predictions]
    for copy, reports in (copies or {}).items():
        texts[copy] = [protocol.reference(r) for r in reports]
    lost, marked = ({row: by.unmatchable(theirs) for row, theirs in texts.items()} for by in (protocol, PROTOCOL))
    notes += form_notes(lost, marked, protocol)
    if floors and train_reports:
        texts |= floor_rows.rows(train_reports, samples.references, seed, protocol.reference)
    elif floors:
        notes.append("No rows without an image: there are no training reports to choose them from.")
    systems[name] = samples
    truth = given.references
    if truth is None and labeler is not None:
        truth = label_texts(labeler, references)
    by = given.source or (labeler.name if labeler else UNLABELLED)
    if by == UNLABELLED:
        notes.append("Clinical efficacy is n/a: nobody labels the reports.")
    elif given.predictions is not None:
        notes.append(
            f"Clinical efficacy is from {given.source}, made by a labeler that is not known here. It holds the "
            "statuses of this system alone: other systems' rows have no clinical scores."
        )
    elif note := labeler_note(by):
        notes.append(note)

    skipped = nlg.meteor_status(java)
    if skipped:
        notes.append(skipped)
    found: dict[str, dict[str, Metric]] = {}
    rows: dict[str, dict[str, Any]] = {}
    documents = trained if cider_idf == "train" else None
    if not cider.is_defined(documents or references):
        notes.append(f"{cider.UNDEFINED}{'' if documents else ', or --cider-idf train'}.")
    with Meteor(java) as client:
        for row, theirs in texts.items():
            # Two labelers never meet in a table: beside statuses from a file nobody else is labelled.
            ours, alone = row == name, given.predictions is not None
            scores = score_texts(
                references,
                theirs,
                None if alone else labeler,
                truth=truth,
                statuses=given.predictions if ours else None,
                meteor=None if skipped else client,
                cider_references=documents,
            )
            if scores.failed:
                notes.append(f"{row}: {scores.failed}")
            more: dict[str, Metric] = {}
            if ours:
                own = scores.statuses
                if sources is not None:
                    more, told = advanced.metrics(samples.references, samples.predictions, samples.ids, sources)
                    notes += told
            by_classifier: dict[str, Metric] = {}
            if row in systems and truth is not None:
                its = systems[row]
                by_classifier = classified.metrics(its.prompt, its.positive, truth, scores.statuses)
            found[row] = {**scores.metrics, **more, **by_classifier}
            labelled = {} if scores.statuses is None else _clinical(truth, scores.statuses)
            rows[row] = _row(scores.metrics, labelled, more, by_classifier)
        if client.shortened:
            notes.append(f"METEOR read the first 2,000 words of {client.shortened} longer texts.")
    if floors and truth is not None:
        for row, statuses in _constant_statuses(truth).items():
            found[row] = clinical.metrics(truth, statuses)
            rows[row] = _row({}, _clinical(truth, statuses), {})
    if absent := rows[name]["clinical"].get("zero_support"):
        notes.append(f"No reference is positive for {', '.join(absent)}: macro counts these categories as 0.")
    notes += [note] if (note := statistics.small_sample_note(len(samples))) else []

    codes, units = statistics.clusters(samples.ids, samples.studies, samples.subjects)
    java_name = java_version(java) if any("METEOR" in metrics for metrics in found.values()) else "no-java"
    by_labeler = given.references is None and given.predictions is None
    made_from = made_from_texts(
        samples.ids,
        references,
        texts,
        protocol.name,
        by if by_labeler else "statuses from elsewhere",
        meteor_name(java_name),
        cider_idf,
        classified.mark(samples.prompt, samples.positive),
    )
    result = Evaluation(
        name=name,
        rows=rows,
        columns=COLUMNS,
        kept=Kept({row: found[row] for row in texts}, made_from=made_from, statuses=truth),
        signature=protocol.signature(
            len(samples),
            by,
            java_name,
            clusters=units.split(" (")[0].replace(" ", "") if resamples else None,
        )
        + ("|cider:train-idf" if cider_idf == "train" else ""),
        lengths=diagnose(references, hypotheses, trained, _studies(samples), protocol.max_words),
        ids=samples.ids,
        per_sample={key: found[name][key].per_sample for key in _PER_SAMPLE if key in found[name]},
        notes=notes,
    )
    if found[name].keys() & classified.NAMES:
        result.classified = classified.details(samples.prompt, samples.positive, truth, own)
    result.by_length = by_length(references, result.per_sample["ROUGE_L"])
    if resamples:
        result.resample(found, HEADLINE, codes, resamples, seed)
        notes.append(f"Intervals: 95 %, BCa bootstrap over {units}; tests by approximate randomisation, Holm's p.")
    if samples.studies is not None and len(set(_studies(samples))) < len(samples):
        kept = study_rows(samples.studies, samples.subjects, references)
        once = score_texts([references[i] for i in kept], [hypotheses[i] for i in kept], cider_references=documents)
        if meteor := found[name].get("METEOR"):
            once.metrics["METEOR"] = replace(meteor, statistics=meteor.statistics[kept])
        labelled = {} if own is None else _clinical(truth[kept], own[kept])
        result.study_level = {"n": len(kept), **_row(once.metrics, labelled, {})}
    return result


def labeler_note(by: str) -> str:
    """What a reader must know of clinical scores by labeler `by`; "" for CheXbert's, and where there are none."""
    if by == UNLABELLED or by.lower().startswith("chexbert"):
        return ""
    return (
        f"Clinical efficacy is labelled by {by}, not CheXbert: "
        "compare rows of this table with each other, not with published numbers."
    )


_PER_SAMPLE = ("BLEU_4", "METEOR", "ROUGE_L", "CIDEr", "example_precision", "example_recall", "example_f1")


def _clinical(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """The scores with uncertain as not positive, the paper's reading, and the averages of F1 under the other one."""
    kept = ("example_f1", "micro_f1", "macro_f1")
    other = clinical.compute(truth, predicted, uncertain="positive")
    return {**clinical.compute(truth, predicted), "uncertain_positive": {key: other[key] for key in kept}}


def _row(
    scores: Mapping[str, Metric], found: dict, more: Mapping[str, Metric], by_classifier: Mapping[str, Metric] = {}
) -> dict[str, Any]:
    row = {
        "nlg": {key: scores[key].corpus if key in scores else None for key in nlg.METRICS},
        "clinical": found,
        "classified": {key: metric.corpus for key, metric in by_classifier.items()},
        "advanced": {key: metric.corpus for key, metric in more.items()},
    }
    values = [{**row["nlg"], **found}.get(key) for key in AVERAGED]
    # The paper's "Avg" is the plain mean of the nine; of eight it would be another number.
    row["average"] = None if None in values else float(np.mean(values))
    return row


def _constant_statuses(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Constant answers in statuses, without any text: "no finding", and the best of the k most frequent."""
    answers = floor_rows.clinical_floors(truth)
    always = floor_rows.ALWAYS_NO_FINDING
    others = [name for name in answers if name != always]
    best = max(others, key=lambda name: clinical.compute(truth, answers[name])["example_f1"])
    return {name: answers[name] for name in (always, best)}


def _studies(samples: Samples) -> list[str] | None:
    """Names of studies that are unique where they are so within a subject only."""
    if samples.studies is None or samples.subjects is None:
        return samples.studies
    return [f"{subject}/{study}" for subject, study in zip(samples.subjects, samples.studies, strict=True)]
