"""Distances in the ball: geoopt in float64 is the judge."""

import pytest
import torch

from revtaf.lre import ball
from revtaf.lre.ball import cosine_distance, euclidean_distance, pairwise, pairwise_distance

CURVATURES = (1e-3, 0.01, 0.1, 1.0)


def points(n: int, c: float, largest: float = 0.99, width: int = 32, seed: int = 0, dtype=torch.float64):
    """n directions with norms spread evenly over [0, largest] of the radius."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator, dtype=torch.float64)
    share = torch.linspace(0, largest, n, dtype=torch.float64)
    return (x / x.norm(dim=1, keepdim=True) * share[:, None] / c**0.5).to(dtype)


@pytest.mark.parametrize("c", CURVATURES)
def test_agrees_with_geoopt_up_to_the_edge(c):
    geoopt = pytest.importorskip("geoopt")
    manifold = geoopt.PoincareBall(c=torch.tensor(c, dtype=torch.float64))
    x, y = points(40, c, seed=1), points(30, c, seed=2)
    expected = manifold.dist(x[:, None], y[None])
    torch.testing.assert_close(pairwise_distance(x, y, c), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("c", CURVATURES)
def test_agrees_with_the_moebius_form_of_the_paper(c):
    """Eq. 3 and 4 as printed, with the minus sign that makes it a metric."""
    x, y = points(20, c, seed=3)[:, None], points(20, c, seed=4)[None]
    x2, y2, xy = x.square().sum(-1, True), y.square().sum(-1, True), (-x * y).sum(-1, True)
    total = ((1 + 2 * c * xy + c * y2) * -x + (1 - c * x2) * y) / (1 + 2 * c * xy + c**2 * x2 * y2)
    expected = 2 / c**0.5 * torch.atanh(c**0.5 * total.norm(dim=-1))
    torch.testing.assert_close(pairwise_distance(x[:, 0], y[0], c), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("c", CURVATURES)
def test_is_a_metric(c):
    x = points(25, c)
    d = pairwise_distance(x, x, c)
    assert torch.equal(d, d.T)
    assert (d.diag() == 0).all() and (d + torch.eye(25) > 0).all()
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-9).all()


@pytest.mark.parametrize("metric", ball.METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_finite_at_distance_zero_and_at_the_edge(metric, dtype):
    x = points(12, 0.01, largest=0.9999, dtype=dtype)
    x = torch.cat([x, x[:3]]).requires_grad_()
    pairwise(metric, x, x, 0.01).sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_gradient_of_the_distance_to_itself_is_zero():
    x = points(5, 0.01).requires_grad_()
    pairwise_distance(x, x, 0.01).diag().sum().backward()
    assert (x.grad == 0).all()


def test_gradient_is_right():
    c = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x, y = points(4, 0.5, 0.9, 3, 5).requires_grad_(), points(3, 0.5, 0.9, 3, 6).requires_grad_()
    assert torch.autograd.gradcheck(pairwise_distance, (x, y, c))


@pytest.mark.parametrize("metric", ("hyperbolic", "euclidean"))
def test_matrix_product_and_direct_differences_agree(metric, monkeypatch):
    x, y = points(30, 0.1, seed=1) + 0.05, points(40, 0.1, largest=0.9, seed=2) + 0.05
    direct = pairwise(metric, x, y, 0.1)
    direct32 = pairwise(metric, x.float(), y.float(), 0.1)
    monkeypatch.setattr(ball, "DIRECT_LIMIT", 0)
    torch.testing.assert_close(pairwise(metric, x, y, 0.1), direct, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(pairwise(metric, x.float(), y.float(), 0.1), direct32, rtol=1e-4, atol=1e-4)


def test_small_distances_keep_their_digits():
    """arcosh(1 + u) would return 0 here: u = 2e-16 is lost against 1."""
    x = torch.full((1, 4), 1.0, dtype=torch.float64)
    y = x + 5e-8
    c = 0.01
    expected = 2 / c**0.5 * c**0.5 * 1e-7 / (1 - c * 4)
    assert pairwise_distance(x, y, c).item() == pytest.approx(expected, rel=1e-6)


def test_radial_distance_has_a_closed_form():
    c = 0.25
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    d = pairwise_distance(torch.zeros_like(x), x, c)
    torch.testing.assert_close(d, 2 / c**0.5 * torch.atanh(c**0.5 * x[:, :1]))


def test_small_curvature_is_twice_the_euclidean_distance():
    x, y = points(6, 1.0, seed=1), points(6, 1.0, seed=2)
    torch.testing.assert_close(pairwise_distance(x, y, 1e-9), 2 * euclidean_distance(x, y), rtol=1e-6, atol=0)


def test_half_types_are_computed_in_float32_also_under_autocast():
    x = points(8, 0.01, 0.9, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        d = pairwise_distance(x, x, 0.01)
    assert d.dtype == torch.float32
    torch.testing.assert_close(d, pairwise_distance(x.float(), x.float(), 0.01))


def test_cosine_of_a_zero_vector_is_defined():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert cosine_distance(x, torch.tensor([[3.0, 0.0], [0.0, 1.0]])).tolist() == [[1, 1], [0, 1]]


def test_errors_name_both_sides():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="3 and 4"):
        pairwise_distance(x, torch.zeros(2, 4), 1.0)
    with pytest.raises(ValueError, match="positive"):
        pairwise_distance(x, x, 0.0)
    with pytest.raises(ValueError, match="manhattan"):
        pairwise("manhattan", x, x)
