"""`revtaf test` and `analyse`: a trained run's best checkpoint on the tested split, scored and shown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from revtaf import systems
from revtaf.check import require
from revtaf.commands.recipe import make_recipe
from revtaf.commands.score import paper_rows
from revtaf.config import RunSettings
from revtaf.config_file import save_settings
from revtaf.engine import bad_samples
from revtaf.engine import folder as model_folder
from revtaf.engine.checkpoint import META, WEIGHTS
from revtaf.engine.metrics import epoch_curves
from revtaf.engine.runtime import environment, make_accelerator, write_jsonl
from revtaf.engine.system import System, Written
from revtaf.errors import UserError
from revtaf.eval import kept, published
from revtaf.eval.evaluate import SELECTED_HERE, evaluate
from revtaf.eval.protocol import protocol_of
from revtaf.eval.rankings import Rankings, evaluate_rankings
from revtaf.eval.records import read_samples
from revtaf.files import read_json
from revtaf.locks import alone
from revtaf.pages.report import PAGE, table_text, write_report

CONTROL = " (control: reads the answer)"  # behind the name of a row that is given what the reports say
log = logging.getLogger("revtaf")


def test(settings: RunSettings) -> Path:
    """Write and score the reports of `data.test_split` with the best checkpoint; returns the output folder. A system
    that ranks is evaluated by its rankings, and leaves no predictions."""
    system, folder = open_trained(settings), settings.output
    outcome = system.evaluate()
    if system.accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (kept.REPORT, PAGE):  # of an earlier test; a stop before the new ones must not leave them beside
            (folder / name).unlink(missing_ok=True)  # settings that are not theirs
        save_settings(folder / "config.yaml", settings)
        if isinstance(outcome, Written):
            write_jsonl(folder / "predictions.jsonl", outcome.records)
        _report(system, outcome)
    system.accelerator.wait_for_everyone()
    return folder


def analyse(settings: RunSettings) -> list[Path]:
    """What a system's scores do not say, of a trained run on `data.test_split`; returns the files written."""
    system = open_trained(settings)
    settings.output.mkdir(parents=True, exist_ok=True)
    return system.analyse(settings.output)


def open_trained(settings: RunSettings) -> System:
    """The model of a run. UserError where it is not there, or has another architecture than the settings."""
    best = Path(settings.run) / model_folder.BEST
    if not (best / WEIGHTS).is_file():
        raise UserError(
            f"no checkpoint in {best}; train first: python -m revtaf train --config FILE, "
            "or name another run with run=FOLDER"
        )
    require(settings, training=False)
    accelerator = make_accelerator(settings)
    complete = broadcast_object_list([model_folder.is_model(best)])[0]  # as the main process sees it
    if not complete:  # its training was stopped, or is still going on
        system = systems.find(settings.system).start(settings, accelerator)
        if accelerator.is_main_process:
            with alone(Path(settings.run), "training", wait=False):
                model_folder.finish(best, system)
        accelerator.wait_for_everyone()
    return model_folder.open_model(best, accelerator, settings)


def _report(system: System, outcome: Written | Rankings) -> None:
    """Score what was written, or ranked, and show it."""
    settings, folder = system.settings, system.settings.output
    title, facts, cards, sections = systems.find(settings.system).title, {}, (), ()
    if settings.reads_answer:
        title += CONTROL
    options = {"resamples": settings.eval.resamples, "seed": settings.seed}
    if isinstance(outcome, Written):
        samples = read_samples(folder / "predictions.jsonl")  # what `revtaf score` would read
        log.info("scoring %d reports", len(samples))
        evaluation = evaluate(
            samples,
            outcome.labeler,
            outcome.train_reports,
            name=title,
            protocol=protocol_of(settings.data.language),
            sources=outcome.sources,
            copies=outcome.copies,
            java=settings.eval.java,
            **options,
        )
        if printed := published.printed_on(settings.data):
            evaluation.published = paper_rows(printed)
        facts, cards, sections = outcome.facts, outcome.cards, outcome.sections
        evaluation.notes.extend(outcome.notes)
    else:
        evaluation = evaluate_rankings(outcome, title, **options)
        facts, sections = outcome.facts, outcome.sections
    if settings.reads_answer:
        evaluation.notes.append(f"This is a control: it reads the answer ({', '.join(settings.reads_answer)}).")
    if settings.tests_on_validation:
        evaluation.notes.append(SELECTED_HERE)
    curves = epoch_curves(Path(settings.run) / "metrics.jsonl")
    write_report(folder, evaluation, run_record(system, facts), cards, curves, sections, make_recipe(settings))
    print(table_text(evaluation))
    if isinstance(outcome, Written):
        print(f"\npredictions: {folder / 'predictions.jsonl'}")
    print(f"page: {folder / PAGE}")


def run_record(system: System, facts: dict[str, Any]) -> dict[str, Any]:
    """What a report says of its run."""
    settings = system.settings
    return {
        "name": settings.name,
        "dataset": settings.data.name,
        "split": settings.data.test_split,
        "trained on": settings.training_data.name,
        "checkpoint_epoch": read_json(Path(settings.run) / model_folder.BEST / META)["epoch"],
        **system.notes,
        **facts,
        **bad_samples.told(settings.run),
        **environment(settings),
    }
