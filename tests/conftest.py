"""A tiny phantom set and tiny settings, shared by the tests that need a whole model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
torch.set_num_threads(2)

ROOT = Path(__file__).resolve().parents[1]

TINY = {
    "name": "tiny",
    "device": "cpu",
    "knowledge": {"folds": 2, "scorer_epochs": 1, "scorer_image_size": 64, "text_width": 64, "min_mentions": 3},
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
        "validation_beams": 1,
    },
    "eval": {"samples": 4},
}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """A phantom set of 60 small images."""
    from revtaf.data.sources.phantom import prepare_phantom

    out = tmp_path_factory.mktemp("data") / "phantom"
    prepare_phantom(out, images=60, seed=3, size=72, progress=False)
    return out


@pytest.fixture(scope="session")
def tiny_config(phantom: Path, tmp_path_factory) -> Path:
    """A YAML file with the tiny settings on that set; results go beside it."""
    folder = tmp_path_factory.mktemp("config")
    content = TINY | {
        "run": str(folder / "run"),
        "data": {
            "name": "phantom",
            "annotation": str(phantom / "annotation.json"),
            "images": str(phantom / "images"),
            "features": str(phantom / "features"),
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def session(tiny_config: Path):
    """Knowledge fitted on the tiny set, and an untrained model."""
    return make_session(tiny_config)


def make_session(config: Path, *overrides: str):
    from revtaf.config_file import load_settings
    from revtaf.engine.runtime import make_accelerator, seed_everything
    from revtaf.engine.setup import open_session

    settings = load_settings(config, overrides)
    accelerator = make_accelerator(settings)
    seed_everything(settings.seed)
    return open_session(settings, accelerator)


def training_batch(session, size: int = 6):
    """The first samples of the training set as a batch, and reference rows that are other samples."""
    dataset = session.train_set()
    batch = dataset.collate([dataset[(0, row)] for row in range(size)])
    return batch, torch.arange(size, 2 * size)
