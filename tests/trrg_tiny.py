"""TRRG at toy size, on the tiny phantom set: settings of both stages, and a system on them."""

from __future__ import annotations

from pathlib import Path

from revtaf.comparators.trrg import STAGE1, SYSTEM
from revtaf.config_file import load_settings
from revtaf.engine.runtime import make_accelerator, seed_everything

TRAIN = {"epochs": 1, "batch_size": 8, "lr": 2e-3, "warmup_steps": 1, "workers": 0, "precision": "no"}
FIRST = {
    "system": "trrg_stage1",
    "name": "tiny",
    "device": "cpu",
    "image": {"encoder": "resnet18", "weights": None, "size": 64, "resize": 72},
    "text": {"weights": None, "vocabulary_size": 400, "layers": 1, "width": 32, "heads": 2, "feed_forward": 32},
    "space": {"width": 16, "centred": True},
    "clue": {"prefix": ""},
    "train": TRAIN,
    "eval": {"resamples": 20},
}
SECOND = {
    "system": "trrg",
    "name": "tiny",
    "device": "cpu",
    "clue": {"prefix": "", "k": 2},
    "cmci": {"queries": 3, "heads": 2, "feed_forward": 2},
    "llm": {"folder": None, "vocabulary_size": 400, "layers": 2, "width": 32, "heads": 4, "feed_forward": 48}
    | {"epochs": 2, "max_tokens": 60},
    "prompt": {"template": "<image><statuses>[DEC]"},
    "generation": {"beams": 2, "min_new_tokens": 4, "max_new_tokens": 12, "batch_size": 8}
    | {"repetition_penalty": 1.0, "length_penalty": 1.0},
    "train": TRAIN | {"validation_samples": 4},
    "eval": {"resamples": 20, "samples": 2},
}


def start(config: Path, *overrides: str):
    """A system of either stage, ready to train."""
    settings = load_settings(config, overrides)
    seed_everything(settings.seed)
    declaration = STAGE1 if settings.system == "trrg_stage1" else SYSTEM
    return declaration.start(settings, make_accelerator(settings))


def batch_of(system, size: int = 8):
    """The first training samples."""
    dataset = system.train_set()
    return dataset.collate([dataset[(0, row)] for row in range(size)])
