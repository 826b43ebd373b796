"""Streams of random numbers: one part of a model never moves the numbers of another."""

from itertools import combinations

import pytest
import torch
from tiny import TINY

from revtaf.engine.batches import EpochBatches
from revtaf.model import REVTAF
from revtaf.rng import generator, stream, substream
from revtaf.settings import Settings
from revtaf.tokenizer import ReportTokenizer

FLAGS = {
    "lre.enabled": False,
    "fvtaf.enabled": False,
    "classifier.memory": False,
    "lre.metric": "cosine",
    "fvtaf.attention": "softmax",
    "fvtaf.shared": True,
    "fvtaf.projection": "feed_forward",
    "fvtaf.residual": "normalised",
    "lre.learnable_curvature": True,
}


def weights(changed: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Initial weights of a tiny model. The global generator is moved before: it must not matter."""
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for key, value in changed.items():
        section, name = key.split(".")
        content.setdefault(section, {})[name] = value
    torch.rand(len(changed) + 1)
    tokenizer = ReportTokenizer.fit(["the heart is normal.", "the heart is large."], 100)
    model = REVTAF(Settings.model_validate(content | {"seed": seed}), 18, tokenizer, 64, 64)
    return dict(model.named_parameters())


@pytest.fixture(scope="module")
def plain():
    return weights({})


@pytest.mark.parametrize("pair", combinations(FLAGS, 2), ids=" ".join)
def test_no_flag_changes_another_parts_first_weights(plain, pair):
    """Whatever two flags are set, every tensor that both models have starts the same."""
    changed = weights({name: FLAGS[name] for name in pair})
    shared = [name for name in plain if name in changed and changed[name].shape == plain[name].shape]
    assert len(shared) > 50 and {name.split(".")[0] for name in shared} >= {"encoder", "classifier", "decoder"}
    moved = [name for name in shared if not torch.equal(plain[name], changed[name])]
    # One attention for both sources, or none of a kind, is another part, not another start.
    assert moved == []
    only_decoder = [name for name in plain if name.startswith("decoder.lm") and name not in shared]
    assert only_decoder == [], "the decoder's own weights must not depend on the width of its features"


def test_another_seed_starts_every_matrix_elsewhere(plain):
    """The seed is part of every stream."""
    other = weights({}, seed=1)
    drawn = [name for name, value in plain.items() if value.ndim > 1 and value.std() > 0]
    assert drawn and not [name for name in drawn if torch.equal(plain[name], other[name])]


def test_the_order_of_the_data_depends_on_seed_and_epoch_alone():
    """Numbers drawn elsewhere do not reach it."""
    first = [list(EpochBatches(20, 4, seed=3))]
    torch.rand(7)
    assert first == [list(EpochBatches(20, 4, seed=3))]


def test_a_stream_leaves_the_global_generator_where_it_was():
    """And is the same whatever that was."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with stream(0, "a"):
        first = torch.rand(2)
        with substream("b"):
            inner = torch.rand(2)
        last = torch.rand(1)
    assert torch.equal(torch.rand(3), expected)
    with stream(0, "a"):
        assert torch.equal(torch.rand(2), first)
        assert torch.equal(torch.rand(1), last)  # the inner stream took nothing from the outer one
    with stream(0, "c"), substream("b"):
        assert not torch.equal(torch.rand(2), inner)
    assert generator(0, "x", 1).integers(10**9) == generator(0, "x", 1).integers(10**9)
    assert generator(0, "x", 1).integers(10**9) != generator(0, "x", 2).integers(10**9)


def test_outside_of_a_stream_a_substream_draws_from_the_global_generator():
    """A part that is built alone follows torch.manual_seed, as any module."""
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with substream("b"):
        assert torch.equal(torch.rand(2), expected)
