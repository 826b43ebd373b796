"""Checkpoints: `last` resumes a run bit for bit, `best` becomes the model (`revtaf.engine.folder`).

Written beside their final name and renamed, so that an interruption leaves the previous one whole. `last` says the
SHA-256 of its files, and the state before it stays in `before_last`: a damaged one costs minutes, not the run. Tensors
only (safetensors, or torch files read with `weights_only`), the rest is JSON: reading one runs no code.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any

from accelerate import Accelerator
from accelerate.utils import RNG_STATE_NAME, load
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from revtaf.config import RunSettings
from revtaf.config_file import changes, load_settings, save_settings
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, regular_file, sha256, write_json
from revtaf.pretrained.strict import load_strictly, read_tensors, stored_names

WEIGHTS, SETTINGS, META = "model.safetensors", "config.yaml", "meta.json"
STATE, RECORD = "system.safetensors", "progress.json"
STATES = ("last", "before_last")  # newest first
log = logging.getLogger("revtaf")


@dataclass
class Progress:
    """Where a run stands. `epoch` epochs are finished, and `batch` batches of the next one."""

    epoch: int = 0
    batch: int = 0
    step: int = 0  # optimiser updates so far
    records: int | None = None  # lines of metrics.jsonl so far; states of earlier versions do not say it
    best_score: float | None = None
    best_tie: float | None = None
    best_epoch: int = -1
    finished: bool = False


def save_last(folder: Path, system: System, progress: Progress) -> None:
    """The full training state (weights, optimisers, random states, the system's own) as `folder`/last; the one that was
    there is kept beside it until the run is finished. All processes call it. UserError where it cannot be written."""
    accelerator = system.accelerator
    partial, last, before = (folder / name for name in (".last.partial", *STATES))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    with _room(partial, last):
        accelerator.save_state(str(partial), safe_serialization=True)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if state := system.state():
                save_file({name: value.contiguous() for name, value in state.items()}, partial / STATE)
            record = {**asdict(progress), "processes": accelerator.num_processes}
            record |= {"accumulation": accelerator.gradient_accumulation_steps, "identity": system.identity()}
            record["files"] = {path.name: sha256(path) for path in sorted(partial.iterdir())}
            write_json(partial / RECORD, record | {"digest": digest(record)})
            shutil.rmtree(before, ignore_errors=True)
            if last.exists():
                os.replace(last, before)
            os.replace(partial, last)
            if progress.finished:
                shutil.rmtree(before, ignore_errors=True)
    accelerator.wait_for_everyone()


@contextmanager
def _room(partial: Path, last: Path) -> Iterator[None]:
    """What fails while a state is written, as one message; nothing half-written stays and takes the room."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, UserError) as error:  # torch says RuntimeError of a full disk
        free = shutil.disk_usage(last.parent).free / 1e6
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"the training state could not be written to {last} ({shorten(str(error), 200)}; {free:.0f} MB are free "
            "there); the one before it is kept: make room, and the same command continues from there"
        ) from error


def find_last(folder: Path) -> Path | None:
    """The newest saved state whose record is whole, its other files are not looked at; None where none was saved.
    UserError where all are damaged."""
    return _first_whole(folder, of_files=False)


def read_progress(folder: Path) -> dict[str, Any]:
    """What the newest saved state in `folder` says of its run; empty where there is none."""
    last = find_last(folder)
    if last is None:
        return {}
    progress = read_json(last / RECORD, "training progress")
    if not isinstance(progress.get("identity") or {}, dict):
        raise UserError(f"{last / RECORD} is damaged; delete {last} to start anew")
    return progress


def _first_whole(folder: Path, of_files: bool) -> Path | None:
    damaged = []
    for state in (folder / name for name in STATES if (folder / name).is_dir()):
        problem = _damage(state, of_files)
        if not problem:
            for other in damaged:
                log.warning("damaged: %s; continuing from the state before it, %s", other, state)
            return state
        damaged.append(f"{state} ({problem})")
    if damaged:
        raise UserError(f"no saved state is whole: {'; '.join(damaged)}; delete {folder} to start anew")
    return None


def _damage(state: Path, of_files: bool) -> str:
    """What is wrong with a saved state: its record, and the files that this names; "" where nothing is. Those of
    earlier versions hold no hashes, and are believed."""
    try:
        record = read_json(state / RECORD, "training progress")
    except UserError as error:
        return str(error)
    if not isinstance(record, dict) or record.pop("digest", None) not in (None, digest(record)):
        return f"{RECORD} is not what was written"
    for name, expected in dict(record.get("files", {})).items() if of_files else ():
        if not (state / name).is_file():
            return f"{name} is missing"
        if sha256(state / name) != expected:
            return f"{name} is not what was written"
    return ""


