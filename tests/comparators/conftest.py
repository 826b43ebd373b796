"""MedFuse-CLIP and TRRG at toy size, on the tiny phantom set."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
import yaml
from medfuse_tiny import MEDFUSE
from safetensors.torch import load_file
from trrg_tiny import FIRST, SECOND

from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.engine import train as engine
from revtaf.engine.runtime import read_jsonl

pytest.importorskip("open_clip", reason="needs pip install 'revtaf[medfuse]'")


@pytest.fixture(scope="session")
def medfuse_config(phantom: Path, tmp_path_factory) -> Path:
    """A YAML file with the tiny settings; results go beside it."""
    folder = tmp_path_factory.mktemp("medfuse")
    data = {"name": "phantom", "annotation": str(phantom / "annotation.json"), "images": str(phantom / "images")}
    content = MEDFUSE | {"run": str(folder / "run"), "data": data | {"features": str(folder / "features")}}
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


@pytest.fixture
def resumed(tmp_path, monkeypatch):
    """Trains a configuration whole, and once stopped after nine lines of its log and continued; asserts that weights
    and lines are the same, and returns the lines."""

    def run(config, *flags):
        whole = load_settings(config, [f"run={tmp_path / 'whole'}", *flags])
        train(whole)
        settings = load_settings(config, [f"run={tmp_path / 'run'}", *flags])
        real, calls = engine.append_jsonl, []

        def stop_after_nine(path, record):
            real(path, record)
            calls.append(record)
            if len(calls) == 9:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(engine, "append_jsonl", stop_after_nine)
        with pytest.raises(engine.Interrupted):
            train(settings)
        monkeypatch.setattr(engine, "append_jsonl", real)
        torch.rand(7)
        train(settings)
        a, b = (load_file(Path(s.run) / "checkpoints/last/model.safetensors") for s in (whole, settings))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        lines = [read_jsonl(Path(s.run) / "metrics.jsonl") for s in (whole, settings)]
        assert lines[0] == lines[1]
        return lines[0]

    return run
