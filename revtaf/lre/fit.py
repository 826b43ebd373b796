"""LRE trained by itself: the rank loss of Eq. 7 alone, on scores and statuses that are known beforehand.

The network shares no weight with the rest of the model and its inputs do not change, so that it needs neither images
nor texts, and may have its own optimiser, number of updates and batch. `lre.steps=0` is the paper's way: jointly.
Several networks of one kind, such as the seeds of a study, are trained at once by batched products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.lre.ball import pairwise
from revtaf.lre.hnn import HNN
from revtaf.lre.rank_loss import rank_loss

SHOWN_EVERY = 50  # updates


def fit(
    nets: Sequence[HNN],
    inputs: Tensor,
    statuses: Tensor,
    *,
    seeds: Sequence[int],
    steps: int,
    batch_size: int,
    lr: float,
    weight_decay: float = 0.0,
    ties: str = "soft",
    temperature: float = 1.0,
    title: str = "LRE",
) -> Tensor:
    """Train each of the S networks in place for `steps` updates; returns the rank loss of every update (S, steps).

    inputs (N, F) and statuses (N, K), shared by all. Batches pass through the N samples in an order drawn from
    (seed, "lre"), which no other random number depends on and none disturbs; a network trained beside others is
    trained as it would be alone. AdamW, the learning rate falls from `lr` to 0 by a cosine; weight decay on matrices.
    ValueError where several networks learn their curvature; UserError where a loss is not finite.
    """
    first = nets[0]
    if len(nets) > 1 and first.learnable:
        raise ValueError("networks that learn their curvature are trained one at a time")
    names = [name for name, _ in first.named_parameters() if first.learnable or not name.startswith("ball.")]
    own = [dict(net.named_parameters()) for net in nets]
    stacked = {name: torch.stack([p[name].detach() for p in own]).requires_grad_() for name in names}
    matrices = [p for name, p in stacked.items() if first.get_parameter(name).ndim > 1]
    others = [p for name, p in stacked.items() if first.get_parameter(name).ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)

    distances = _Distances(first)

    def loss_of(parameters: dict[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
        distance = functional_call(distances, {f"net.{name}": p for name, p in parameters.items()}, (x,))
        return rank_loss(distance, s, ties=ties, temperature=temperature)

    def alone(parameters: dict[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
        return loss_of({name: p[0] for name, p in parameters.items()}, x[0], s[0])[None]

    losses_of = vmap(loss_of) if len(nets) > 1 else alone
    size = min(batch_size, len(inputs))
    orders = [_batches(np.random.default_rng((seed, *b"lre")), len(inputs), size) for seed in seeds]
    losses = torch.zeros(steps, len(nets), device=inputs.device)
    bar = tqdm(range(steps), desc=title, leave=False)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.from_numpy(np.stack([next(order) for order in orders])).to(inputs.device)
        loss = losses_of(stacked, inputs[rows], statuses[rows])
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses[step] = loss.detach()
        if step % SHOWN_EVERY == 0:
            bar.set_postfix({"rank loss": f"{loss.mean().item():.3f}"})
    if not torch.isfinite(losses).all():
        at = int((~torch.isfinite(losses)).any(1).nonzero()[0])
        raise UserError(f"LRE: the rank loss is not finite at update {at + 1} of {steps}; lower lre.lr")
    with torch.no_grad():
        for i, parameters in enumerate(own):
            for name in names:
                parameters[name].copy_(stacked[name][i])
    return losses.T


class _Distances(nn.Module):
    """A batch's pairwise distances: one module, so that points and distance have the same curvature while it is
    learned."""

    def __init__(self, net: HNN):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """x (B, F) -> (B, B)."""
        points = self.net(x)
        # A batch against itself, without its diagonal: the matrix product is near enough, and many times faster.
        return pairwise(self.net.metric, points, points, self.net.c, direct=0)


def _batches(rng: np.random.Generator, n: int, size: int) -> Iterator[np.ndarray]:
    """Rows (size,) without end: every pass goes through all of them in a new order, what does not fill a batch is left
    out."""
    while True:
        order = rng.permutation(n)
        yield from order[: n // size * size].reshape(-1, size)