def earlier_progress(
    folder: Path, settings: RunSettings, remedy: str = "name another folder with run=FOLDER, or delete this one"
) -> dict:
    """The state of an earlier run in this folder, {} for none; UserError where that run had other settings, with what
    its user can do."""
    progress = read_progress(folder / "checkpoints")
    if not progress:
        return {}
    earlier = load_settings(folder / "config.yaml", bases=False)
    free = settings.free
    if "accumulation" in progress:  # it may make up for another number of processes, see `check_processes`
        free += ("train.accumulation",)
    changed = [f"{key}: {before} -> {now}" for key, before, now in changes(earlier, settings, free)]
    if changed:
        raise UserError(f"{folder} holds a run with other settings ({'; '.join(changed[:5])}); {remedy}")
    return progress


def load_last(folder: Path, system: System) -> Progress | None:
    """Restore the newest state saved by `save_last` that is whole; None where none was saved. UserError where it is
    another run's, or all are damaged."""
    state, last = _first_whole(folder, of_files=True), folder / STATES[0]
    if state is None:
        return None
    saved, accelerator = read_json(state / RECORD, "training progress"), system.accelerator
    check_identity(state, saved.get("identity"), system)
    try:
        for path in state.iterdir():
            regular_file(path)
        progress = Progress(**{field.name: saved[field.name] for field in fields(Progress) if field.name in saved})
        random_states = state / f"{RNG_STATE_NAME}_{accelerator.process_index}.pkl"
        if random_states.is_file():  # accelerate goes on where it is damaged
            load(random_states)
        accelerator.load_state(str(state))
        accelerator.step = 0  # batches since the last update: a state is saved between two of them
        system.load_state(load_file(state / STATE) if (state / STATE).is_file() else {})
    except Exception as error:  # of torch, pickle, safetensors, accelerate: many kinds, one meaning
        reason = shorten(str(error), 300)  # of another layout, it names every tensor
        raise UserError(f"{state} cannot be resumed: {reason}; delete it to start anew") from None
    accelerator.wait_for_everyone()
    if (
        state != last and accelerator.is_main_process
    ):  # else the next state would push this one out, not the damaged one
        shutil.rmtree(last, ignore_errors=True)
        os.replace(state, last)
    return progress


def check_processes(saved: Mapping[str, Any], accelerator: Accelerator) -> None:
    """A run goes on with another number of processes where an update still takes as many samples: what `saved`, its
    progress, and `accelerator` say of processes and accumulated batches. UserError where they do not fit."""
    processes, batches = accelerator.num_processes, accelerator.gradient_accumulation_steps
    earlier, accumulated = saved.get("processes", 1), saved.get("accumulation", batches)
    if (earlier, accumulated) == (processes, batches):
        return
    update = earlier * accumulated
    if update != processes * batches:
        remedy = f"train.accumulation={update // processes}" if update % processes == 0 else f"{earlier} processes"
        raise UserError(
            f"the saved run took {update} batches for an update ({earlier} processes, train.accumulation="
            f"{accumulated}), this one would take {processes * batches} ({processes} processes, train.accumulation="
            f"{batches}): another training; continue with {remedy}"
        )
    log.warning(
        "continuing with %d processes what %d began: the same batches, but dropout draws other numbers, sums round "
        "otherwise, and the last batches of an epoch may be left out",
        processes,
        earlier,
    )


def check_identity(where: Path, saved: Mapping[str, Any] | None, system: System) -> None:
    """UserError where `where` was trained on something else than the system now has."""
    own, saved = system.identity(), dict(saved or {})
    if saved != own:
        changed = [key for key in own if saved.get(key) != own[key]]
        raise UserError(
            f"{where} was trained on other features than there are now ({', '.join(changed)} differ): training data, "
            "weights or knowledge settings have changed since, or the features were deleted and made again; restore "
            "them, or train again"
        )


def save_best(folder: Path, system: System, meta: Mapping[str, Any]) -> None:
    """Weights, settings, what they scored, and what the system adds, as `folder`/best."""
    with atomic_folder(folder / "best") as partial:
        write_weights(partial / WEIGHTS, system.accelerator.unwrap_model(system.model))
        system.save(partial)
        save_settings(partial / SETTINGS, system.settings)
        write_json(partial / META, dict(meta))


def write_weights(path: Path, model: nn.Module) -> None:
    """The tensors of a model, tied ones once."""
    state = model.state_dict()
    kept = set(stored_names(state).values())
    save_file({name: state[name].detach().cpu().contiguous() for name in kept}, path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Strictly: every tensor of the model is in the file, with its shape, and nothing else."""
    remedy = "it is a checkpoint of another architecture or of an earlier version, or damaged: train it anew"
    load_strictly(model, read_tensors(path, "checkpoint"), path, "checkpoint", remedy, tied=True)
