"""REVTAF: the rooms wired as in the paper's Figure 1.

    image --encoder--> F_v, pooled --classifier (+ reference memory)--> statuses (the decoder's prompt)
    entity scores --HNN--> hyperbolic embedding --rank loss / retrieval--> GRP, sentences of a past report
    entity triplets --> LRP
    F_v, GRP, LRP --FVTAF--> fused features, attention maps (FCC loss) --decoder--> report

The model opens no files and retrieves nothing: which report is the GRP is decided outside, and comes in as texts.
Ablations: without `lre` there is no metric learning (retrieval falls back to raw entity scores); without `fvtaf`
the GRP's sentences, if LRE is on, join the patches as plain decoder inputs. Without both: the baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from revtaf.classifier import Classifier
from revtaf.decoder import Decoder
from revtaf.encoder import Encoder, Vision
from revtaf.fvtaf.fcc import cosine_matrix, fcc_loss
from revtaf.fvtaf.fusion import FVTAF, Fusion
from revtaf.labels import ENTITIES
from revtaf.lre.ball import pairwise
from revtaf.lre.hnn import HNN
from revtaf.lre.rank_loss import rank_loss
from revtaf.settings import GenerationSettings, Settings
from revtaf.tokenizer import ReportTokenizer

SCORE_FLOOR = 1e-4  # of a probability before its logit: +-9.2 at most


class Losses(NamedTuple):
    """The terms of Eq. 15 and the baseline's, unweighted."""

    lm: Tensor
    disease: Tensor
    rank: Tensor
    consistency: Tensor


def loss_weights(settings: Settings) -> dict[str, float]:
    """Eq. 15 and the baseline's classification term: L_lm + 4 L_cls + alpha L_rank + beta L_fcc."""
    w = settings.loss
    return {"lm": 1.0, "disease": w.classification, "rank": w.alpha, "consistency": w.beta}


def likeliest(probabilities: Tensor) -> Tensor:
    """P(status) (B, 4, K) -> the status of each category (B, K), the paper's reading."""
    return probabilities.argmax(1)


class Prompts(NamedTuple):
    """Texts for a batch. W text width, V the memory's, N sentences of the retrieved report, mask True where real."""

    memory: Tensor | None  # (B, K_m, V)
    local: Tensor  # (B, 75, W)
    retrieved: Tensor | None  # (B, N, W)
    retrieved_mask: Tensor | None  # (B, N)


@dataclass
class DecoderInputs:
    """What the decoder attends to, and how it came about."""

    decoder: Tensor  # (B, L, width)
    decoder_mask: Tensor | None
    logits: Tensor  # (B, 4, K)
    fusion: Fusion | None


@dataclass
class Generation:
    """tokens (B, T); statuses (B, K) used as prompt; probabilities (B, 4, K); attention maps or None."""

    tokens: Tensor
    statuses: Tensor
    probabilities: Tensor
    global_map: Tensor | None  # (B, N, P)
    local_map: Tensor | None  # (B, 75, P)


