"""Checkpoints: `last` resumes a run bit for bit, `best` becomes the model (`revtaf.engine.folder`).

Written beside their final name and renamed, so that an interruption leaves the previous one whole. Tensors only
(safetensors, or torch files read with `weights_only`), the rest is JSON: reading one runs no code.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from revtaf.config import RunSettings
from revtaf.config_file import changes, load_settings, save_settings
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, write_json
from revtaf.pretrained.strict import load_strictly, read_tensors, stored_names

WEIGHTS, SETTINGS, META = "model.safetensors", "config.yaml", "meta.json"
STATE = "system.safetensors"


@dataclass
class Progress:
    """Where a run stands. `epoch` epochs are finished, and `batch` batches of the next one."""

    epoch: int = 0
    batch: int = 0
    step: int = 0  # optimiser updates so far
    best_score: float | None = None
    best_tie: float | None = None
    best_epoch: int = -1
    finished: bool = False


def save_last(folder: Path, system: System, progress: Progress) -> None:
    """The full training state (weights, optimisers, random states, the system's own) as `folder`/last. All processes
    call it."""
    accelerator = system.accelerator
    partial, final, old = (folder / name for name in (".last.partial", "last", ".last.old"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if state := system.state():
            save_file({name: value.contiguous() for name, value in state.items()}, partial / STATE)
        record = {**asdict(progress), "processes": accelerator.num_processes, "identity": system.identity()}
        write_json(partial / "progress.json", record)
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            os.replace(final, old)
        os.replace(partial, final)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def find_last(folder: Path) -> Path | None:
    """The saved state; the one before it where a run was killed between two renames; None where there is none."""
    return next((folder / name for name in ("last", ".last.old") if (folder / name).is_dir()), None)


def read_progress(folder: Path) -> dict[str, Any]:
    """What the saved state in `folder` says of its run; empty where there is none."""
    last = find_last(folder)
    return {} if last is None else read_json(last / "progress.json", "training progress")


def earlier_progress(folder: Path, settings: RunSettings) -> dict:
    """The state of an earlier run in this folder, {} for none; UserError where that run had other settings."""
    progress = read_progress(folder / "checkpoints")
    if not progress:
        return {}
    earlier = load_settings(folder / "config.yaml", bases=False)
    changed = [f"{key}: {before} -> {now}" for key, before, now in changes(earlier, settings, settings.free)]
    if changed:
        raise UserError(
            f"{folder} holds a run with other settings ({'; '.join(changed[:5])}); "
            "name another folder with run=FOLDER, or delete this one"
        )
    return progress


def load_last(folder: Path, system: System) -> Progress | None:
    """Restore the state saved by `save_last`; None where there is none. UserError where it is another run's."""
    found = find_last(folder)
    if found is None:
        return None
    accelerator = system.accelerator
    saved = read_progress(folder)
    if saved.pop("processes", 1) != accelerator.num_processes:
        raise UserError(
            f"{found} was saved by another number of processes than {accelerator.num_processes}; "
            "continue with the same number, or delete it to start anew"
        )
    check_identity(found, saved.pop("identity", None), system)
    try:
        progress = Progress(**saved)
        accelerator.load_state(str(found))
        system.load_state(load_file(found / STATE) if (found / STATE).is_file() else {})
    except (OSError, RuntimeError, TypeError, ValueError, KeyError, SafetensorError) as error:
        reason = shorten(str(error), 300)  # of another layout, it names every tensor
        raise UserError(f"{found} cannot be resumed: {reason}; delete it to start anew") from None
    return progress


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
