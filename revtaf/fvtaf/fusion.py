"""Fine-grained Visual-Text Alignment and Fusion: paper section 3.4, Eq. 10 and 11, Figure 2."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from revtaf.fvtaf.mpsa import MPSA
from revtaf.rng import substream

SOURCES = ("global", "local")
PROJECTIONS = ("linear", "feed_forward")
RESIDUALS = ("plain", "normalised")
# The smallest P(present) that gives mass. Without it an entity of score 0 has no map.
PRESENCE_FLOOR = 1e-4


@dataclass
class Fusion:
    """Features for the decoder, and where each text looked (None for an absent source)."""

    features: Tensor  # (B, P, out_width)
    global_map: Tensor | None  # (B, N, P)
    local_map: Tensor | None  # (B, M, P)
    shares: dict[str, Tensor]  # by source: RMS of the text's summand of Eq. 11 over that of the image's, a scalar


class FVTAF(nn.Module):
    """Patches enriched with the retrieved report (global) and with the image's entities (local), side by
    side.

    F_c = f_proj(LayerNorm(MPSA(F_v, F_t) + F_v)) per source (Eq. 11), concatenated along the features.

    visual (B, P, visual_width), global_text (B, N, text_width) with global_mask (B, N), local_text (B, M,
    text_width) -> `Fusion`, features (B, P, out_width), out_width = width per source. Without any valid
    sentence the global part is f_proj(LayerNorm(F_v)): the image alone.
    sources: which of them exist; ("local",) when nothing is retrieved. A text of an absent source is ignored.
    shared: one MPSA for both sources (the released behaviour); each keeps its LayerNorm and f_proj.
    projection: f_proj is one linear layer (the paper) or "feed_forward", two with a GELU between.
    residual: "plain" adds the two summands of Eq. 11 as they are (the paper); "normalised" gives each a LayerNorm
    first, so that a text counts as much as a patch, whatever the scale of the image's features.
    text_mass: of each text in the transport (`MPSA`); with "presence" the entities' masses follow `presence` (B, M),
    P(present) of each entity, and sentences share theirs evenly.
    """

    # DIFFERS: Eq. 11 adds F_c + F_v as if both were d_v = 2,048 wide. F_v passes a linear layer to `width`
    # first (shared by both sources), unless the widths agree.

    def __init__(
        self,
        visual_width: int,
        text_width: int = 768,
        width: int = 512,
        num_heads: int = 8,
        attention: str = "mpsa",
        axis: str = "joint",
        epsilon: float = 0.05,
        shared: bool = False,
        projection: str = "linear",
        residual: str = "plain",
        sources: tuple[str, ...] = SOURCES,
        max_iterations: int = 200,
        tolerance: float = 1e-6,
        text_mass: str = "uniform",
        relaxation: float = 0.1,
    ):
        super().__init__()
        if not sources or not set(sources) <= set(SOURCES):
            raise ValueError(f"sources must be some of {SOURCES}, got {tuple(sources)}")
        if projection not in PROJECTIONS:
            raise ValueError(f"projection must be one of {PROJECTIONS}, got {projection!r}")
        if residual not in RESIDUALS:
            raise ValueError(f"residual must be one of {RESIDUALS}, got {residual!r}")
        self.sources = tuple(name for name in SOURCES if name in sources)
        self.width = width
        with substream("residual"):
            self.residual = nn.Identity() if visual_width == width else nn.Linear(visual_width, width)

        def attend(name: str) -> MPSA:
            options = (num_heads, attention, axis, epsilon, max_iterations, tolerance, text_mass, relaxation)
            with substream(name):
                return MPSA(visual_width, text_width, width, *options)

        def project(name: str) -> nn.Module:
            with substream(f"{name} projection"):
                return _projection(projection, width)

        if shared:
            self.shared_mpsa = attend(SOURCES[0])
        else:
            self.mpsa = nn.ModuleDict({name: attend(name) for name in self.sources})
        self.shared, self.text_mass = shared, text_mass
        self.norm = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.sources})
        self.project = nn.ModuleDict({name: project(name) for name in self.sources})
        alike = residual == "normalised"
        self.text_norm = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.sources}) if alike else None
        self.image_norm = nn.LayerNorm(width) if alike else None

    @property
    def out_width(self) -> int:
        """Width of the fused features: `width` for each source, 2,048 at the paper's size."""
        return self.width * len(self.sources)

    def forward(
        self,
        visual: Tensor,
        global_text: Tensor | None = None,
        global_mask: Tensor | None = None,
        local_text: Tensor | None = None,
        presence: Tensor | None = None,
    ) -> Fusion:
        """Eq. 11 for each source; ValueError where the text of one, or the presence, is missing. Shapes as above."""
        residual = self.residual(visual)
        if self.image_norm is not None:
            residual = self.image_norm(residual)
        mass = self._local_mass(presence) if "local" in self.sources and self.text_mass == "presence" else None
        texts = {"global": (global_text, global_mask, None), "local": (local_text, None, mass)}
        features, maps, shares = [], {}, {}
        for name in self.sources:
            text, mask, mass = texts[name]
            if text is None:
                raise ValueError(f"sources are {self.sources}, but no {name} text was given")
            mpsa = self.shared_mpsa if self.shared else self.mpsa[name]
            fused, maps[name] = mpsa(visual, text, mask, mass)
            if self.text_norm is not None:
                # A sample without any text keeps its zeros: the affine part would add a text that is not there.
                there = slice(None) if mask is None else mask.any(1)
                normalised = torch.zeros_like(fused)
                normalised[there] = self.text_norm[name](fused[there]).to(fused.dtype)
                fused = normalised
            shares[name] = _rms(fused) / _rms(residual)
            features.append(self.project[name](self.norm[name](fused + residual)))
        return Fusion(torch.cat(features, dim=-1), maps.get("global"), maps.get("local"), shares)

    def _local_mass(self, presence: Tensor | None) -> Tensor:
        if presence is None:
            raise ValueError("text_mass is 'presence', but no presence (B, M) of the entities was given")
        return presence.clamp_min(PRESENCE_FLOOR)


def _projection(kind: str, width: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def _rms(x: Tensor) -> Tensor:
    return x.detach().float().square().mean().sqrt()
