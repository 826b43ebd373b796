"""A loss or a gradient that is not finite: where it appeared first, and what is needed to see it again.

    nonfinite-STEP/batch.json             step, samples, losses, and where it appeared
                   config.yaml            settings
                   weights.safetensors    before the step (running statistics: behind it)
                   random.safetensors     random states before the step
                   system.safetensors     what the system keeps beside them, where it does

Tensors and JSON alone: `revtaf replay` reads it and runs no code of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate.utils import send_to_device
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from revtaf.config_file import save_settings
from revtaf.engine.checkpoint import SETTINGS, STATE, check_identity, load_weights, write_weights
from revtaf.engine.optim import objective
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, write_json

BATCH, WEIGHTS, RANDOM = "batch.json", "weights.safetensors", "random.safetensors"


@dataclass
class Step:
    """Which batch of a run: epoch and rows name its samples, `draw` numbers it over the whole run, as the system's
    losses are asked for it; process: of several."""

    step: int
    epoch: int
    draw: int
    rows: list[int]
    ids: list[str]
    process: int = 0


def finite_gradients(model: nn.Module) -> bool:
    """Whether all of them are; one look at the device, whatever their number."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None and p.grad.numel()]
    if not gradients:
        return True
    return bool(torch.stack([torch.linalg.vector_norm(g, math.inf).float() for g in gradients]).isfinite().all())


def random_states() -> dict[str, Tensor]:
    """The global random states of torch (CPU and the current CUDA device), NumPy and Python."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    _, python, python_gauss = random.getstate()
    cached = [float(has_gauss), gauss, math.nan if python_gauss is None else python_gauss]
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.append(keys.astype(np.int64), position)),
        "python": torch.tensor(python),
        "normal": torch.tensor(cached, dtype=torch.float64),  # numbers drawn in pairs, of which one is left
    }
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_states(states: Mapping[str, Tensor]) -> None:
    """The opposite of `random_states`."""
    has_gauss, gauss, python_gauss = states["normal"].tolist()
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    *keys, position = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, int(has_gauss), gauss))
    random.setstate((3, tuple(states["python"].tolist()), None if math.isnan(python_gauss) else python_gauss))


def stop(
    system: System, run: Path, batch: Any, step: Step, losses: Mapping[str, Tensor], states: Mapping[str, Tensor]
) -> NoReturn:
    """Write the step into the run's folder, look where it is first not finite, and end with a UserError that says it.

    losses: as they came out; the loss if one of them is not finite, else the gradient is at fault. states: random
    states before the step.
    """
    values = {name: value.item() for name, value in losses.items()}
    what = "gradient" if math.isfinite(objective(losses, system.weights).item()) else "loss"
    folder = run / f"nonfinite-{step.step}{f'-process{step.process}' if step.process else ''}"
    record = {**asdict(step), "what": what, "losses": {name: str(value) for name, value in values.items()}}
    record["identity"] = system.identity()
    with atomic_folder(folder) as partial:
        write_weights(partial / WEIGHTS, system.accelerator.unwrap_model(system.model))
        save_file(dict(states), partial / RANDOM)
        if state := system.state():
            save_file({name: value.contiguous() for name, value in state.items()}, partial / STATE)
        save_settings(partial / SETTINGS, system.settings)
        write_json(partial / BATCH, record)
    where = locate(system, batch, step.draw, states)
    write_json(folder / BATCH, record | {"where": where})
    told = ", ".join(f"{name} {value}" for name, value in values.items())
    raise UserError(
        f"the {what} is not finite at step {step.step} ({told}), first in {where or 'nothing, when it was repeated'}; "
        f"batch: {', '.join(step.ids)}. `revtaf replay {folder}` repeats the step. Look at these samples, lower "
        "train.lr, or set train.precision=no"
    )


def replay(folder: Path, system: System) -> tuple[dict[str, Any], str]:
    """Repeat the step in `folder` with a system that was started with its settings -> its record, and where it is not
    finite now, "" where all is finite. UserError where the folder is damaged or of other features."""
    record = read_json(folder / BATCH, "step")
    check_identity(folder, record.get("identity"), system)
    load_weights(folder / WEIGHTS, system.model)
    system.load_state(load_file(folder / STATE) if (folder / STATE).is_file() else {})
    system.model = system.accelerator.prepare(system.model)
    system.model.train()
    try:
        step = Step(**{field.name: record[field.name] for field in fields(Step)})
    except KeyError as error:
        raise UserError(f"{folder / BATCH} lacks {error}; it is no step of a run, or of another version") from None
    dataset = system.train_set()
    if [dataset.ids[row] for row in step.rows if row < len(dataset)] != step.ids:
        raise UserError(f"{folder / BATCH}: the training set has other samples than it had; restore its annotation")
    batch = dataset.collate([dataset[(step.epoch, row)] for row in step.rows])
    return record, locate(
        system, send_to_device(batch, system.accelerator.device), step.draw, load_file(folder / RANDOM)
    )


def locate(system: System, batch: Any, draw: int, states: Mapping[str, Tensor]) -> str:
    """Repeat a step, forward and backward, and watch every module: where the first number is not finite, in words; ""
    where all are. The gradients of the model are lost."""
    model = system.accelerator.unwrap_model(system.model)  # another process may be past this step: none is waited for
    wrapped, system.model = system.model, model
    model.zero_grad(set_to_none=True)
    forward, backward = [], []
    hooks = [module.register_forward_hook(_watch(name, forward, backward)) for name, module in model.named_modules()]
    set_random_states(states)
    try:
        losses = system.losses(batch, draw)
        loss = objective(losses, system.weights)
        if forward:
            return forward[0]
        if bad := [name for name, value in losses.items() if not torch.isfinite(value)]:
            return f"the loss {', '.join(bad)} (the output of every module is finite)"
        if not torch.isfinite(loss):
            return "the weighted sum of the losses"
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
        system.model = wrapped
    if backward:
        return f"the gradient that comes to the output of {backward[0]}"
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"the gradient of {bad[0]} (the gradient at the output of every module is finite)" if bad else ""


def _watch(name: str, forward: list[str], backward: list[str]):
    """A hook of the module `name` that adds to `forward` where its output is not finite, to `backward` where a gradient
    comes to it that is not."""

    def look(module: nn.Module, inputs: tuple, output: Any) -> None:
        called = f"module {name or 'model'} ({type(module).__name__})"
        for tensor in _tensors(output):
            if not torch.isfinite(tensor).all():
                clean = all(torch.isfinite(t).all() for t in _tensors(inputs))
                forward.append(called if clean else f"{called}, whose input was not finite")
            elif tensor.requires_grad:
                tensor.register_hook(lambda g: backward.append(called) if not torch.isfinite(g).all() else None)

    return look


def _tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in a module's inputs or output, whatever they are packed in."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from _tensors(getattr(value, entry.name))
