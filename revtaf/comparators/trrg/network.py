"""Stage 2's network (section 2.2): what trains between a frozen image encoder and a language model.

    v_d = W v_e + b;  c_s = the injected clues;  E^v, E^c = CMCI(v_d, c_s)
    BASE reads v_d;  +DCI reads [v_d ; c_s];  +CMCI reads [v_d ; E^v ; E^c];  +DAL adds L_DC

The paper does not say which tokens the language model reads; these are the fewest that make its Table 2. They come to
the model's width by a linear layer and a LayerNorm, which starts at the scale of the model's own words.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from revtaf.comparators.trrg.clues import EncodedClues, Selected
from revtaf.comparators.trrg.encoders import AlignedEncoders
from revtaf.comparators.trrg.interaction import ClueInteraction, alikeness, consistency_loss
from revtaf.comparators.trrg.language import CausalLanguage, add_adapters
from revtaf.comparators.trrg.settings import CausalGenerationSettings, TRRGSettings
from revtaf.rng import stream, substream


@dataclass
class ClueBatch:
    """B samples."""

    rows: Tensor  # (B,) long
    images: Tensor  # (B, 3, S, S) float32, or their tokens (B, n, d) where these are kept
    tokens: Tensor  # (B, T) long: report and end token, then padding
    real: Tensor  # (B, T) bool
    before: Tensor  # (B, I) long: start and instruction before the image
    after: Tensor  # (B, J) long: instruction behind it
    after_real: Tensor  # (B, J) bool
    given: Tensor  # (B, m) float32: scores of the clues, -inf for never; (B, 0) where the image decides

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClueBatch:
        """The same batch with every tensor on the device, called by accelerate, too."""
        return ClueBatch(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))

    def pin_memory(self) -> ClueBatch:
        """The same batch in page-locked memory, called by the loader where there is CUDA."""
        return ClueBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    def __len__(self) -> int:
        return len(self.rows)


class Prefix(NamedTuple):
    """What the language model reads before a report: values (B, P, H), mask (B, P). chosen: the injected clues; visual,
    clue: E^v and E^c (B, L, d). None where there are none."""

    values: Tensor
    mask: Tensor
    chosen: Selected | None
    visual: Tensor | None
    clue: Tensor | None


class ClueInjector(nn.Module):
    """Owns what trains: mapper, CMCI, projection, and adapters or the language model where these are tuned. Frozen
    encoders, clue bank and language model are held beside it, in no checkpoint and no optimiser."""

    def __init__(self, settings: TRRGSettings, encoders: AlignedEncoders, bank: EncodedClues, language: CausalLanguage):
        super().__init__()
        self.settings, self.language = settings, language
        held = (encoders.eval().requires_grad_(False), bank)
        object.__setattr__(self, "held", held)  # a tuple is no module: nothing here owns them
        width, tuning = encoders.of_visual.out_features, settings.llm.tuning
        clues = settings.clue.source != "none"
        with stream(settings.seed, "trrg"):
            with substream("mapper"):
                self.mapper = nn.Linear(width, width)
            with substream("cmci"):
                self.interaction = ClueInteraction(width, settings.cmci, clues) if settings.cmci.enabled else None
            with substream("project"):
                self.project = nn.Linear(width, language.width)
            with substream("adapters"):
                self.adapters = add_adapters(language, settings.llm) if tuning == "lora" else None
        self.norm = nn.LayerNorm(language.width)
        with torch.no_grad():
            words = language.lm.get_input_embeddings().weight
            self.norm.weight.fill_(words.float().square().mean().sqrt().item())
        if tuning == "full":
            self.lm = language.lm.requires_grad_(True)

    @property
    def encoders(self) -> AlignedEncoders:
        """Stage 1's, frozen."""
        return self.held[0]

    @property
    def bank(self) -> EncodedClues:
        """The encoded clues."""
        return self.held[1]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """v_e (B, n, d) of images (B, 3, S, S), in full precision; what is encoded already (B, n, d) stays."""
        if images.ndim == 3:
            return images
        with torch.autocast(images.device.type, enabled=False):
            return self.encoders.image_tokens(images)

    def prefix(self, batch: ClueBatch) -> Prefix:
        """Everything before the report."""
        tokens = self.encode(batch.images)
        visual = self.mapper(tokens)
        parts, masks = [visual], [None]
        chosen = of_visual = of_clue = None
        clues = clue_mask = None
        if self.settings.clue.source != "none":
            given = batch.given if batch.given.shape[1] else None
            chosen = self.bank.select(self.encoders.image_vector(tokens), self.settings.clue.k, given)
            clues, clue_mask = self.bank.injected(chosen)
        if self.interaction is not None:
            of_visual, of_clue = self.interaction(visual, clues, clue_mask)
            parts += [of_visual] if of_clue is None else [of_visual, of_clue]
            masks += [None] * (len(parts) - 1)
        elif clues is not None:
            parts, masks = [*parts, clues], [*masks, clue_mask]
        values = self.norm(self.project(torch.cat(parts, 1)))
        mask = torch.cat([_all(p) if m is None else m for p, m in zip(parts, masks, strict=True)], 1)
        before, after = (self.language.embed(ids).to(values.dtype) for ids in (batch.before, batch.after))
        values = torch.cat([before, values, after], 1)
        mask = torch.cat([_all(before), mask, batch.after_real], 1)
        return Prefix(values, mask, chosen, of_visual, of_clue)

    def forward(self, batch: ClueBatch) -> dict[str, Tensor]:
        """lm and dc (Eq. 5), and beside them the gauge of a collapse, of each stream."""
        found = self.prefix(batch)
        losses = {"lm": self.language.loss(found.values, found.mask, batch.tokens, batch.real)}
        if found.clue is not None:
            losses["dc"] = consistency_loss(found.visual, found.clue, self.settings.loss.dc_stopgrad)
            losses |= {"alike_visual": alikeness(found.visual), "alike_clue": alikeness(found.clue)}
        return losses

    @torch.no_grad()
    def generate(
        self, batch: ClueBatch, settings: CausalGenerationSettings, beams: int | None = None
    ) -> tuple[Tensor, Prefix]:
        """Token ids of the reports (B, T), and what they were written from."""
        found = self.prefix(batch)
        return self.language.generate(found.values, found.mask, settings, beams), found


def _all(values: Tensor) -> Tensor:
    return torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
