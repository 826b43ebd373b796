"""Training (paper section 4.1; docs/method.md section 7): loop, validation after each epoch, best checkpoint."""

from __future__ import annotations

import logging
import math
import signal
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from revtaf.engine.batches import EpochBatches, checked, train_loader
from revtaf.engine.checkpoint import Progress, load_last, save_best, save_last
from revtaf.engine.nonfinite import Step, finite_gradients, random_states, stop
from revtaf.engine.optim import learning_rate, objective
from revtaf.engine.runtime import append_jsonl, read_jsonl, write_jsonl
from revtaf.engine.system import System
from revtaf.errors import UserError

log = logging.getLogger("revtaf")


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""


def fit(system: System, folder: Path) -> Progress:
    """Train to the configured number of epochs, from the last saved state where there is one."""
    train, accelerator = system.settings.train, system.accelerator
    dataset = system.train_set()
    lengths = dataset.lengths if train.bucketed else None
    batches = EpochBatches(len(dataset), train.batch_size, system.settings.seed, accelerator.num_processes, lengths)
    loader = train_loader(dataset, batches, system.settings)
    prepared = accelerator.prepare(system.model, loader, *system.optimizers())
    system.model, loader, optimizers = prepared[0], prepared[1], list(prepared[2:])

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    progress = load_last(checkpoints, system) or Progress()
    if progress.step:
        log.info("resuming after %d epochs and %d batches", progress.epoch, progress.batch)
    else:
        system.before_training()
    # Lines behind the last saved state will be written again; the steps of two lines may be equal.
    kept = [r for r in read_jsonl(folder / "metrics.jsonl") if r["step"] <= progress.step][: progress.records]
    progress.records = len(kept)
    if accelerator.is_main_process:
        write_jsonl(folder / "metrics.jsonl", kept)

    asked = _StopRequest()
    with asked:
        while progress.epoch < train.epochs:
            batches.move_to(progress.epoch, progress.batch)
            if progress.batch == 0:
                system.start_epoch()
            train_one_epoch(system, loader, batches, optimizers, progress, folder, dataset.ids, asked)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            _after_epoch(system, folder, progress)
    return progress


def train_one_epoch(
    system: System,
    loader: DataLoader,
    batches: EpochBatches,
    optimizers: list[Optimizer],
    progress: Progress,
    folder: Path,
    ids: list[str],
    asked: _StopRequest,
) -> None:
    """From `progress.batch` to the end of the epoch; saves and raises Interrupted when asked to stop."""
    train, accelerator, model = system.settings.train, system.accelerator, system.model
    processes = accelerator.num_processes
    updates = math.ceil(batches.count // processes / train.accumulation) * train.epochs
    started = saved = time.monotonic()
    model.train()
    title = f"epoch {progress.epoch + 1}/{train.epochs}"
    bar = tqdm(loader, desc=title, leave=False, disable=not accelerator.is_main_process)
    for batch in map(checked, bar):
        rate = learning_rate(progress.step, updates, train)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group.get("relative", 1.0)
        rows, draw = batch.rows.tolist(), progress.epoch * batches.count + progress.batch
        step = Step(progress.step, progress.epoch, draw, rows, [ids[r] for r in rows], accelerator.process_index)
        states = random_states()
        with accelerator.accumulate(model):
            losses = system.losses(batch, draw)
            loss = objective(losses, system.weights)
            if not torch.isfinite(loss):
                stop(system, folder, batch, step, losses, states)
            accelerator.backward(loss)
            if accelerator.scaler is None and not finite_gradients(model):  # a scaler of fp16 leaves such steps out
                stop(system, folder, batch, step, losses, states)
            if accelerator.sync_gradients and train.clip_value is not None:
                accelerator.clip_grad_value_(model.parameters(), train.clip_value)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        progress.batch += processes
        progress.step += accelerator.sync_gradients
        progress.records += 1
        values = {name: round(value.item(), 5) for name, value in losses.items()}
        bar.set_postfix({name: f"{value:.3f}" for name, value in {**values, "objective": loss.item()}.items()})
        if accelerator.is_main_process:
            record = {"step": progress.step, "epoch": progress.epoch + 1, "lr": rate, "losses": values}
            append_jsonl(folder / "metrics.jsonl", record)
        if accelerator.sync_gradients:
            late = time.monotonic() - saved > 60 * train.checkpoint_minutes
            wanted, stopping = _agree(accelerator, late or asked.requested, asked.requested)
            if wanted:
                save_last(folder / "checkpoints", system, progress)
                saved = time.monotonic()
            if stopping:
                raise Interrupted(f"stopped in {title}; the same command continues from here")
    log.info("%s: %.0f s", title, time.monotonic() - started)


def is_better(results: dict, progress: Progress) -> bool:
    """By "score"; equal scores by "tie". Early epochs often write the same: the tie then decides."""
    if "score" not in results:
        return False
    if not math.isfinite(results["score"]):
        raise UserError(f"the validation score is {results['score']}: it cannot choose an epoch")
    if progress.best_score is None:
        return True
    return (results["score"], results["tie"]) > (progress.best_score, progress.best_tie)


def _agree(accelerator: Accelerator, *wishes: bool) -> list[bool]:
    """What any process wishes, all do: they save and stop at the same step, or wait for each other for ever."""
    if accelerator.num_processes == 1:
        return list(wishes)
    votes = torch.tensor([float(w) for w in wishes], device=accelerator.device)
    return [bool(v > 0) for v in accelerator.reduce(votes, reduction="sum")]


def _after_epoch(system: System, folder: Path, progress: Progress) -> None:
    """Validate, keep the best by the system's score, save the state."""
    train, main = system.settings.train, system.accelerator.is_main_process
    last = progress.epoch == train.epochs
    results = system.validate(last or progress.epoch % train.validate_every == 0)
    progress.records += 1
    if main:
        record = {"step": progress.step, "epoch": progress.epoch, "validation": results}
        append_jsonl(folder / "metrics.jsonl", record)
        shown = ", ".join(f"{k} {v:.4f}" for k, v in results.items() if isinstance(v, float))
        log.info("epoch %d, validation: %s", progress.epoch, shown)
    if is_better(results, progress):
        progress.best_score, progress.best_tie = results["score"], results["tie"]
        progress.best_epoch = progress.epoch
        if main:
            meta = {"epoch": progress.epoch, "step": progress.step, "validation": results}
            meta |= {"identity": system.identity(), "sources": system.notes}
            save_best(folder / "checkpoints", system, meta)
    progress.finished = last
    save_last(folder / "checkpoints", system, progress)


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
