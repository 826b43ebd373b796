"""A step that is not finite: found, kept, repeated."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from revtaf.commands.replay import replay_step
from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.engine.nonfinite import finite_gradients, locate, random_states, set_random_states
from revtaf.errors import UserError
from revtaf.files import read_json


def test_a_step_that_overflows_is_kept_and_can_be_repeated(toy_config, capsys):
    """The message and the folder say step, samples and module; `revtaf replay` finds the same, from plain files."""
    settings = load_settings(toy_config, ["train.lr=3e37", "train.warmup_lr=3e37"])
    with pytest.raises(UserError, match=r"loss is not finite at step 1 \(nll inf\), first in the loss nll"):
        train(settings)
    folder = settings.run / "nonfinite-1"
    record = read_json(folder / "batch.json")
    assert len(record["ids"]) == len(record["rows"]) == 6 and record["where"].startswith("the loss nll")
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".yaml"}
    assert replay_step(folder, [])
    said = capsys.readouterr().out
    assert "now: not finite again, first in the loss nll" in said and record["ids"][0] in said


def test_a_folder_that_is_no_step_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no step"):
        replay_step(tmp_path, [])


class Root(nn.Module):
    """Finite at 0, where its derivative is not."""

    def forward(self, x):
        return x.sqrt()


def system_of(model, loss):
    """What `locate` asks of a system."""
    accelerator = SimpleNamespace(unwrap_model=lambda model: model)
    system = SimpleNamespace(model=model, weights={"one": 1.0}, accelerator=accelerator)
    system.losses = lambda batch, draw: {"one": loss(system.model(batch))}
    return system


@pytest.mark.parametrize(
    ("loss", "bias", "where"),
    [
        (torch.sum, float("inf"), "module 0 (Linear)"),
        (torch.sum, 0.0, "the gradient that comes to the output of module 0 (Linear)"),
        (lambda y: y.sum() / 0, 1.0, "the loss one (the output of every module is finite)"),
    ],
)
def test_the_first_place_is_found(loss, bias, where):
    """A module, not those behind it; a gradient, where it comes first; a loss, where all modules are finite."""
    linear = nn.Linear(2, 2)
    nn.init.zeros_(linear.weight)
    nn.init.constant_(linear.bias, bias)
    system = system_of(nn.Sequential(linear, Root()), loss)
    assert locate(system, torch.ones(3, 2), 0, random_states()) == where
    assert not any(module._forward_hooks for module in system.model.modules())


def test_gradients_are_looked_at_as_they_are():
    """The largest finite numbers, whose squares overflow, are finite; one NaN or infinity is not."""
    model = nn.Linear(3, 2)
    assert finite_gradients(model)
    for value, finite in ((3e38, True), (float("inf"), False), (float("nan"), False)):
        model.weight.grad = torch.zeros(2, 3).index_put((torch.tensor(0), torch.tensor(1)), torch.tensor(value))
        assert finite_gradients(model) == finite


def test_random_states_are_restored_to_the_next_number():
    """Of torch, NumPy and Python, also between the two numbers of a pair."""
    random.gauss(0, 1)
    np.random.normal()
    states = random_states()
    drawn = [(random.gauss(0, 1), np.random.normal(), torch.rand(1).item()) for _ in range(2)]
    set_random_states(states)
    assert drawn == [(random.gauss(0, 1), np.random.normal(), torch.rand(1).item()) for _ in range(2)]
