"""Tiny settings and a session on them, for tests that need a whole model."""

from __future__ import annotations

from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]

TINY = {
    "name": "tiny",
    "device": "cpu",
    "knowledge": {
        "folds": 2,
        "scorer_epochs": 1,
        "scorer_image_size": 64,
        "text_width": 64,
        "min_mentions": 3,
        "scorer_precision": "no",
    },
    "encoder": {"backbone": "resnet18", "weights": None, "image_size": 64, "resize": 72},
    "classifier": {"memory_size": 3, "width": 16, "heads": 2, "layers": 1, "feed_forward": 32},
    "lre": {"width": 16},
    "fvtaf": {"width": 16, "heads": 2},
    "decoder": {
        "weights": None,
        "vocabulary_size": 400,
        "layers": 2,
        "width": 32,
        "heads": 2,
        "feed_forward": 64,
        "max_tokens": 60,
    },
    "generation": {"beams": 2, "min_new_tokens": 4, "max_new_tokens": 16, "batch_size": 8},
    "train": {
        "epochs": 2,
        "batch_size": 6,
        "lr": 1e-3,
        "warmup_steps": 2,
        "workers": 0,
        "clip_value": 0.5,
        "precision": "no",
        "validation_beams": 1,
    },
    "eval": {"samples": 4},
}


def make_session(config: Path, *overrides: str):
    from revtaf.config_file import load_settings
    from revtaf.engine.runtime import make_accelerator, seed_everything
    from revtaf.system.declaration import SYSTEM

    settings = load_settings(config, overrides)
    accelerator = make_accelerator(settings)
    seed_everything(settings.seed)
    return SYSTEM.start(settings, accelerator)


def training_batch(session, size: int = 6):
    """The first samples of the training set as a batch, and reference rows that are other samples."""
    dataset = session.train_set()
    batch = dataset.collate([dataset[(0, row)] for row in range(size)])
    return batch, torch.arange(size, 2 * size)
