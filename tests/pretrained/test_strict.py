"""Strict loading: what does not fit is named, and nothing of it is loaded."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import revtaf
from revtaf.errors import UserError
from revtaf.pretrained.strict import load_strictly, stored_names

FILE = Path("some/file.safetensors")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5)
        self.out.weight = self.words.weight


def test_missing_unknown_and_misshapen_tensors_are_told_together_and_nothing_is_loaded():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = {"0.weight": torch.ones(3, 2), "1.weight": torch.ones(4, 2), "1.bias": torch.ones(4), "foo": torch.ones(1)}
    with pytest.raises(UserError) as caught:
        load_strictly(net, state, FILE, "encoder.weights", "take another file")
    assert str(caught.value) == (
        f"encoder.weights: {FILE} does not fit (4 tensors, expected 4): it lacks 1 keys, first ['0.bias']; "
        "it has 1 unknown keys, first ['foo']; 1.weight is (4, 2), expected (4, 3); take another file"
    )
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_tied_tensors_are_stored_once_and_loaded_under_both_names():
    saved, net = Tied(), Tied()
    names = stored_names(saved.state_dict())
    assert names == {"words.weight": "words.weight", "out.weight": "words.weight", "out.bias": "out.bias"}
    state = {name: saved.state_dict()[name] for name in set(names.values())}
    load_strictly(net, state, FILE, "checkpoint", tied=True)
    assert torch.equal(net.out.weight, saved.words.weight) and net.out.weight is net.words.weight
    for wrong in (state | {"out.weight": saved.out.weight}, {"out.bias": saved.out.bias}):
        with pytest.raises(UserError, match="checkpoint: .*does not fit"):
            load_strictly(net, wrong, FILE, "checkpoint", tied=True)


def test_nothing_in_the_package_is_loaded_loosely():
    for path in Path(revtaf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_state_dict":
                if ast.unparse(node.func.value) == "optimizer":  # which has no other way
                    continue
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("strict") == "True", (path, node.lineno)
