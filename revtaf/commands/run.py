"""`train` and `test` as whole runs: what the shell scripts and the command line call."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from revtaf.check import require
from revtaf.commands.score import paper_rows
from revtaf.config import ADVANCED_MODELS, FREE, DataSettings, Settings
from revtaf.config_file import differences, load_settings, save_settings
from revtaf.data.annotations import load_annotations
from revtaf.engine.checkpoint import find_last
from revtaf.engine.runtime import (
    environment,
    log_to,
    make_accelerator,
    open_run,
    write_jsonl,
)
from revtaf.engine.train import fit
from revtaf.errors import UserError
from revtaf.eval import advanced, floors, nlg, published
from revtaf.eval.advanced import AdvancedSources
from revtaf.eval.evaluate import SELECTED_HERE, evaluate, quick_clinical
from revtaf.eval.protocol import postprocess, reference_text
from revtaf.eval.records import read_samples
from revtaf.features.blocks import WHOLE, Shard, Waiting
from revtaf.features.build import prepare_knowledge, select, split_features
from revtaf.features.packed import packed_images
from revtaf.files import read_json
from revtaf.knowledge.components import Components
from revtaf.labels import CATEGORIES, POSITIVE, STATUSES
from revtaf.pages.report import table_text, write_report
from revtaf.system.cards import epoch_curves, make_sample, sample_rows
from revtaf.system.dataset import ReportDataset
from revtaf.system.open import open_trained
from revtaf.system.session import Session, open_session
from revtaf.system.write import Prediction, predict, predict_probabilities

log = logging.getLogger("revtaf")


def prepare_features(settings: Settings, shard: Shard = WHOLE) -> None:
    """Make everything that `train` and `test` would make before they start, for all splits that they use.

    `shard`: compute this part only; the command without it puts all parts together. Under `accelerate launch` every
    process takes its part.
    """
    require(settings, training=True)
    accelerator = make_accelerator(settings)
    processes = accelerator.num_processes
    if processes > 1 and shard.count > 1:
        raise UserError("--shard and accelerate launch both divide the work; use one of them")
    if processes > 1:
        _features(settings, accelerator.device, Shard(accelerator.process_index, processes))
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _features(settings, accelerator.device, shard)
    accelerator.wait_for_everyone()


def _features(settings: Settings, device: torch.device, shard: Shard) -> None:
    data, tested = settings.training_data, settings.data
    waiting: list[str] = []
    try:
        if data.packed:
            studies = select(load_annotations(data.annotation), "train", data)
            packed_images(studies, data, settings.encoder.resize, shard)
    except Waiting as reason:
        waiting.append(str(reason))
    try:
        knowledge = prepare_knowledge(settings, device, shard)
    except Waiting as reason:
        waiting.append(str(reason))
    if waiting or shard.count > 1:
        log.info("part %d of %d: %s", shard.index + 1, shard.count, "; ".join(waiting) or "nothing left to do")
        return  # one process makes the rest, when all parts are done
    splits = {(data.annotation, data.validation_split): data}
    if _has_split(tested):
        splits[tested.annotation, tested.test_split] = tested
    for (_, split), part in splits.items():
        features, studies = split_features(knowledge, settings, part, split, device)
        log.info("%s, %s: %d samples", part.name, split, len(features))
        if part.packed:
            packed_images(studies, part, settings.encoder.resize)
    log.info("features %s are complete: %d training samples", knowledge.key, len(knowledge.train))


def _has_split(data: DataSettings) -> bool:
    """Whether the test split is there already; IU X-Ray's may be withheld until the end."""
    if not Path(data.annotation).is_file():
        return False
    annotations = load_annotations(data.annotation)
    return all(annotations.get(part) for part in data.test_split.split("+"))


def train(settings: Settings) -> None:
    """Train, or continue, or say that it is done. Raises UserError before anything is written."""
    folder = Path(settings.run)
    progress = _earlier_progress(folder, settings)
    if progress.get("finished"):
        log.info("%s is already trained (%d epochs); next: revtaf test", folder, progress["epoch"])
        return
    require(settings, training=True)
    accelerator = make_accelerator(settings)
    if accelerator.is_main_process:
        open_run(settings)
        log_to(folder)
    session = open_session(settings, accelerator)
    count = sum(p.numel() for p in session.model.parameters())
    log.info("model: %.1f M parameters; device %s", count / 1e6, accelerator.device)
    validation = session.evaluation_set(settings.training_data, settings.training_data.validation_split)
    done = fit(session, folder, lambda s, write: validate(s, validation, write))
    log.info("finished: best epoch %d, validation CE F1 %.4f; next: revtaf test", done.best_epoch, done.best_score)


def validate(session: Session, dataset: ReportDataset, write: bool) -> dict:
    """Update the disease-balanced prior; every so often write the validation reports and score them.

    "score", the selection criterion, is the example-based CE F1; CIDEr ("tie") decides between equal ones.
    """
    settings = session.settings
    probabilities = predict_probabilities(session, dataset)
    truth = torch.from_numpy(dataset.features.statuses.astype(np.int64))
    model = session.accelerator.unwrap_model(session.model)
    model.classifier.update_prior(probabilities[:, POSITIVE], truth)
    results = {"status_accuracy": float((probabilities.argmax(1) == truth).float().mean())}
    if write:
        rows = list(range(len(dataset)))[: settings.train.validation_samples]
        written = predict(
            session, dataset, settings.generation, beams=settings.train.validation_beams, rows=rows, title="validating"
        )
        references = [dataset.studies[row].report for row in rows]
        hypotheses = [p.text for p in written]
        clinical = quick_clinical(references, hypotheses, session.knowledge.labeler)
        text = nlg.compute([reference_text(r) for r in references], [postprocess(h) for h in hypotheses], meteor=False)
        results |= {
            "score": clinical["example_f1"],
            "tie": text["CIDEr"],
            "example_f1": clinical["example_f1"],
            "micro_f1": clinical["micro_f1"],
            "macro_f1": clinical["macro_f1"],
            **{name: text[name] for name in ("BLEU_1", "BLEU_4", "ROUGE_L", "CIDEr")},
            "distinct_reports": len(set(hypotheses)),
        }
    return results


