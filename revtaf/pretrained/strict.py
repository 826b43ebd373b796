"""Weights from files, strictly: plain tensors alone are read, every name and shape must be the expected one.

A file that fits by half gives a model that runs and answers at random. So nothing is loaded loosely anywhere: who knows
that a file holds more, or less, takes that out, or adds it, by name, before it loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from revtaf.errors import UserError
from revtaf.files import regular_file


def read_tensors(path: Path, what: str, entry: str | None = None) -> dict[str, Tensor]:
    """Key -> tensor of a safetensors or torch file; `entry` names the item that holds them in a training checkpoint.

    what: the setting or the model that the file is for, with which each message starts. Tensors and plain containers
    are all that is read: a pickle with anything else ends in a UserError.
    """
    try:
        if path.suffix == ".safetensors":
            content = load_file(regular_file(path))
        else:
            content = torch.load(regular_file(path), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{what}: no such file: {path} (see checkpoints/README.md)") from None
    except UserError as error:
        raise UserError(f"{what}: cannot read {error}") from None
    except UnpicklingError:  # torch's own message tells how to run the code in the file
        raise UserError(
            f"{what}: cannot read {path}: not a file of plain tensors (an unfinished download, or objects "
            "beside the tensors, which are never loaded); get the file again"
        ) from None
    except Exception as error:  # a cut archive, a folder, no permission: many kinds, one meaning
        raise UserError(
            f"{what}: cannot read {path}: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None
    if entry is not None:
        if not isinstance(content, dict) or entry not in content:
            raise UserError(f"{what}: {path} has no entry '{entry}'; is it the file that checkpoints/README.md names?")
        content = content[entry]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{what}: {path} does not hold named tensors; is it the file that checkpoints/README.md names?")
    return content


def require_fit(
    state: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], path: Path, what: str, remedy: str = ""
) -> None:
    """UserError, with `remedy` at its end, unless the keys are exactly the expected ones and every shape agrees."""
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    wrong = [key for key in expected if key in state and tuple(state[key].shape) != tuple(expected[key])]
    if missing or unknown or wrong:
        faults = [f"it lacks {len(missing)} keys, first {missing[:3]}"] if missing else []
        faults += [f"it has {len(unknown)} unknown keys, first {unknown[:3]}"] if unknown else []
        faults += [f"{key} is {tuple(state[key].shape)}, expected {tuple(expected[key])}" for key in wrong[:3]]
        faults += [remedy] if remedy else []
        counts = f"{len(state)} tensors, expected {len(expected)}"
        raise UserError(f"{what}: {path} does not fit ({counts}): {'; '.join(faults)}")


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str, remedy: str = "", tied: bool = False
) -> None:
    """Load `state`, which was read from `path`, into `module`; UserError unless each tensor has its place, and fits it.

    tied: the file holds tensors that the module shares once, under their `stored_names`. See `require_fit`.
    """
    own = module.state_dict()
    stored = stored_names(own) if tied else {name: name for name in own}
    require_fit(state, {stored[name]: value.shape for name, value in own.items()}, path, what, remedy)
    module.load_state_dict({name: state[stored[name]] for name in own}, strict=True)


def stored_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Every tensor's name -> the name it is stored under: tied tensors (a decoder's output layer is its word embedding)
    share the first one's. Not for tensors on the meta device, which have no memory to share."""
    first: dict[tuple, str] = {}
    return {name: first.setdefault((value.data_ptr(), value.shape), name) for name, value in state.items()}
