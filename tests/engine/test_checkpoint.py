"""What a saved state survives: damage, a full disk, a stop between two lines of the log, other processes."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.engine import train as engine
from revtaf.engine.checkpoint import check_processes, find_last
from revtaf.errors import UserError

OFTEN = "train.checkpoint_minutes=1e-9"  # a state at every step


class Killed(BaseException):
    """A process that ends here, as one that is killed would: nothing above handles it."""


@pytest.fixture
def dying(monkeypatch):
    """dying(settings, name, at): train until the engine calls its function `name` for the at-th time, and die there."""

    def run(settings, name, at):
        real, calls = getattr(engine, name), []

        def call(*arguments):
            calls.append(name)
            if len(calls) == at:
                raise Killed
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(engine, name, call)
            with pytest.raises(Killed):
                train(settings)

    return run


@pytest.fixture
def whole(toy_config, tmp_path):
    """An undisturbed run of the toy."""
    settings = load_settings(toy_config, [f"run={tmp_path / 'whole'}"])
    train(settings)
    return settings.run


def same(a, b):
    """Weights and every line of the log are those of the other run."""
    states = [load_file(run / "checkpoints/last/model.safetensors") for run in (a, b)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert (a / "metrics.jsonl").read_text() == (b / "metrics.jsonl").read_text()
    assert sorted(p.name for p in (b / "checkpoints").iterdir()) == ["best", "last"]
    return True


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def shorten(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = (
    ("model.safetensors", shorten),
    ("optimizer.bin", Path.unlink),
    ("random_states_0.pkl", shorten),
    ("progress.json", flip),
)


def test_a_damaged_state_falls_back_to_the_one_before(toy_config, whole, dying, tmp_path, caplog):
    """Truncated, one bit changed or missing, whatever file it is: the message names both states, and the run ends as
    if nothing had been."""
    settings = load_settings(toy_config, [OFTEN])
    dying(settings, "append_jsonl", 13)  # in the second epoch
    shutil.copytree(settings.run, tmp_path / "died")
    last = settings.run / "checkpoints" / "last"
    for file, damage in DAMAGE:
        shutil.rmtree(settings.run)
        shutil.copytree(tmp_path / "died", settings.run)
        damage(last / file)
        caplog.clear()
        train(settings)
        (line,) = {line for line in caplog.messages if "damaged" in line}
        assert line.startswith(f"damaged: {last} (") and file in line
        assert line.endswith(f"the state before it, {last.parent / 'before_last'}")
        assert same(whole, settings.run)


def test_a_damaged_state_never_pushes_out_a_whole_one(toy_config, whole, dying, caplog):
    """Damaged, continued and damaged again behind the next state: the one that it went on from is still there."""
    settings = load_settings(toy_config, [OFTEN])
    last = settings.run / "checkpoints" / "last"
    for lines in (13, 2):
        dying(settings, "append_jsonl", lines)
        flip(last / "model.safetensors")
    train(settings)
    assert len({line for line in caplog.messages if "damaged" in line}) == 1 and same(whole, settings.run)


def test_two_damaged_states_are_refused(toy_config, dying):
    settings = load_settings(toy_config, [OFTEN])
    dying(settings, "append_jsonl", 5)
    for name in ("last", "before_last"):
        flip(settings.run / "checkpoints" / name / "model.safetensors")
    with pytest.raises(UserError, match=r"no saved state is whole: .*last.*; .*before_last.*delete"):
        train(settings)


def test_a_state_of_an_earlier_version_holds_no_hashes_and_is_believed(tmp_path):
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "progress.json").write_text('{"epoch": 1, "step": 3}')
    assert find_last(tmp_path) == tmp_path / "last"


def test_no_line_of_the_log_is_written_twice(toy_config, tmp_path, dying):
    """A run that dies behind the last state of an epoch, in or behind its validation, and between two batches of one
    update: lines share a step there."""
    undisturbed = load_settings(toy_config, [f"run={tmp_path / 'whole'}", "train.accumulation=2"])
    train(undisturbed)
    settings = load_settings(toy_config, [OFTEN, "train.accumulation=2"])
    dying(settings, "append_jsonl", 4)
    dying(settings, "_after_epoch", 1)
    dying(settings, "append_jsonl", 2)
    train(settings)
    assert same(undisturbed.run, settings.run)


def test_a_state_that_cannot_be_written_is_one_message(toy_config, whole, monkeypatch):
    """The disk is full: what was half written takes no room, the state before is whole, and the run goes on from it."""
    settings, real, calls = load_settings(toy_config, [OFTEN]), Accelerator.save_state, []

    def fail(self, folder, **given):
        real(self, folder, **given)
        calls.append(folder)
        if len(calls) == 3:
            raise RuntimeError("unexpected pos 64 vs 0")

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", fail)
        with pytest.raises(UserError, match=r"could not be written to .*last \(unexpected pos.*MB are free"):
            train(settings)
    assert sorted(p.name for p in (settings.run / "checkpoints").iterdir()) == ["before_last", "last"]
    train(settings)
    assert same(whole, settings.run)


def processes(count, accumulation):
    return SimpleNamespace(num_processes=count, gradient_accumulation_steps=accumulation)


def test_another_number_of_processes_takes_as_many_samples_for_an_update(caplog):
    """Two processes of one batch are one process of two; anything else is refused with what to set."""
    saved = {"processes": 2, "accumulation": 2}
    check_processes(saved, processes(2, 2))
    assert not caplog.messages
    check_processes(saved, processes(1, 4))
    assert "continuing with 1 processes what 2 began" in caplog.text
    with pytest.raises(UserError, match=r"took 4 batches.*would take 2.*continue with train.accumulation=4"):
        check_processes(saved, processes(1, 2))
    with pytest.raises(UserError, match="continue with 2 processes"):
        check_processes(saved, processes(3, 1))
