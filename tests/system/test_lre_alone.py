"""lre.steps: LRE is trained before the rest, then stays as it is."""

import pytest
import torch
from tiny import make_session, training_batch

from revtaf.engine.optim import objective


@pytest.fixture(scope="module")
def alone(tiny_config):
    return make_session(tiny_config, "lre.steps=20", "lre.batch_size=16", "lre.grp_source=learned")


def weights(session):
    return [p.detach().clone() for p in session.plain_model.hnn.parameters()]


def test_it_is_trained_once_then_frozen_and_no_term_of_the_objective(alone):
    """Only its own weights change, no random number is used up; then no gradient reaches it and no optimiser has it."""
    before, others = weights(alone), {n: p.clone() for n, p in alone.model.named_parameters() if "hnn" not in n}
    state = torch.get_rng_state()
    alone.before_training()
    assert torch.equal(torch.get_rng_state(), state)
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(alone), strict=True))
    assert all(torch.equal(p, others[n]) for n, p in alone.model.named_parameters() if n in others)
    assert list(alone.weights) == ["lm", "disease", "consistency"]
    batch, _ = training_batch(alone)
    alone.start_epoch()
    losses = alone.losses(batch, 0)
    objective(losses, alone.weights).backward()
    assert losses["rank"] > 0 and all(p.grad is None for p in alone.plain_model.hnn.parameters())
    optimised = {id(p) for o in alone.optimizers() for g in o.param_groups for p in g["params"]}
    assert not optimised & {id(p) for p in alone.plain_model.hnn.parameters()}
    assert "20 updates of 16: rank loss" in alone.notes["LRE"]


def test_the_retriever_is_asked_once_and_a_continued_run_knows_what_was_done(alone, tiny_config, monkeypatch):
    alone.before_training()
    alone.start_epoch()
    kept = {name: value.clone() for name, value in alone.state().items()}
    monkeypatch.setattr(type(alone), "index", lambda self: pytest.fail("asked again"))
    alone.start_epoch()
    other = make_session(tiny_config, "lre.steps=20", "lre.batch_size=16", "lre.grp_source=learned")
    other.load_state(kept)
    other.start_epoch()
    assert torch.equal(other.training_retrieved.table, kept["retrieved"]) and other.notes["LRE"] == alone.notes["LRE"]


def test_without_steps_nothing_happens_before(session):
    before = weights(session)
    session.before_training()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(session), strict=True))
    assert "rank" in session.weights and "LRE" not in session.notes and "lre" not in session.state()