class REVTAF(nn.Module):
    """The whole network (paper Figure 1): `forward` gives the losses, `generate` the reports."""

    def __init__(
        self, settings: Settings, categories: int, tokenizer: ReportTokenizer, text_width: int, memory_width: int
    ):
        """text_width: of sentences and triplets; memory_width: of the classifier's reports."""
        super().__init__()
        lre, fvtaf = settings.lre, settings.fvtaf
        self.settings = settings
        self.encoder = Encoder(settings.encoder.backbone, settings.encoder.blind)
        self.classifier = Classifier(self.encoder.width, memory_width, categories, settings.classifier)
        self.hnn = (
            HNN(len(ENTITIES), (lre.width, lre.width), lre.curvature, lre.learnable_curvature, lre.metric)
            if lre.enabled
            else None
        )
        self.fvtaf = (
            FVTAF(
                self.encoder.width,
                text_width,
                width=fvtaf.width,
                num_heads=fvtaf.heads,
                attention=fvtaf.attention,
                axis=fvtaf.axis,
                epsilon=fvtaf.epsilon,
                shared=fvtaf.shared,
                projection=fvtaf.projection,
                max_iterations=fvtaf.max_iterations,
                tolerance=fvtaf.tolerance,
            )
            if fvtaf.enabled
            else None
        )
        self.retrieved_project = (
            nn.Linear(text_width, self.encoder.width) if lre.enabled and not fvtaf.enabled else None
        )
        width = self.fvtaf.out_width if self.fvtaf else self.encoder.width
        self.decoder = Decoder(settings.decoder, tokenizer, width, categories)

    @property
    def retrieves(self) -> bool:
        """Whether a retrieved report enters at all."""
        return self.settings.retrieves

    def embed(self, scores: Tensor) -> Tensor:
        """Entity scores (B, 75), probabilities -> point of the retrieval space (B, lre.width).

        Without LRE the scores themselves are the (fixed) space.
        """
        if self.hnn is None:
            return scores
        if self.settings.lre.score_space == "logit":
            scores = torch.logit(scores.clamp(SCORE_FLOOR, 1 - SCORE_FLOOR))
        return self.hnn(scores)

    @property
    def curvature(self) -> float:
        """c of the ball (docs/method.md section 3.2). Without LRE 1, which no distance then depends on."""
        return float(self.hnn.c) if self.hnn is not None else 1.0

    @property
    def metric(self) -> str:
        """Between points of `embed`: `lre.metric`, and "euclidean" for the raw scores without LRE."""
        return self.settings.lre.metric if self.hnn is not None else "euclidean"

    def forward(self, images: Tensor, scores: Tensor, statuses: Tensor, tokens: Tensor, prompts: Prompts) -> Losses:
        """images (B, 3, H, W), scores (B, 75), statuses (B, K) long, tokens (B, T) -> the four losses."""
        features = self.features(images, prompts)
        lm = self.decoder.loss(tokens, statuses, features.decoder, features.decoder_mask)
        disease = self.classifier.loss(features.logits, statuses)
        zero = lm.new_zeros(())
        rank = self._rank_loss(scores, statuses) if self.hnn is not None else zero
        consistency = zero if features.fusion is None else self._consistency(features.fusion, prompts)
        return Losses(lm, disease, rank, consistency)

    def features(self, images: Tensor, prompts: Prompts) -> DecoderInputs:
        """Images (B, 3, H, W) and texts -> logits of the statuses, and what the decoder attends to: fused features, the
        patches beside the retrieved sentences, or the patches alone."""
        vision = self.encoder(images)
        logits = self.classifier(vision.pooled, prompts.memory)
        if self.fvtaf is not None:
            mask = prompts.retrieved_mask if self.settings.fvtaf.mask_sentences else None
            fusion = self.fvtaf(vision.patches, prompts.retrieved, mask, prompts.local)
            return DecoderInputs(fusion.features, None, logits, fusion)
        if self.retrieved_project is not None:
            return DecoderInputs(*self._append_retrieved(vision, prompts), logits, None)
        return DecoderInputs(vision.patches, None, logits, None)

    @torch.no_grad()
    def generate(
        self,
        images: Tensor,
        prompts: Prompts,
        settings: GenerationSettings,
        beams: int | None = None,
        statuses: Tensor | None = None,
        decide: Callable[[Tensor], Tensor] = likeliest,
    ) -> Generation:
        """Write reports. decide: P(status) (B, 4, K) -> statuses (B, K) of the prompt; `statuses` (B, K) replaces
        them: the oracle-prompt ceiling."""
        features = self.features(images, prompts)
        probabilities = features.logits.float().softmax(1)
        used = decide(probabilities) if statuses is None else statuses
        tokens = self.decoder.generate(used, features.decoder, settings, beams, features.decoder_mask)
        fusion = features.fusion
        return Generation(
            tokens,
            used,
            probabilities,
            None if fusion is None else fusion.global_map,
            None if fusion is None else fusion.local_map,
        )

    def _rank_loss(self, scores: Tensor, statuses: Tensor) -> Tensor:
        lre = self.settings.lre
        points = self.embed(scores)
        distance = pairwise(lre.metric, points, points, self.hnn.c)
        return rank_loss(distance, statuses, ties=lre.ties, temperature=lre.temperature)

    def _consistency(self, fusion: Fusion, prompts: Prompts) -> Tensor:
        fvtaf = self.settings.fvtaf
        cosine = cosine_matrix(prompts.retrieved, prompts.local)
        mask = prompts.retrieved_mask if fvtaf.mask_sentences else None
        return fcc_loss(fusion.global_map, fusion.local_map, cosine, mask, iou=fvtaf.iou, upsample=fvtaf.upsample)

    def _append_retrieved(self, vision: Vision, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Patches and the projected sentences of the retrieved report, side by side, with their mask."""
        text = self.retrieved_project(prompts.retrieved)
        valid = torch.ones(vision.patches.shape[:2], dtype=torch.bool, device=text.device)
        return torch.cat([vision.patches, text], 1), torch.cat([valid, prompts.retrieved_mask], 1)
