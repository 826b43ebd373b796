"""The hyperbolic network: it stays in the ball, trains, and means the same in every precision."""

import copy
import math

import pytest
import torch

from revtaf.lre.ball import METRICS, pairwise, pairwise_distance
from revtaf.lre.hnn import EDGE_MARGIN, HNN
from revtaf.lre.rank_loss import rank_loss


def scores(n: int = 32, seed: int = 0):
    """Probabilities as an entity classifier gives them: mostly small."""
    return torch.rand(n, 75, generator=torch.Generator().manual_seed(seed)) ** 4


@pytest.mark.parametrize("c", (1e-3, 0.01, 1.0))
@pytest.mark.parametrize("scale", (0.0, 1.0, 1e3))
def test_outputs_and_gradients_stay_in_the_ball(c, scale):
    torch.manual_seed(0)
    hnn = HNN(curvature=c)
    x = (scores() * scale).requires_grad_()
    h = hnn(x)
    assert h.shape == (32, 512) and h.dtype == torch.float32
    assert (hnn.c.sqrt() * h.norm(dim=1)).max() <= 1 - EDGE_MARGIN + 1e-5
    pairwise_distance(h, h, hnn.c).sum().backward()
    assert all(p.grad.isfinite().all() for p in hnn.layers.parameters()) and x.grad.isfinite().all()


@pytest.mark.parametrize("metric", METRICS)
def test_initial_distances_are_spread(metric):
    """Embeddings of different images differ, and none is pinned to the edge: the rank loss can start."""
    torch.manual_seed(0)
    hnn = HNN(metric=metric)
    h = hnn(scores(64))
    d = pairwise(metric, h, h, hnn.c)[~torch.eye(64, dtype=torch.bool)]
    assert d.std() > 0.05 * d.mean() and d.min() > 0.2 * d.mean()
    if metric == "hyperbolic":
        radius = hnn.c.sqrt() * h.norm(dim=1)
        assert 0.1 < radius.min() and radius.max() < 0.95


def test_one_layer_by_hand():
    """With the identity as weights and no bias the layer is exp_0(ReLU(x))."""
    hnn = HNN(in_features=3, widths=(3,), curvature=0.04)
    with torch.no_grad():
        hnn.layers[0].weight.copy_(torch.eye(3))
    x = torch.tensor([[1.0, -2.0, 0.5]])
    v = x.relu()
    expected = math.tanh(0.2 * v.norm()) / 0.2 * v / v.norm()
    torch.testing.assert_close(hnn(x), expected)


def test_without_biases_it_is_a_flat_network_mapped_into_the_ball_once():
    """exp_0(ReLU(W_2 ReLU(W_1 x))): each layer's log_0 undoes the exp_0 before it."""
    torch.manual_seed(0)
    hnn, x = HNN(), scores()
    v = x
    for layer in hnn.layers:
        v = (v @ layer.weight.T).relu()
    torch.testing.assert_close(hnn(x), hnn.ball.expmap0(v), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("learnable", (True, False))
def test_curvature(learnable):
    hnn = HNN(curvature=0.01, learnable_curvature=learnable)
    assert hnn.c.item() == pytest.approx(0.01, rel=1e-6)
    h = hnn(scores())
    rank_loss(pairwise_distance(h, h, hnn.c), torch.randint(0, 4, (32, 18))).backward()
    raw = hnn.ball.isp_c
    assert (raw.grad is not None and raw.grad.abs() > 0) if learnable else not raw.requires_grad
    assert ("ball.isp_c" in dict(hnn.named_parameters())) is True
    restored = HNN(curvature=0.5, learnable_curvature=learnable)
    restored.load_state_dict(hnn.state_dict())
    assert restored.c.item() == pytest.approx(0.01, rel=1e-6)


def test_bias_moves_the_output():
    hnn = HNN()
    before = hnn(scores())
    with torch.no_grad():
        hnn.layers[-1].bias += 0.5
    assert (hnn(scores()) - before).abs().max() > 0.1


def test_autocast_and_float64_change_nothing_but_rounding():
    torch.manual_seed(0)
    hnn = HNN()
    plain = hnn(scores())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(hnn(scores()), plain)
    saturated = scores() * 1e3
    double = copy.deepcopy(hnn).double()(saturated.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(hnn(saturated).double(), double, rtol=1e-3, atol=1e-3)


def test_a_few_steps_bring_label_neighbours_together():
    torch.manual_seed(0)
    x, statuses = scores(16), torch.randint(0, 4, (16, 18))
    hnn = HNN(learnable_curvature=True)
    optimiser = torch.optim.AdamW(hnn.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        h = hnn(x)
        loss = rank_loss(pairwise_distance(h, h, hnn.c), statuses)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_wrong_width_is_named():
    with pytest.raises(ValueError, match="expected 75 numbers of each image, got 74"):
        HNN()(torch.zeros(2, 74))
