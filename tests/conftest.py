"""A tiny phantom set and tiny settings, shared by the tests that need a whole model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from tiny import TINY, make_session

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
torch.set_num_threads(2)


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
