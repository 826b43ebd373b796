"""MedFuse-CLIP at toy size, on the tiny phantom set."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
