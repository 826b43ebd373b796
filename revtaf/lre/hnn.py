"""The Hyperbolic Neural Network that turns entity scores into retrieval embeddings: paper section 3.3.

H = HNN(F_logit), with the layers of Ganea et al. 2018. The paper cites its [39] and names neither layers nor
curvature: 75 -> 512 -> 512 and c = .01 are the released values (docs/method.md section 3.3). geoopt supplies the
manifold operations.
"""

import math
import warnings

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    # torch announces the end of TorchScript once per scripted function of geoopt: 73 lines that say nothing
    # to us.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    from geoopt import PoincareBall
    from geoopt.manifolds.stereographic.math import project

from revtaf.lre.ball import METRICS
from revtaf.rng import substream

# Points stay within (1 - EDGE_MARGIN) of the radius. Without it float32 rounds saturated inputs onto the
# edge, where distances are infinite. One value for every dtype: geoopt's own depends on the dtype (4e-3 or
# 1e-5), so that float64 would be a different model.
EDGE_MARGIN = 4e-3


SCORE_FLOOR = 1e-4  # of a probability before its logit: +-9.2 at most


def to_space(scores: Tensor, space: str) -> Tensor:
    """Probabilities (B, F) as the network takes them: "prob", as they are, or "logit"."""
    return torch.logit(scores.clamp(SCORE_FLOOR, 1 - SCORE_FLOOR)) if space == "logit" else scores


class HyperbolicLinear(nn.Module):
    """exp_0(W log_0(x)) (+)_c exp_0(b): the Moebius matrix product and the Moebius bias, (B, in) -> (B, out).

    The bias is stored as its tangent vector at 0, so that an ordinary optimiser (AdamW) keeps it in the ball.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(_he_normal(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor, ball: PoincareBall) -> Tensor:
        """Points x (B, in) of `ball` -> points (B, out) of it."""
        product = _into_ball(ball.mobius_matvec(self.weight.to(x.dtype), x, project=False), ball)
        bias = _into_ball(ball.expmap0(self.bias.to(x.dtype), project=False), ball)
        return _into_ball(ball.mobius_add(product, bias, project=False), ball)


class HNN(nn.Module):
    """Entity scores -> points of the Poincare ball.

    h_0 = exp_0(x);  h_l = exp_0(ReLU(log_0(W_l (x)_c h_{l-1} (+)_c b_l)))

    forward: scores (B, in_features) -> (B, widths[-1]) in float32 (float64 for a float64 module), autocast
    off,
    with sqrt(c)|h| <= 1 - EDGE_MARGIN. Outputs lie in the positive orthant, because a ReLU comes last; so
    their mean is far from 0, and distances are computed on differences or centred products (`ball.py`,
    `index.py`).
    For probabilities in [0, 1] the initial outputs lie in the middle of the ball (c = .01); for logits they
    reach its edge, where all distances look alike.
    `metric` "euclidean" or "cosine": the same layers without the ball (Linear + ReLU), for supplement Table
    2.
    """

    def __init__(
        self,
        in_features: int = 75,
        widths: tuple[int, ...] = (512, 512),
        curvature: float = 0.01,
        learnable_curvature: bool = False,
        metric: str = "hyperbolic",
    ):
        super().__init__()
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {METRICS}, got {metric!r}")
        if not curvature > 0:
            raise ValueError(f"curvature must be positive, got {curvature}")
        self.in_features = in_features
        self.metric = metric
        self.learnable = learnable_curvature and metric == "hyperbolic"
        # A float64 tensor made for this call: geoopt overwrites what it is given, and float32 would lose
        # 1e-5 of c.
        curvature = torch.tensor(float(curvature), dtype=torch.float64)
        self.ball = PoincareBall(c=curvature, learnable=self.learnable).float()
        sizes = zip((in_features, *widths[:-1]), widths, strict=True)
        make = HyperbolicLinear if metric == "hyperbolic" else _flat_linear
        self.layers = nn.ModuleList()
        for number, (i, o) in enumerate(sizes):
            with substream(f"layer {number}"):
                self.layers.append(make(i, o))

    @property
    def c(self) -> Tensor:
        """The current curvature's magnitude, a positive scalar tensor (with a graph when it is learnable)."""
        return self.ball.c

    def forward(self, scores: Tensor) -> Tensor:
        """scores (B, in_features) -> points (B, widths[-1]), see above. ValueError for another width."""
        if scores.shape[-1] != self.in_features:
            raise ValueError(f"expected {self.in_features} numbers of each image, got {scores.shape[-1]}")
        dtype = torch.promote_types(self.layers[0].weight.dtype, torch.float32)
        # geoopt's functions are TorchScript, whose optimiser rewrites them after the first call: their gradients
        # would change in the last bits, and a resumed run would differ from an uninterrupted one.
        with torch.autocast(scores.device.type, enabled=False), torch.jit.optimized_execution(False):
            x = scores.to(dtype)
            if self.metric != "hyperbolic":
                for layer in self.layers:
                    x = torch.relu(nn.functional.linear(x, layer.weight.to(dtype), layer.bias.to(dtype)))
                return x
            x = _into_ball(self.ball.expmap0(x, project=False), self.ball)
            for layer in self.layers:
                x = torch.relu(self.ball.logmap0(layer(x, self.ball)))
                x = _into_ball(self.ball.expmap0(x, project=False), self.ball)
            return x


def _into_ball(x: Tensor, ball: PoincareBall) -> Tensor:
    return project(x, k=ball.k, eps=EDGE_MARGIN)


def _he_normal(out_features: int, in_features: int) -> Tensor:
    # He et al. 2015: keeps the length of a vector through ReLU layers. torch's default for Linear shrinks
    # it by 2.4 a layer, and all distances, hence all rank logits, would start near 0.
    return torch.randn(out_features, in_features) * math.sqrt(2 / in_features)


def _flat_linear(in_features: int, out_features: int) -> nn.Linear:
    weight = _he_normal(out_features, in_features)  # drawn first: the same start as the hyperbolic layer's
    layer = nn.Linear(in_features, out_features)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    return layer
