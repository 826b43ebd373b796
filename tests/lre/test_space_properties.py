"""Properties of the retrieval space for whatever numbers come: extreme scales, zero vectors, half precision."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from revtaf.lre.ball import METRICS, pairwise
from revtaf.lre.hnn import EDGE_MARGIN, HNN
from revtaf.lre.rank_loss import TIES, rank_loss

MANY = settings(max_examples=40, deadline=None, derandomize=True)
HALF = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SEED = st.integers(0, 2**31)


def numbers(seed, rows, width, scale, zeros):
    """Normal numbers times a scale, with rows of zeros and equal rows among them."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * scale
    x[:zeros] = 0
    x[-1] = x[-2]
    return x


@MANY
@given(SEED, HALF, st.floats(-30, 0), st.integers(0, 3), st.sampled_from(METRICS), st.floats(1e-4, 10))
def test_distances_and_their_gradients_are_finite(seed, dtype, exponent, zeros, metric, c):
    """Symmetric and 0 to itself, from the centre of the ball to the margin that HNN keeps from its edge."""
    if dtype is torch.float16:  # its numbers end at 65,504: the slope at a vector without direction is larger
        exponent, zeros = max(exponent, -3.0), 0 if metric == "cosine" else zeros
    x = numbers(seed, 6, 5, 1.0, zeros)
    x = x / x.norm(dim=1, keepdim=True).clamp_min(1) / c**0.5 * (1 - EDGE_MARGIN) * 10**exponent
    x = x.to(dtype).requires_grad_()
    distance = pairwise(metric, x, x, c)
    distance.mean().backward()
    assert distance.isfinite().all() and (distance >= -1e-6).all() and x.grad.isfinite().all()
    assert_close(distance, distance.T, rtol=1e-5, atol=1e-6)
    if metric != "cosine":
        assert (distance.diag() == 0).all() and distance[-1, -2] == 0


@MANY
@given(SEED, HALF, st.floats(-20, 20), st.integers(0, 3), st.floats(1e-4, 10), st.sampled_from(METRICS))
def test_every_input_becomes_a_point_of_the_ball(seed, dtype, exponent, zeros, c, metric):
    """Scores of any size, zero too: a point within the margin, equal ones at equal points, with finite gradients."""
    torch.manual_seed(seed)
    net = HNN(7, (6, 5), c, metric=metric)
    x = numbers(seed, 6, 7, 1.0, zeros) * min(10.0**exponent, 1e4 if dtype is torch.float16 else 1e18)
    x = x.to(dtype).requires_grad_()
    points = net(x)
    points.square().sum().clamp_max(1e30).backward()
    assert points.isfinite().all()
    assert_close(points[-1], points[-2])
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    if metric == "hyperbolic":
        assert (points.norm(dim=1) * c**0.5 <= 1 - EDGE_MARGIN + 1e-5).all() and x.grad.isfinite().all()


@MANY
@given(SEED, HALF, st.floats(-10, 4), st.integers(1, 6), st.sampled_from(TIES), st.floats(0.01, 10))
def test_the_rank_loss_is_finite_and_falls_when_label_neighbours_come_nearer(
    seed, dtype, exponent, size, ties, temperature
):
    """Of any distances, of one study alone; its gradient never pushes the nearest by labels away."""
    draw = torch.Generator().manual_seed(seed)
    distance = (torch.rand(size, size, generator=draw) * 10**exponent).to(dtype).requires_grad_()
    statuses = torch.randint(0, 4, (size, 3), generator=draw)
    loss = rank_loss(distance, statuses, ties, temperature)
    loss.backward()
    assert loss.isfinite() and loss >= 0 and distance.grad.isfinite().all()
    assert (distance.grad.diag() == 0).all()
    if size > 1:  # a gradient that moves mass: each row sums to zero
        assert_close(distance.grad.float().sum(1), torch.zeros(size), rtol=0, atol=0.02 / temperature)
