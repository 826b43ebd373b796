"""Distances in the Poincare ball: paper section 3.3, Eq. 3-5, in closed form.

Convention: `c > 0` is the magnitude of the curvature, the ball's radius is 1/sqrt(c), points are stored as
they are (no scaling by sqrt(c)), and the exponential map at 0 has no factor 1/2, so exp_0(v) lies at
distance 2|v|.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# DIFFERS: Eq. 3 prints |x (+) y|. With that d(x, x) is not 0 (27 at c = .01): the minus sign of the metric,
# |(-x) (+) y|, is missing. We use the metric.

# Smallest value of 1 - c|x|^2. Without it a point that rounding put on the edge is infinitely far from
# everything and its gradient is NaN. `HNN` keeps its outputs at 8e-3 or more, far from here.
EDGE = {torch.float32: 1e-6, torch.float64: 1e-12}
# Smallest norm of a vector whose direction is used. Without it the cosine of a zero vector is NaN.
NORM_FLOOR = 1e-8
# Up to this many differences (64 MB in float32) x - y is formed directly: d(x, x) is exactly 0 and near
# neighbours keep full precision. Above it one matrix product serves, and a true 0 comes out as rounding
# noise.
DIRECT_LIMIT = 2**24

METRICS = ("hyperbolic", "euclidean", "cosine")


def pairwise_distance(x: Tensor, y: Tensor, c: float | Tensor, direct: int = DIRECT_LIMIT) -> Tensor:
    """Geodesic distances between two sets of points of the ball of curvature -c.

    d(x, y) = 2/sqrt(c) artanh(sqrt(c) |(-x) (+)_c y|) = 2/sqrt(c) asinh(sqrt(c) |x - y| / sqrt(a(x) a(y))),
    with a(x) = 1 - c|x|^2. The second form needs no Moebius sum (no (N, M, D) tensors) and is exact near 0,
    where the usual arcosh(1 + u) loses half of the digits.

    x (N, D), y (M, D), inside the ball; c positive, a number or a scalar tensor (which then gets a gradient).
    direct: see `DIRECT_LIMIT`.
    Returns (N, M), 0 or more, in float32 (float64 if an input is). The gradient at distance 0 is 0, not NaN.
    Source: Eq. 3-5; the identity is sinh^2(t) = tanh^2(t) / (1 - tanh^2(t)) applied to Eq. 4.
    """
    x, y = _same_float(x, y)
    if not isinstance(c, Tensor) and not c > 0:
        raise ValueError(f"curvature must be positive, got {c}")
    with torch.autocast(x.device.type, enabled=False):
        c = torch.as_tensor(c, dtype=x.dtype, device=x.device)
        gap = _safe_sqrt(_squared_distance(x, y, direct))
        scale = (edge_factor(x, c)[:, None] * edge_factor(y, c)[None, :]).sqrt()
        root = c.sqrt()
        return 2 / root * torch.asinh(root * gap / scale)


def edge_factor(x: Tensor, c: float | Tensor) -> Tensor:
    """1 - c|x|^2 for x (N, D) -> (N,), in (0, 1]: 1 at the centre, 0 at the edge (clamped at EDGE)."""
    return (1 - c * x.square().sum(-1)).clamp_min(EDGE[x.dtype])


def euclidean_distance(x: Tensor, y: Tensor, direct: int = DIRECT_LIMIT) -> Tensor:
    """|x - y| for x (N, D), y (M, D) -> (N, M). The gradient at distance 0 is 0. Supplement, Table 2."""
    x, y = _same_float(x, y)
    with torch.autocast(x.device.type, enabled=False):
        return _safe_sqrt(_squared_distance(x, y, direct))


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos(x, y) for x (N, D), y (M, D) -> (N, M) in [0, 2]; a zero vector is at distance 1 from
    everything.

    Supplement, Table 2. It is not a metric: the triangle inequality fails.
    """
    x, y = _same_float(x, y)
    with torch.autocast(x.device.type, enabled=False):
        return 1 - F.normalize(x, dim=-1, eps=NORM_FLOOR) @ F.normalize(y, dim=-1, eps=NORM_FLOOR).T


def pairwise(metric: str, x: Tensor, y: Tensor, c: float | Tensor = 1.0, direct: int = DIRECT_LIMIT) -> Tensor:
    """The (N, M) distances by name: "hyperbolic" (the paper), "euclidean" or "cosine" (c is then unused). direct: see
    `DIRECT_LIMIT`."""
    if metric == "hyperbolic":
        return pairwise_distance(x, y, c, direct)
    if metric == "euclidean":
        return euclidean_distance(x, y, direct)
    if metric == "cosine":
        return cosine_distance(x, y)
    raise ValueError(f"metric must be one of {METRICS}, got {metric!r}")


def _same_float(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"both sides need the same width, got {x.shape[-1]} and {y.shape[-1]}")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)


def _squared_distance(x: Tensor, y: Tensor, direct: int) -> Tensor:
    if math.prod((*x.shape, y.shape[0])) <= direct:
        return (x[:, None] - y[None]).square().sum(-1)
    # Distances do not change under a shift, and rounding errors grow with the norms: subtract the common
    # mean.
    centre = y.detach().mean(0)
    x, y = x - centre, y - centre
    squares = x.square().sum(-1)[:, None] + y.square().sum(-1)[None, :]
    return (squares - 2 * (x @ y.T)).clamp_min(0)


def _safe_sqrt(value: Tensor) -> Tensor:
    # Masked before the root: its derivative at 0 is infinite, and masking afterwards gives inf * 0 = NaN.
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1).sqrt(), 0)
