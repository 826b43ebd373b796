"""REVTAF on a split: the validation after each epoch, and the reports of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from revtaf.config import ADVANCED_MODELS
from revtaf.engine.system import Written
from revtaf.eval import advanced, floors
from revtaf.eval.advanced import AdvancedSources
from revtaf.eval.protocol import protocol_of
from revtaf.eval.texts import validation_scores
from revtaf.knowledge.base import Labeler
from revtaf.labels import CATEGORIES, POSITIVE, STATUSES
from revtaf.settings import Settings
from revtaf.system.cards import make_card, sample_rows
from revtaf.system.dataset import ReportDataset
from revtaf.system.write import Prediction, predict, predict_probabilities

if TYPE_CHECKING:
    from revtaf.system.session import Session


def validate(session: Session, dataset: ReportDataset, write: bool) -> dict[str, Any]:
    """Update the disease-balanced prior; every so often write the validation reports and score them.

    "score" is what `train.select` names; CIDEr ("tie") decides between equal ones, where CIDEr selects the
    example-based CE F1, or ROUGE-L where nobody labels. No candidates are written for it.
    """
    train = session.settings.train
    rows = list(range(len(dataset)))
    chosen = rows[: train.validation_samples] if write else []
    written: list[Prediction] = []
    if chosen:
        options = {"beams": train.validation_beams, "rows": chosen, "title": "validating"}
        generation = session.settings.generation.model_copy(update={"candidates": 0})  # several times the time
        if generation.statuses == "calibrated" and session.thresholds is None:  # fitted on this split, at the end
            generation = generation.model_copy(update={"statuses": "argmax"})
        written = predict(session, dataset, generation, **options)
    results: dict[str, Any] = _classified(session, dataset, rows, written) if session.categories else {}
    if not write:
        return results
    references, hypotheses = [dataset.studies[row].report for row in chosen], [p.text for p in written]
    protocol = protocol_of(session.settings.training_data.language)
    scores = validation_scores(references, hypotheses, session.knowledge.labeler, protocol=protocol)
    first, second = (train.select, "CIDEr") if train.select != "cider" else ("CIDEr", "example_f1")
    shares = {f"text_share_{n}": float(np.mean([p.shares[n] for p in written])) for n in written[0].shares}
    tie = scores[second] if second in scores else scores["ROUGE_L"]
    return results | {"score": scores[first], "tie": tie, **scores, **shares}


def _classified(
    session: Session, dataset: ReportDataset, rows: list[int], written: list[Prediction]
) -> dict[str, float]:
    """The classifier on the validation split; its prior is brought up to date."""
    # Reports are written at the precision of `train.precision`, the prior is of full precision. Where the two are one,
    # an image is encoded once.
    known = [p.probabilities[None] for p in written] if session.accelerator.mixed_precision == "no" else []
    if rows[len(known) :]:
        known.append(predict_probabilities(session, dataset, rows[len(known) :]))
    else:  # a loader's pass draws a number; a validation has always drawn two, and training goes on from there
        torch.empty((), dtype=torch.int64).random_()
    probabilities = torch.cat(known)
    truth = torch.from_numpy(dataset.features.statuses.astype(np.int64))
    if session.trunk is None:  # a frozen classifier has no use for it
        session.plain_model.classifier.update_prior(probabilities[:, POSITIVE], truth)
    return {"status_accuracy": float((probabilities.argmax(1) == truth).float().mean())}


def evaluate(session: Session) -> Written:
    """Reports of the tested split, the retrieved ones beside them, and some of them with their attention maps."""
    settings, knowledge, dataset = session.settings, session.knowledge, session.tested_set
    shown = sample_rows(dataset.features.statuses, settings.eval.samples)
    predictions = predict(session, dataset, settings.generation, keep_maps=frozenset(shown))
    main = session.accelerator.is_main_process
    reports = knowledge.reports
    copies = [reports[p.retrieved] for p in predictions if p.retrieved >= 0] if reports else []
    return Written(
        records=[_record(session, dataset, p) for p in predictions],
        labeler=knowledge.labeler,
        train_reports=reports or (),
        copies={floors.RETRIEVED: copies} if copies else {},
        sources=_advanced_sources(session) if main else None,
        cards=[make_card(session, dataset, predictions[row]) for row in shown] if main else (),
        facts={"features": knowledge.fingerprint, "ablation flags": _flags(settings)} | _control(settings),
        notes=_chosen(settings, knowledge.labeler, session.categories),
    )


def _record(session: Session, dataset: ReportDataset, p: Prediction) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    study, knowledge = dataset.studies[p.row], session.knowledge
    names = CATEGORIES[: session.categories]
    there = p.retrieved >= 0
    return {
        "id": study.id,
        "subject_id": study.subject_id,
        "study_id": study.study_id,
        "reference": study.report,
        "prediction": p.text,
        "statuses": {c: STATUSES[s] for c, s in zip(names, p.statuses, strict=True)},
        "positive": {c: round(v, 6) for c, v in zip(names, p.positive, strict=True)},
        "retrieved_id": knowledge.train.ids[p.retrieved] if there else None,
        "retrieved_report": knowledge.reports[p.retrieved] if there and knowledge.reports else None,
        "retrieval_distance": round(p.distance, 4) if there else None,
    }


def _advanced_sources(session: Session) -> AdvancedSources | None:
    """The models of the advanced metrics that are configured; CheXbert, where it labels, also gives its vectors."""
    given = {name: getattr(session.settings.eval, name) for name in ADVANCED_MODELS}
    if not any(given.values()):
        return None
    components = session.knowledge.components
    sources = AdvancedSources(**given, chexbert=components.labeler if components.chexbert else None)
    advanced.check(sources)
    return sources


def _control(settings: Settings) -> dict[str, str]:
    """What the page says of a run that is given the answer."""
    return {"control": f"reads the answer: {', '.join(settings.reads_answer)}"} if settings.reads_answer else {}


def _chosen(settings: Settings, labeler: Labeler | None, categories: int) -> list[str]:
    """What a reader must know of reports that were chosen by what they are scored by."""
    generation = settings.generation
    if not generation.candidates:
        return []
    by = "the true statuses" if generation.statuses == "oracle" else "what the classifier sees"
    found = (
        f"Of {generation.candidates} sampled reports (temperature {generation.temperature:g}) and the beam's the one "
        f"was taken whose mean CIDEr with training reports{f', weighted by {by},' if categories else ''} is the highest"
    )
    if labeler is None or not generation.agreement:
        return [found + "."]
    of = "true statuses" if generation.statuses == "oracle" else "prompt"
    return [
        f"{found}, less {generation.agreement:g} for each finding, read by {labeler.name}, that its {of} lacks or "
        "has beside it."
    ]


def _flags(settings: Settings) -> str:
    lre, fvtaf, loss, generation = settings.lre, settings.fvtaf, settings.loss, settings.generation
    return (
        f"lre {'on' if lre.enabled else 'off'} ({lre.metric}, grp {lre.grp_source}, left out {lre.grp_dropout}), "
        f"fvtaf {'on' if fvtaf.enabled else 'off'} ({fvtaf.attention}, {fvtaf.axis}, text mass {fvtaf.text_mass}, "
        f"consistency {fvtaf.consistency}), "
        f"alpha {loss.alpha}, beta {loss.beta}, statuses {generation.statuses}, "
        f"retrieved {generation.retrieved}, candidates {generation.candidates}, agreement {generation.agreement:g}"
    )
