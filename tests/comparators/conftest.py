"""MedFuse-CLIP and TRRG at toy size, on the tiny phantom set."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from trrg_tiny import FIRST, SECOND

from revtaf.commands.train import train
from revtaf.config_file import load_settings

pytest.importorskip("open_clip", reason="needs pip install 'revtaf[medfuse]'")

TINY = {
    "system": "medfuse",
    "name": "tiny",
    "device": "cpu",
    "pairs": {"split": "official"},
    "image": {"tower": "vit", "size": 64, "resize": 72, "patch": 16, "layers": 1, "width": 32, "heads": 2},
    "text": {"sections": "report", "tokens": "train", "vocabulary_size": 400, "context": 96, "layers": 1, "width": 32}
    | {"heads": 2},
    "space": {"name": None, "weights": None, "width": 16, "centred": True},
    "train": {"epochs": 2, "batch_size": 8, "lr": 2e-3, "warmup_steps": 2, "workers": 0, "precision": "no"},
    "eval": {"resamples": 20},
}


@pytest.fixture(scope="session")
def medfuse_config(phantom: Path, tmp_path_factory) -> Path:
    """A YAML file with the tiny settings; results go beside it."""
    folder = tmp_path_factory.mktemp("medfuse")
    data = {"name": "phantom", "annotation": str(phantom / "annotation.json"), "images": str(phantom / "images")}
    content = TINY | {"run": str(folder / "run"), "data": data | {"features": str(folder / "features")}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _written(name: str, content: dict, phantom: Path, folder: Path, features: Path) -> Path:
    data = {"name": "phantom", "annotation": str(phantom / "annotation.json"), "images": str(phantom / "images")}
    content = content | {"run": str(folder / name), "data": data | {"features": str(features)}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def stage1_config(phantom: Path, tmp_path_factory) -> Path:
    """A YAML file of TRRG's first stage at toy size; results go beside it."""
    folder = tmp_path_factory.mktemp("trrg")
    return _written("stage1", FIRST, phantom, folder, folder / "features")


@pytest.fixture(scope="session")
def stage1_run(stage1_config: Path) -> Path:
    """A finished run of it."""
    settings = load_settings(stage1_config)
    train(settings)
    return settings.run


@pytest.fixture(scope="session")
def trrg_config(stage1_run: Path, stage1_config: Path, phantom: Path) -> Path:
    """A YAML file of the second stage, behind that run."""
    folder = stage1_config.parent
    return _written("stage2", SECOND | {"stage1": str(stage1_run)}, phantom, folder, folder / "features")
