"""Two runs compared to the last bit: weights, optimiser, random states, the system's own state, best, log, reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

COMPARED = ("metrics.jsonl", "config.yaml", "checkpoints/**/*", "*/predictions.jsonl", "*/report.json")
OF_WRITING = ("files", "digest")  # of progress.json: hashes of containers, whose order of entries is not content
OF_THE_RUN = ("run",)  # of report.json: the command, the machine


def differences(reference: Path, run: Path) -> list[str]:
    """What the two folders do not share, in words; empty where all is equal. A file that an interrupted process left
    half-written is a difference, too."""
    ours, theirs = _files(reference), _files(run)
    found = [f"{name} is only in the undisturbed run" for name in sorted(ours - theirs)]
    found += [f"{name} is only in the interrupted run" for name in sorted(theirs - ours)]
    for name in sorted(ours & theirs):
        if (reference / name).read_bytes() != (run / name).read_bytes():
            found += [f"{name}: {where}" for where in _content(reference / name, run / name)]
    return found


def _files(folder: Path) -> set[str]:
    found = {path for pattern in COMPARED for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix() for path in found}


def _content(a: Path, b: Path) -> list[str]:
    """The values that differ where two files hold the same kind of content; empty where only their container does."""
    if a.suffix == ".safetensors":
        return list(_unequal(load_file(a), load_file(b)))
    if a.suffix in (".bin", ".pkl"):
        return list(_unequal(_torch(a), _torch(b)))
    if a.suffix == ".json":
        without = OF_WRITING if a.name == "progress.json" else OF_THE_RUN if a.name == "report.json" else ()
        read = [json.loads(path.read_text(encoding="utf-8")) for path in (a, b)]
        return list(_unequal(*({k: v for k, v in content.items() if k not in without} for content in read)))
    return ["other bytes"]


def _torch(path: Path) -> Any:
    import numpy as np

    allowed = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, type(np.dtype(np.uint32))]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, weights_only=True, map_location="cpu")


def _unequal(a: Any, b: Any, path: str = "") -> Iterator[str]:
    if type(a) is not type(b):
        yield f"{path}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, dict):
        if a.keys() != b.keys():
            yield f"{path}: other keys"
        for key in a.keys() & b.keys():
            yield from _unequal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{path}: {len(a)} and {len(b)} entries"
        for i, pair in enumerate(zip(a, b, strict=False)):
            yield from _unequal(*pair, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype
        if not same or not torch.equal(*(x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b))):
            yield f"{path}: other bits"
    elif hasattr(a, "tobytes"):
        if a.tobytes() != b.tobytes():
            yield f"{path}: other bits"
    elif repr(a) != repr(b):  # NaN is NaN, -0.0 is not 0.0
        yield f"{path}: {a!r} and {b!r}"
