"""`train.precision`: bf16 only where the device computes in it, and a warning where it was asked for in vain."""

import logging

import numpy as np
import pytest
import torch

from revtaf.engine import runtime
from revtaf.engine.batches import EpochBatches
from revtaf.engine.runtime import choose_precision
from revtaf.precision import computes_in_bf16


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "no")])
def test_auto_is_bf16_where_there_are_instructions_for_it(monkeypatch, native, chosen, caplog):
    """Nobody has to know his processor, and nobody is warned of what he did not ask for."""
    monkeypatch.setattr(runtime, "computes_in_bf16", lambda device: native)
    assert choose_precision("auto", cpu=True) == chosen
    assert not caplog.records


@pytest.mark.parametrize(
    ("wanted", "native", "warned"),
    [("bf16", False, True), ("bf16", True, False), ("fp16", True, True), ("no", False, False)],
)
def test_half_precision_by_name_warns_on_a_processor_without_it(monkeypatch, caplog, wanted, native, warned):
    """It is emulated there, ten times slower; what was asked for is done all the same."""
    monkeypatch.setattr(runtime, "computes_in_bf16", lambda device: native)
    with caplog.at_level(logging.WARNING, logger="revtaf"):
        assert choose_precision(wanted, cpu=True) == wanted
    assert bool([r for r in caplog.records if "train.precision" in r.message]) == warned


def test_a_processor_without_a_known_instruction_has_none(monkeypatch):
    """Also under a PyTorch that cannot tell."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not computes_in_bf16("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert computes_in_bf16("cpu")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not computes_in_bf16("cpu")


def padding(batches: EpochBatches, lengths: np.ndarray) -> int:
    groups = [np.array([lengths[row] for _, row in batch]) for batch in batches]
    return sum(int(group.max() * len(group) - group.sum()) for group in groups)


def test_batches_of_like_length_hold_every_sample_once_and_little_padding():
    """As random ones, a function of seed and epoch alone; the short reports do not come first."""
    lengths = np.random.default_rng(0).integers(10, 110, 203)
    plain, bucketed = EpochBatches(203, 8, 1), EpochBatches(203, 8, 1, lengths=lengths)
    rows = [row for batch in bucketed for _, row in batch]
    assert sorted(rows) == list(range(203))
    assert padding(bucketed, lengths) < padding(plain, lengths) / 3
    assert rows == [row for batch in bucketed for _, row in batch]
    bucketed.move_to(1, 0)
    assert rows != [row for batch in bucketed for _, row in batch]
    bucketed.move_to(0, 5)  # continued in the middle of an epoch
    assert [row for batch in bucketed for _, row in batch] == rows[40:]
    means = [np.mean([lengths[row] for _, row in batch]) for batch in EpochBatches(203, 8, 1, lengths=lengths)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5
