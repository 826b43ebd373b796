"""Cross-modal clue interaction (section 2.2, Eq. 2 to 4): two streams, and L learnable tokens that ask both.

    V' = SelfAttn(v_d),  C' = SelfAttn(c_s)                              (2)
    E^v = FFN(Attn(E, V', V')),  E^c = FFN(Attn(E, C', C'))              (3)
    L_DC = -1/L sum_i cos(E^v_i, E^c_i)                                  (4)

DIFFERS: residuals and norms are not stated; these are pre-norm blocks with residuals, one set of weights for each
stream. Eq. 4 as printed has no index i, and its K is the number of clues elsewhere; i runs over the L tokens here. The
attention is REVTAF's MPSA with its softmax; `sinkhorn` is the same layer with its transport, weight for weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from revtaf.comparators.trrg.settings import InteractionSettings
from revtaf.fvtaf.mpsa import MPSA
from revtaf.rng import substream

# Smallest length of a token whose direction is used. The gradient at a zero token is its inverse: with torch's own 1e-8
# it is infinite in fp16, whose numbers end at 65,504.
LENGTH_FLOOR = 1e-4


class InteractionStream(nn.Module):
    """One of the two: self-attention of its tokens, the queries' attention to them, a feed-forward layer."""

    def __init__(self, width: int, settings: InteractionSettings):
        super().__init__()
        heads, inner = settings.heads, settings.feed_forward * width
        asked = "mpsa" if settings.attention == "sinkhorn" else "softmax"
        self.inner = MPSA(width, width, width, heads, attention="softmax")
        self.outer = MPSA(width, width, width, heads, attention=asked, epsilon=settings.epsilon)
        self.feed = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(inner, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """queries (B, L, d), tokens (B, n, d), mask (B, n) True where there is one -> (B, L, d)."""
        if mask is not None:
            tokens = tokens.masked_fill(~mask[..., None], 0)
        seen = self.norms[0](tokens)
        tokens = tokens + self.dropout(self.inner(seen, seen, mask)[0])
        asked = self.outer(self.norms[1](queries), self.norms[2](tokens), mask)[0]
        queries = queries + self.dropout(asked)
        return queries + self.dropout(self.feed(self.norms[3](queries)))


class ClueInteraction(nn.Module):
    """CMCI. clues: whether there is a clue stream at all."""

    def __init__(self, width: int, settings: InteractionSettings, clues: bool = True):
        super().__init__()
        self.queries = nn.Parameter(torch.empty(settings.queries, width))
        with substream("queries"):
            nn.init.normal_(self.queries, std=0.02)
        with substream("visual"):
            self.visual = InteractionStream(width, settings)
        with substream("clue"):
            self.clue = InteractionStream(width, settings) if clues else None

    def forward(self, visual: Tensor, clues: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """v_d (B, n, d), c_s (B, k r, d) with its mask (B, k r) -> E^v, E^c (B, L, d)."""
        queries = self.queries.expand(len(visual), -1, -1)
        return self.visual(queries, visual), None if self.clue is None else self.clue(queries, clues, mask)


def consistency_loss(visual: Tensor, clue: Tensor, stopgrad: str = "none") -> Tensor:
    """Eq. 4 of E^v and E^c (B, L, d): -1 where they point the same way, 1 where they oppose. stopgrad "clue": E^c is
    held fixed."""
    clue = clue.detach() if stopgrad == "clue" else clue
    return -F.cosine_similarity(visual.float(), clue.float(), dim=-1, eps=LENGTH_FLOOR).mean()


@torch.no_grad()
def alikeness(tokens: Tensor) -> Tensor:
    """The collapse gauge: mean cosine between the same token of different images, of (B, L, d). Eq. 4 is satisfied by
    tokens that are the same for all images; this is then 1. 0 for a batch of one."""
    if len(tokens) < 2:
        return tokens.new_zeros((), dtype=torch.float32)
    unit = F.normalize(tokens.float(), dim=-1)
    total = unit.sum(0).square().sum(-1) - unit.square().sum(-1).sum(0)  # (L,): over ordered pairs of two images
    return (total / (len(unit) * (len(unit) - 1))).mean()
