"""Multi-Prompts Sinkhorn Attention: paper Eq. 10."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from revtaf.fvtaf.sinkhorn import transport_plan

ATTENTIONS = ("mpsa", "softmax")
AXES = ("joint", "per_text")
TEXT_MASSES = ("uniform", "presence", "learned", "unbalanced")
# Smallest norm of a query or key whose direction is used. Without it the cosine of a zero vector is NaN.
NORM_FLOOR = 1e-8


class MPSA(nn.Module):
    """Patches ask, texts answer; optimal transport decides who listens to whom.

    Q = phi_q(F_v), K = phi_k(F_t), V = phi_v(F_t);  C = 1 - cos(Q, K) per head;  T = transport_plan(C);
    A = P T (rows sum to 1);  output = phi_o(heads of A V);  map of text n = column n of T, mean over the
    heads.

    visual (B, P, visual_width), text (B, N, text_width), mask (B, N) True where a text exists ->
    output (B, P, width), maps (B, N, P) in float32, 0 or more; each map of a valid text sums to the text's mass,
    that of a masked text is 0. A sample without any text gets an output of zeros (not the output bias) and
    maps of zeros.

    text_mass: how much a text has to say. "uniform": 1/N_valid each (the paper). "presence": in proportion to the
    `mass` (B, N) that `forward` is given, uniform without one. "learned": softmax over the valid texts of a linear
    layer on the text, which starts at 0, and so uniform. "unbalanced": as the plan with `relaxation` (`transport_plan`)
    finds it cheapest, per head. Only there the image decides by queries and keys whether a text is heard.
    attention "softmax": scaled dot products over the texts instead (supplement Table 3); a map is then the
    column of A / P, and texts may get any share of the mass.
    axis "per_text": the released behaviour. Each text is a transport problem of its own, P patches to one
    text, whose only feasible plan is the constant 1/P: attention is uniform whatever the image shows, and q
    and k get a gradient of 0. It is here to be measured, not to be used. "joint" is one problem of P
    patches to N texts.
    """

    # DIFFERS: Eq. 10 prints MPSA(Q K^T) V. The cost needs a scale for epsilon to mean something, so it is
    # built on the cosine, as in the paper's reference [40]; and Eq. 10 has no output projection, which real
    # heads need.

    def __init__(
        self,
        visual_width: int,
        text_width: int,
        width: int = 1024,
        num_heads: int = 8,
        attention: str = "mpsa",
        axis: str = "joint",
        epsilon: float = 0.05,
        max_iterations: int = 200,
        tolerance: float = 1e-6,
        text_mass: str = "uniform",
        relaxation: float = 0.1,
    ):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} does not divide into {num_heads} heads")
        if attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {ATTENTIONS}, got {attention!r}")
        if axis not in AXES:
            raise ValueError(f"axis must be one of {AXES}, got {axis!r}")
        if text_mass not in TEXT_MASSES:
            raise ValueError(f"text_mass must be one of {TEXT_MASSES}, got {text_mass!r}")
        if text_mass != "uniform" and (attention, axis) != ("mpsa", "joint"):
            raise ValueError(
                f"text_mass {text_mass!r} needs attention 'mpsa' and axis 'joint', got {attention}, {axis}"
            )
        self.num_heads, self.attention, self.axis, self.text_mass = num_heads, attention, axis, text_mass
        self.transport = {"epsilon": epsilon, "max_iterations": max_iterations, "tolerance": tolerance}
        if text_mass == "unbalanced":
            self.transport["relaxation"] = relaxation
        self.query = nn.Linear(visual_width, width)
        self.key = nn.Linear(text_width, width)
        self.value = nn.Linear(text_width, width)
        self.output = nn.Linear(width, width)
        if text_mass == "learned":
            # Zeros, drawn from no stream of random numbers: the other weights start as they do without it.
            self.mass = nn.Parameter(torch.zeros(1, text_width))

    def forward(
        self, visual: Tensor, text: Tensor, mask: Tensor | None = None, mass: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Eq. 10: output (B, P, width) and maps (B, N, P), shapes as above. ValueError for a mask of another shape, and
        for a mass where `text_mass` reads none."""
        if mask is None:
            mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        if mask.shape != text.shape[:2]:
            raise ValueError(f"expected a mask {tuple(text.shape[:2])}, got {tuple(mask.shape)}")
        if mass is not None and self.text_mass != "presence":
            raise ValueError(f"a mass was given, but text_mass is {self.text_mass!r}")
        # What lies under the mask may be anything, even NaN: 0 * NaN would still reach the output.
        text = text.masked_fill(~mask[..., None], 0)
        q, k, v = (self._heads(x) for x in (self.query(visual), self.key(text), self.value(text)))
        if self.text_mass == "learned":
            mass = self._learned_mass(text, mask)
        plan = self._plan(q, k, mask, mass)  # (B, H, P, N)
        attended = (plan * plan.shape[2]).to(v.dtype) @ v
        output = self.output(attended.transpose(1, 2).flatten(2))
        output = output * mask.any(dim=1)[:, None, None]
        return output, plan.mean(dim=1).mT

    def _heads(self, x: Tensor) -> Tensor:
        """(B, L, width) -> (B, H, L, width / H)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _learned_mass(self, text: Tensor, mask: Tensor) -> Tensor:
        """(B, N) in float32, sums to 1 over the valid texts."""
        with torch.autocast(text.device.type, enabled=False):
            logits = F.linear(text.to(self.mass.dtype), self.mass)[..., 0]
            # The smallest number, not -inf: a sample without any text would be NaN.
            return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=1)

    def _plan(self, q: Tensor, k: Tensor, mask: Tensor, mass: Tensor | None) -> Tensor:
        """(B, H, P, N) in float32: 1/P for every patch and, with transport, its mass for every text."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            q, k = q.to(dtype), k.to(dtype)
            if self.attention == "softmax":
                return _softmax_plan(q, k, mask)
            cost = 1 - F.normalize(q, dim=-1, eps=NORM_FLOOR) @ F.normalize(k, dim=-1, eps=NORM_FLOOR).mT
            batch, heads, patches, texts = cost.shape
            if self.axis == "per_text":
                alone = transport_plan(cost.mT.reshape(-1, patches, 1), **self.transport)
                alone = alone.view(batch, heads, texts, patches).mT
                valid = mask[:, None, None]
                return alone * valid / valid.sum(dim=-1, keepdim=True).clamp_min(1)
            mask, mass = (x if x is None else x[:, None].expand(-1, heads, -1).flatten(0, 1) for x in (mask, mass))
            return transport_plan(cost.flatten(0, 1), mask=mask, mass=mass, **self.transport).view_as(cost)


def _softmax_plan(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    valid = mask[:, None, None]
    score = q @ k.mT / q.shape[-1] ** 0.5
    # A finite minimum, not -inf: a sample without texts would be NaN. The product then removes its uniform
    # row.
    score = score.masked_fill(~valid, torch.finfo(score.dtype).min)
    return score.softmax(dim=-1) * valid / q.shape[2]
