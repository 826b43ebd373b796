"""Training (paper section 4.1; METHOD section 7): the loop, validation after each epoch, the best checkpoint."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm import tqdm

from revtaf.config import Settings
from revtaf.engine.checkpoint import Progress, load_last, save_best, save_last
from revtaf.engine.optim import learning_rate, make_optimizer, set_learning_rate
from revtaf.engine.runtime import append_jsonl, read_jsonl, write_jsonl
from revtaf.errors import UserError
from revtaf.lre.reference import TrainingReferences
from revtaf.model import Losses
from revtaf.system.dataset import EpochBatches, train_loader
from revtaf.system.session import Session
from revtaf.system.write import retrieval_index

log = logging.getLogger("revtaf")

# Called after an epoch with (session, write reports?) -> {"score": .., "tie": .., anything worth logging}.
Validate = Callable[[Session, bool], dict]


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""


def total_loss(losses: Losses, settings: Settings) -> torch.Tensor:
    """Eq. 15 and the baseline's classification term: L_lm + 4 L_cls + alpha L_rank + beta L_fcc."""
    w = settings.loss
    return losses.lm + w.classification * losses.disease + w.alpha * losses.rank + w.beta * losses.consistency


def fit(session: Session, folder: Path, validate: Validate) -> Progress:
    """Train to the configured number of epochs, from the last saved state where there is one."""
    settings, accelerator = session.settings, session.accelerator
    dataset = session.train_set()
    if len(dataset) < 2:
        raise UserError("training needs at least two samples")
    batches = EpochBatches(len(dataset), settings.train.batch_size, settings.seed, accelerator.num_processes)
    optimizer = make_optimizer(session.model, settings.train)
    loader = train_loader(dataset, batches, settings.train.workers)
    references = _references(session)
    session.model, optimizer, loader = accelerator.prepare(session.model, optimizer, loader)

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    progress = load_last(checkpoints, accelerator, references) or Progress()
    if progress.step:
        log.info("resuming after %d epochs and %d batches", progress.epoch, progress.batch)
    if accelerator.is_main_process:  # lines behind the last saved state will be written again
        kept = [r for r in read_jsonl(folder / "metrics.jsonl") if r["step"] <= progress.step]
        write_jsonl(folder / "metrics.jsonl", kept)

    stop = _StopRequest()
    with stop:
        while progress.epoch < settings.train.epochs:
            batches.move_to(progress.epoch, progress.batch)
            if progress.batch == 0:  # a resumed epoch goes on with the references that it began with
                references.start_epoch(lambda: retrieval_index(session), fixed=not settings.lre.enabled)
            train_one_epoch(session, loader, batches, optimizer, references, progress, folder, stop)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            _after_epoch(session, folder, progress, references, validate)
    return progress


