"""`revtaf train`: any system, from its settings to a model's folder."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

from accelerate import Accelerator

from revtaf import systems
from revtaf.check import require
from revtaf.config import RunSettings
from revtaf.engine import folder as model_folder
from revtaf.engine.bad_samples import leaving_out, note_left_out
from revtaf.engine.checkpoint import META, check_processes, earlier_progress
from revtaf.engine.runtime import log_to, make_accelerator, open_run, seed_everything
from revtaf.engine.system import System
from revtaf.engine.train import fit
from revtaf.files import read_json
from revtaf.locks import alone

log = logging.getLogger("revtaf")


def train(settings: RunSettings) -> None:
    """Train, or continue, or say that it is done. Raises UserError before anything is written."""
    folder = Path(settings.run)
    best = folder / model_folder.BEST
    progress = earlier_progress(folder, settings)
    finished = progress.get("finished", False)
    if finished and model_folder.is_model(best):
        model_folder.check_annotation(best, settings)
        log.info("%s is already trained (%d epochs); next: revtaf test", folder, progress["epoch"])
        return
    require(settings, training=True)
    accelerator = make_accelerator(settings)
    if progress and not finished:
        check_processes(progress, accelerator)
    main = accelerator.is_main_process
    with alone(folder, "training", wait=False) if main else nullcontext():
        if main:
            open_run(settings)
            log_to(folder)
        system = leaving_out(settings, accelerator, lambda: _fitted(settings, accelerator, finished))
        if main:
            model_folder.finish(best, system)
        accelerator.wait_for_everyone()
    meta = read_json(best / META, "checkpoint")
    score = meta["validation"]["score"]
    log.info("finished: best epoch %d, validation score %.4f; next: revtaf test", meta["epoch"], score)


def _fitted(settings: RunSettings, accelerator: Accelerator, finished: bool) -> System:
    """The system, trained; where that is `finished`, what is left to do is the model's folder."""
    seed_everything(settings.seed, accelerator.process_index)
    system = systems.find(settings.system).start(settings, accelerator)
    count = sum(p.numel() for p in system.model.parameters())
    log.info("model: %.1f M parameters; device %s", count / 1e6, accelerator.device)
    if not finished:
        if accelerator.is_main_process:
            note_left_out(Path(settings.run), settings.training_data)
        fit(system, Path(settings.run))
    return system
