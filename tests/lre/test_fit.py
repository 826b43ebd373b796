"""LRE trained by itself: it learns, several nets at once are each what they would be alone, nothing else is drawn."""

import copy
import math

import numpy as np
import pytest
import torch

from revtaf.lre.ball import METRICS, pairwise
from revtaf.lre.fit import _batches, fit
from revtaf.lre.hnn import HNN, to_space
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import status_distance
from revtaf.lre.rank_loss import rank_loss


def a_task(n: int = 160, seed: int = 0):
    """Scores (n, 12) of which the first four show six statuses; the others, which vary more, say nothing."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.rand(n, 12, generator=g)
    statuses = (scores[:, [0, 1, 2, 3, 0, 1]] > 0.5).long()
    scores[:, :4] = 0.3 + 0.4 * scores[:, :4]
    return scores, statuses


def nets(count: int, **options):
    torch.manual_seed(1)
    return [HNN(12, (16, 16), **options) for _ in range(count)]


OPTIONS = {"steps": 12, "batch_size": 16, "lr": 1e-2, "weight_decay": 0.05}


@pytest.mark.parametrize("metric", METRICS)
def test_a_network_beside_others_is_trained_as_alone(metric):
    """Weights and losses of three at once, against each by itself with its seed."""
    together = nets(3, metric=metric)
    each = copy.deepcopy(together)
    scores, statuses = a_task()
    losses = fit(together, scores, statuses, seeds=[5, 6, 7], **OPTIONS)
    assert losses.shape == (3, 12)
    for i, net in enumerate(each):
        alone = fit([net], scores, statuses, seeds=[5 + i], **OPTIONS)
        torch.testing.assert_close(alone[0], losses[i], atol=1e-5, rtol=1e-5)
        for a, b in zip(net.parameters(), together[i].parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
    assert not torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("learnable", [False, True])
def test_it_learns_what_the_raw_scores_do_not_show(learnable):
    """The loss falls below that of equal distances, and first neighbours of new scores come nearer by statuses."""
    (net,) = nets(1, learnable_curvature=learnable)
    scores, statuses = a_task()
    new, truth = a_task(seed=1)
    curvature = float(net.c.detach())
    losses = fit([net], scores, statuses, seeds=[0], steps=250, batch_size=32, lr=2e-2)[0]
    assert losses[-10:].mean() < losses[:10].mean() - 0.3 and losses[-10:].mean() < math.log(31) - 0.3
    assert (float(net.c.detach()) != curvature) == learnable
    with torch.no_grad():
        learned = RetrievalIndex(net(scores), net.c).search(net(new), 1)[1][:, 0]
    raw = RetrievalIndex(scores, 1.0, metric="euclidean").search(new, 1)[1][:, 0]
    full = status_distance(truth, statuses).float()
    found, before = (full.gather(1, rows[:, None]).mean() for rows in (learned, raw))
    assert found < 0.7 * before


@pytest.mark.parametrize("learnable", [False, True])
def test_every_loss_is_that_of_the_network_with_its_own_curvature(learnable):
    """An ordinary loop over the module itself, to the bit: a learned curvature is the map's and the distance's."""
    (net,) = nets(1, learnable_curvature=learnable)
    plain = copy.deepcopy(net)
    scores, statuses = a_task()
    losses = fit([net], scores, statuses, seeds=[3], **OPTIONS)[0]
    trained = [p for p in plain.parameters() if p.requires_grad]
    groups = [[p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]]
    decays = (OPTIONS["weight_decay"], 0.0)
    optimizer = torch.optim.AdamW([{"params": g, "weight_decay": d} for g, d in zip(groups, decays, strict=True)])
    batches = _batches(np.random.default_rng((3, *b"lre")), len(scores), OPTIONS["batch_size"])
    for step, expected in enumerate(losses):
        for group in optimizer.param_groups:
            group["lr"] = OPTIONS["lr"] * 0.5 * (1 + math.cos(math.pi * step / OPTIONS["steps"]))
        rows = next(batches)
        points = plain(scores[rows])
        loss = rank_loss(pairwise("hyperbolic", points, points, plain.c, direct=0), statuses[rows])
        assert torch.equal(loss, expected), step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))


def test_it_draws_from_its_seed_alone():
    """The same whatever the random state is, which stays as it was; another seed takes other batches."""
    scores, statuses = a_task()
    results = []
    for before, seed in ((0, 3), (99, 3), (0, 4)):
        (net,) = nets(1)
        torch.manual_seed(before)
        state = torch.get_rng_state()
        results.append(fit([net], scores, statuses, seeds=[seed], **OPTIONS))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_a_batch_larger_than_the_set_is_the_set():
    (net,) = nets(1)
    scores, statuses = a_task(10)
    assert fit([net], scores, statuses, seeds=[0], steps=3, batch_size=64, lr=1e-3).isfinite().all()


def test_curvatures_are_learned_one_at_a_time():
    with pytest.raises(ValueError, match="one at a time"):
        fit(nets(2, learnable_curvature=True), *a_task(), seeds=[0, 1], **OPTIONS)


def test_logits_are_cut():
    """Probability 0 and 1 give +-9.2; probabilities stay as they are."""
    p = torch.tensor([[0.0, 0.5, 1.0]])
    assert torch.equal(to_space(p, "prob"), p)
    torch.testing.assert_close(to_space(p, "logit"), torch.tensor([[-9.2102, 0.0, 9.2102]]), atol=1e-3, rtol=0)
