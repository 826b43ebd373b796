"""The reliability commands judge rightly: what differs is seen, what grows is seen."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import ROOT


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "reliability"))
    import compare
    import faults
    import long_run

    yield compare, faults, long_run
    for name in ("compare", "faults", "install", "long_run", "toys"):
        sys.modules.pop(name, None)


@pytest.fixture
def runs(tmp_path):
    """Two equal runs."""
    last = tmp_path / "a" / "checkpoints" / "last"
    last.mkdir(parents=True)
    save_file({"w": torch.tensor([0.0, 1.0])}, last / "model.safetensors")
    torch.save({"step": torch.tensor(3.0), "lr": 0.1}, last / "optimizer.bin")
    torch.save({"numpy": np.random.get_state(), "torch": torch.get_rng_state()}, last / "random_states_0.pkl")
    (last / "progress.json").write_text(json.dumps({"epoch": 1, "files": {"x": "1"}, "digest": "1"}))
    (tmp_path / "a" / "metrics.jsonl").write_text("{}\n")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def test_a_difference_of_one_bit_is_seen_and_that_of_a_container_is_not(runs, tools):
    """-0.0 for 0.0, a random state, a line, a file that was left; not the hashes of files."""
    a, b = runs
    last = b / "checkpoints" / "last"
    (last / "progress.json").write_text(json.dumps({"epoch": 1, "files": {"x": "2"}, "digest": "2"}))
    assert tools[0].differences(a, b) == []
    save_file({"w": torch.tensor([-0.0, 1.0])}, last / "model.safetensors")
    torch.save({"step": torch.tensor(4.0), "lr": 0.1}, last / "optimizer.bin")
    (last / "random_states_0.pkl").unlink()
    (b / "metrics.jsonl").write_text("{}\n{}\n")
    (b / "checkpoints" / ".best.partial").write_text("")
    found = "\n".join(tools[0].differences(a, b))
    for part in ("model.safetensors: /w", "optimizer.bin: /step", "random_states_0.pkl", "metrics.jsonl", ".partial"):
        assert part in found


def test_damage_changes_one_file(runs, tools, tmp_path):
    import random

    for kind in tools[1].DAMAGES:
        state = tmp_path / kind
        shutil.copytree(runs[0] / "checkpoints" / "last", state)
        name = tools[1].damage(kind, state, random.Random(1))
        original = runs[0] / "checkpoints" / "last"
        changed = [p.name for p in original.iterdir() if not (state / p.name).is_file() or
                   (state / p.name).read_bytes() != p.read_bytes()]  # fmt: skip
        assert changed == [name]


def test_growth_behind_the_warm_up_is_not_flat(tools):
    """A cache that fills at first is no leak; a line that rises is."""
    at = list(range(0, 2000, 20))
    filled = [min(500 + x, 600) for x in at]
    rising = [500 + x / 10 for x in at]
    assert tools[2].trend(at, filled).flat(0.05) and not tools[2].trend(at, rising).flat(0.05)
    assert tools[2].trend(at, rising).slope == pytest.approx(100)
    assert not tools[2].trend(at, [10] * 60 + [11] * 40).flat(0.0)


def test_an_install_says_what_it_used_and_whether_it_failed(tools, tmp_path, monkeypatch, capsys):
    """The lowest versions are limits that were asked for; what ends badly is a row that says so, and its words."""
    import install

    asked = []

    def call(*command, cwd=None):
        asked.append([str(part) for part in command])
        if "list" in command:
            return json.dumps([{"name": "torch", "version": "2.4.0"}, {"name": "tqdm", "version": "4"}])
        if "test" in command and broken:
            raise install.Failed("test: no Java")
        if "prepare" in command:
            (cwd / "phantom" / "images").mkdir(parents=True)
            (cwd / "phantom" / "images" / "a.png").touch()
        return "written"

    monkeypatch.setattr(install, "call", call)
    broken = False
    row = install.attempt("3.10", tmp_path / "revtaf.whl", True, tmp_path)
    assert row.startswith("| 3.10 | wheel | lowest | torch 2.4.0 | all commands ran |")
    (compiled,) = (command for command in asked if "compile" in command)
    (installed,) = (command for command in asked if "install" in command)
    limits = compiled[compiled.index("--output-file") + 1]
    assert "lowest-direct" in compiled and installed[installed.index("--constraint") + 1] == limits
    broken = True
    row = install.attempt("3.13", tmp_path / "revtaf.tar.gz", False, tmp_path)
    assert row.startswith("| 3.13 | sdist | newest |") and "| failed |" in row
    assert "--constraint" not in asked[-1] and "no Java" in capsys.readouterr().err
