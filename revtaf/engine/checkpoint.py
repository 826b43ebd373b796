"""Checkpoints: `last` resumes a run bit for bit, `best` is what is tested.

Written beside their final name and renamed, so that an interruption leaves the previous one whole. Tensors only
(safetensors, or torch files read with `weights_only`), the rest is JSON: reading one runs no code.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from revtaf.config import ARCHITECTURE, Settings
from revtaf.config_file import load_settings, save_settings
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, write_json
from revtaf.lre.reference import TrainingReferences
from revtaf.model import REVTAF
from revtaf.tokenizer import ReportTokenizer


@dataclass
class Progress:
    """Where a run stands. `epoch` epochs are finished, and `batch` batches of the next one."""

    epoch: int = 0
    batch: int = 0
    step: int = 0  # optimiser updates so far
    best_score: float = -1.0
    best_tie: float = -1.0
    best_epoch: int = -1
    finished: bool = False


def save_last(folder: Path, accelerator: Accelerator, progress: Progress, references: TrainingReferences) -> None:
    """The full training state (weights, optimiser, random states, this epoch's reference reports) as
    `folder`/last. All processes call it."""
    partial, final, old = (folder / name for name in (".last.partial", "last", ".last.old"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if references.table is not None:
            save_file({"rows": references.table}, partial / "references.safetensors")
        write_json(partial / "progress.json", {**asdict(progress), "processes": accelerator.num_processes})
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            os.replace(final, old)
        os.replace(partial, final)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def find_last(folder: Path) -> Path | None:
    """The saved state; the one before it where a run was killed between two renames; None where there is none."""
    return next((folder / name for name in ("last", ".last.old") if (folder / name).is_dir()), None)


def load_last(folder: Path, accelerator: Accelerator, references: TrainingReferences) -> Progress | None:
    """Restore the state saved by `save_last`; None where there is none."""
    found = find_last(folder)
    if found is None:
        return None
    saved = read_json(found / "progress.json", "training progress")
    if saved.pop("processes", 1) != accelerator.num_processes:
        raise UserError(
            f"{found} was saved by another number of processes than {accelerator.num_processes}; "
            "continue with the same number, or delete it to start anew"
        )
    try:
        progress = Progress(**saved)
        accelerator.load_state(str(found))
        if (found / "references.safetensors").is_file():
            references.table = load_file(found / "references.safetensors")["rows"]
    except (OSError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(f"{found} cannot be resumed: {error}; delete it to start anew") from None
    return progress


def save_best(folder: Path, model: REVTAF, tokenizer: ReportTokenizer, settings: Settings, meta: dict) -> None:
    """Weights, tokenizer, settings and what they scored, as `folder`/best."""
    with atomic_folder(folder / "best") as partial:
        state = model.state_dict()
        kept = set(_stored_names(state).values())
        save_file({name: state[name].detach().cpu().contiguous() for name in kept}, partial / "model.safetensors")
        tokenizer.save(partial / "tokenizer.json")
        save_settings(partial / "config.yaml", settings)
        write_json(partial / "meta.json", meta)


def open_best(run: Path, settings: Settings) -> tuple[Path, ReportTokenizer, dict]:
    """Find the checkpoint of a run and check that its architecture is the configured one."""
    folder = Path(run) / "checkpoints" / "best"
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"no checkpoint in {folder}; train first: python -m revtaf train --config FILE, "
            "or name another run with run=FOLDER"
        )
    saved = load_settings(folder / "config.yaml")
    differences = []
    for section in ARCHITECTURE:
        a, b = getattr(saved, section).model_dump(), getattr(settings, section).model_dump()
        differences += [f"{section}.{key}: {a[key]} -> {b[key]}" for key in a if a[key] != b[key]]
    if differences:
        raise UserError(
            f"{folder} is a checkpoint of another architecture (checkpoint -> configuration): " + "; ".join(differences)
        )
    return folder, ReportTokenizer.load(folder / "tokenizer.json"), read_json(folder / "meta.json")


def load_weights(folder: Path, model: REVTAF) -> None:
    """Strictly: every tensor of the model is in the file, with its shape, and nothing else."""
    path = folder / "model.safetensors"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    own = model.state_dict()
    stored_as = _stored_names(own)
    needed = set(stored_as.values())
    missing, extra = sorted(needed - state.keys()), sorted(state.keys() - needed)
    wrong = sorted(key for key in needed & state.keys() if own[key].shape != state[key].shape)
    if missing or extra or wrong:
        raise UserError(
            f"{path} is a checkpoint of another architecture: {len(missing)} tensors missing {missing[:2]}, "
            f"{len(extra)} unknown {extra[:2]}, {len(wrong)} of another shape {wrong[:2]}"
        )
    model.load_state_dict({name: state[stored_as[name]] for name in own}, strict=True)


def _stored_names(state: dict[str, Tensor]) -> dict[str, str]:
    """Every tensor's name -> the name it is stored under: tied tensors (the decoder's output layer is its word
    embedding) share the first one's."""
    first: dict[tuple, str] = {}
    return {name: first.setdefault((value.data_ptr(), value.shape), name) for name, value in state.items()}