def test(settings: Settings) -> Path:
    """Write and score the reports of `data.test_split` with the best checkpoint; returns the output folder."""
    trained = open_trained(settings)
    session, dataset = trained.session, trained.dataset
    index = trained.index if settings.generation.references == "retrieved" else None
    accelerator, folder = session.accelerator, trained.folder
    shown = sample_rows(dataset.features.statuses, settings.eval.samples)
    predictions = predict(session, dataset, settings.generation, index=index, keep_maps=frozenset(shown))
    if accelerator.is_main_process:
        _score(session, dataset, predictions, shown, trained.meta, folder)
    accelerator.wait_for_everyone()
    return folder


def _score(
    session: Session,
    dataset: ReportDataset,
    predictions: list[Prediction],
    shown: list[int],
    meta: dict,
    folder: Path,
) -> None:
    settings, knowledge = session.settings, session.knowledge
    folder.mkdir(parents=True, exist_ok=True)
    save_settings(folder / "config.yaml", settings)
    write_jsonl(folder / "predictions.jsonl", [_record(session, dataset, p) for p in predictions])
    samples = read_samples(folder / "predictions.jsonl")  # what `revtaf score` would read
    log.info("scoring %d reports", len(predictions))
    retrieved = [knowledge.studies[p.reference].report for p in predictions if p.reference >= 0]
    evaluation = evaluate(
        samples,
        knowledge.labeler,
        [study.report for study in knowledge.studies],
        sources=_advanced_sources(settings, knowledge.components),
        copies={floors.RETRIEVED: retrieved} if retrieved else {},
        java=settings.eval.java,
        resamples=settings.eval.resamples,
        seed=settings.seed,
    )
    if published.FILE.is_file() and settings.data.test_split == published.PAPER_SPLITS.get(settings.data.name):
        evaluation.published = paper_rows(settings.data.name)
    if settings.tests_on_validation:
        evaluation.notes.append(SELECTED_HERE)
    run = {
        "name": settings.name,
        "dataset": settings.data.name,
        "split": settings.data.test_split,
        "trained on": settings.training_data.name,
        "checkpoint_epoch": meta["epoch"],
        "features": meta["fingerprint"],
        **session.notes,
        "ablation flags": _flags(settings),
        **environment(settings),
    }
    samples = [make_sample(session, dataset, predictions[row]) for row in shown]
    write_report(folder, evaluation, run, samples, epoch_curves(Path(settings.run) / "metrics.jsonl"))
    print(table_text(evaluation))
    print(f"\npredictions: {folder / 'predictions.jsonl'}\npage: {folder / 'report.html'}")


def _advanced_sources(settings: Settings, components: Components) -> AdvancedSources | None:
    """The models of the advanced metrics that are configured; CheXbert, where it labels, also gives its vectors."""
    given = {name: getattr(settings.eval, name) for name in ADVANCED_MODELS}
    if not any(given.values()):
        return None
    sources = AdvancedSources(**given, chexbert=components.labeler if components.chexbert else None)
    advanced.check(sources)
    return sources


def _record(session: Session, dataset: ReportDataset, p: Prediction) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    study = dataset.studies[p.row]
    retrieved = session.knowledge.studies[p.reference] if p.reference >= 0 else None
    names = CATEGORIES[: session.categories]
    return {
        "id": study.id,
        "subject_id": study.subject_id,
        "study_id": study.study_id,
        "reference": study.report,
        "prediction": p.text,
        "prompts": {c: STATUSES[s] for c, s in zip(names, p.statuses, strict=True)},
        "positive": {c: round(v, 4) for c, v in zip(names, p.positive, strict=True)},
        "retrieved_id": retrieved.id if retrieved else None,
        "retrieved_report": retrieved.report if retrieved else None,
        "retrieval_distance": round(p.distance, 4) if retrieved else None,
    }


def _flags(settings: Settings) -> str:
    lre, fvtaf, loss = settings.lre, settings.fvtaf, settings.loss
    return (
        f"lre {'on' if lre.enabled else 'off'} ({lre.metric}, grp {lre.grp_source}), "
        f"fvtaf {'on' if fvtaf.enabled else 'off'} ({fvtaf.attention}, {fvtaf.axis}), "
        f"alpha {loss.alpha}, beta {loss.beta}, prompts {settings.generation.prompts}, "
        f"references {settings.generation.references}"
    )


def _earlier_progress(folder: Path, settings: Settings) -> dict:
    """The state of an earlier run in this folder; UserError where that run had other settings."""
    last = find_last(folder / "checkpoints")
    if last is None:
        return {}
    earlier = load_settings(folder / "config.yaml")
    found = differences(earlier.model_dump(), settings.model_dump(), FREE)
    changed = [f"{key}: {before} -> {now}" for key, before, now in found]
    if changed:
        raise UserError(
            f"{folder} holds a run with other settings ({'; '.join(changed[:5])}); "
            "name another folder with run=FOLDER, or delete this one"
        )
    return read_json(last / "progress.json", "training progress")
