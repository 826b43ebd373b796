"""Streams of random numbers for the parts of a model: what one part draws changes no other part.

Without them a module that is switched off moves the numbers of all modules built after it, and a comparison of two
settings compares two initialisations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch

_path: ContextVar[tuple[str, ...]] = ContextVar("path", default=())


def key_of(*names: object) -> int:
    """A number in [0, 2^63) that depends on the names alone, whatever the process."""
    text = "\x1f".join(map(str, names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def stream(seed: int, name: str) -> Iterator[None]:
    """Within, torch's CPU generator is seeded by (seed, name); afterwards it is where it was."""
    with _seeded((str(seed), name)):
        yield


@contextmanager
def substream(name: str) -> Iterator[None]:
    """The same for a part of a part, seeded by the enclosing stream and the name. Outside of any stream it changes
    nothing: the part draws from the global generator."""
    outer = _path.get()
    if not outer:
        yield
        return
    with _seeded((*outer, name)):
        yield


def generator(*names: object) -> np.random.Generator:
    """NumPy's generator for draws that depend on the names alone, such as (seed, "prompt", step)."""
    return np.random.default_rng(key_of(*names))


@contextmanager
def _seeded(path: tuple[str, ...]) -> Iterator[None]:
    before, token = torch.get_rng_state(), _path.set(path)
    torch.default_generator.manual_seed(key_of(*path))
    try:
        yield
    finally:
        _path.reset(token)
        torch.set_rng_state(before)