def train_one_epoch(
    session: Session,
    loader: DataLoader,
    batches: EpochBatches,
    optimizer: torch.optim.Optimizer,
    references: TrainingReferences,
    progress: Progress,
    folder: Path,
    stop: _StopRequest,
) -> None:
    """From `progress.batch` to the end of the epoch; saves and raises Interrupted when asked to stop."""
    settings, accelerator, model = session.settings, session.accelerator, session.model
    processes, accumulation = accelerator.num_processes, settings.train.accumulation
    updates = math.ceil(batches.count // processes / accumulation) * settings.train.epochs
    started = saved = time.monotonic()
    model.train()
    title = f"epoch {progress.epoch + 1}/{settings.train.epochs}"
    bar = tqdm(loader, desc=title, leave=False, disable=not accelerator.is_main_process)
    for batch in bar:
        rate = learning_rate(progress.step, updates, settings.train)
        set_learning_rate(optimizer, rate)
        rows = references.rows(batch.rows.cpu(), progress.epoch * batches.count + progress.batch)
        with accelerator.accumulate(model):
            losses = model(batch.images, batch.scores, batch.statuses, batch.tokens, session.prompts(batch, rows))
            loss = total_loss(losses, settings)
            if not torch.isfinite(loss):
                _stop_on_non_finite(session, losses, batch.rows, progress)
            accelerator.backward(loss)
            if accelerator.sync_gradients and settings.train.clip_value is not None:
                accelerator.clip_grad_value_(model.parameters(), settings.train.clip_value)
            optimizer.step()
            optimizer.zero_grad()
        progress.batch += processes
        progress.step += accelerator.sync_gradients
        values = {name: round(value.item(), 5) for name, value in losses._asdict().items()}
        bar.set_postfix(loss=f"{loss.item():.3f}", lm=f"{values['lm']:.3f}")
        if accelerator.is_main_process:
            record = {"step": progress.step, "epoch": progress.epoch + 1, "lr": rate, **values}
            append_jsonl(folder / "metrics.jsonl", record)
        if accelerator.sync_gradients:
            late = time.monotonic() - saved > 60 * settings.train.checkpoint_minutes
            wanted, stopping = _agree(accelerator, late or stop.requested, stop.requested)
            if wanted:
                save_last(folder / "checkpoints", accelerator, progress, references)
                saved = time.monotonic()
            if stopping:
                raise Interrupted(f"stopped in {title}; the same command continues from here")
    log.info("%s: %.0f s", title, time.monotonic() - started)


def is_better(results: dict, progress: Progress) -> bool:
    """By "score"; equal scores by "tie". Early epochs often write the same statuses: the text then decides."""
    if "score" not in results:
        return False
    return (results["score"], results["tie"]) > (progress.best_score, progress.best_tie)


def _agree(accelerator: Accelerator, *wishes: bool) -> list[bool]:
    """What any process wishes, all do: they save and stop at the same step, or wait for each other for ever."""
    if accelerator.num_processes == 1:
        return list(wishes)
    votes = torch.tensor([float(w) for w in wishes], device=accelerator.device)
    return [bool(v > 0) for v in accelerator.reduce(votes, reduction="sum")]


def _after_epoch(
    session: Session, folder: Path, progress: Progress, references: TrainingReferences, validate: Validate
) -> None:
    """Validate, keep the best by example-based CE F1, save the state."""
    settings, accelerator = session.settings, session.accelerator
    last = progress.epoch == settings.train.epochs
    write = last or progress.epoch % settings.train.validate_every == 0
    results = validate(session, write)
    if accelerator.is_main_process:
        record = {"step": progress.step, "epoch": progress.epoch, "validation": results}
        append_jsonl(folder / "metrics.jsonl", record)
        shown = ", ".join(f"{k} {v:.4f}" for k, v in results.items() if isinstance(v, float))
        log.info("epoch %d, validation: %s", progress.epoch, shown)
    if is_better(results, progress):
        progress.best_score, progress.best_tie = results["score"], results["tie"]
        progress.best_epoch = progress.epoch
        if accelerator.is_main_process:
            meta = {
                "epoch": progress.epoch,
                "step": progress.step,
                "categories": session.categories,
                "features": session.knowledge.key,
                "fingerprint": session.knowledge.fingerprint,
                "validation": results,
                "sources": session.notes,
            }
            model = accelerator.unwrap_model(session.model)
            save_best(folder / "checkpoints", model, session.tokenizer, settings, meta)
    progress.finished = last
    save_last(folder / "checkpoints", accelerator, progress, references)


def _references(session: Session) -> TrainingReferences:
    train, lre = session.knowledge.train, session.settings.lre
    # Without LRE, retrieval is by the raw entity scores, in training as at test.
    source = lre.grp_source if lre.enabled else "learned"
    if not session.model.needs_reference:
        source = "none"
    statuses = torch.from_numpy(np.array(train.statuses))
    nearest = torch.from_numpy(session.knowledge.texts.nearest.astype(np.int64))
    return TrainingReferences(source, statuses, train.patients, nearest, session.settings.seed)


def _stop_on_non_finite(session: Session, losses: Losses, rows: torch.Tensor, progress: Progress) -> None:
    ids = [session.knowledge.train.ids[row] for row in rows.tolist()]
    values = ", ".join(f"{name} {value.item()}" for name, value in losses._asdict().items())
    raise UserError(
        f"the loss is not finite at step {progress.step} ({values}); batch: {', '.join(ids)}. "
        "Look at these samples, lower train.lr, or set train.precision=no"
    )


class _StopRequest:
    """Turns Ctrl-C and SIGTERM into a request that the loop answers after the current step."""

    def __init__(self):
        self.requested = False
        self._before: dict = {}

    def __enter__(self) -> _StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: whoever runs us there handles signals
                break
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame) -> None:
        if self.requested:  # asked twice: now
            raise KeyboardInterrupt
        self.requested = True
        log.warning("stopping after this step; ask again to stop at once")
