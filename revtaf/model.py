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
from torch.nn import functional as F

from revtaf.classifier import Classifier
from revtaf.decoder import Decoder
from revtaf.encoder import Encoder, Vision
from revtaf.fvtaf.fcc import cosine_matrix, difference_loss, fcc_loss, relatedness
from revtaf.fvtaf.fusion import FVTAF, Fusion
from revtaf.labels import BLANK, ENTITIES, STATUSES
from revtaf.lre.ball import pairwise
from revtaf.lre.hnn import HNN, to_space
from revtaf.lre.rank_loss import rank_loss
from revtaf.rng import stream
from revtaf.settings import GenerationSettings, Settings
from revtaf.tokenizer import ReportTokenizer

TOLD = ("truth", "predicted", "nothing")  # what a prompt says in training: statuses of the report, or of the image


class Losses(NamedTuple):
    """The terms of Eq. 15 and the baseline's, unweighted."""

    lm: Tensor
    disease: Tensor
    rank: Tensor
    consistency: Tensor


def loss_weights(settings: Settings) -> dict[str, float]:
    """Eq. 15 and the baseline's classification term: L_lm + 4 L_cls + alpha L_rank + beta L_fcc. Where LRE was trained
    by itself there is no rank term; the loss is still computed, to be looked at."""
    w = settings.loss
    weights = {"lm": 1.0, "disease": w.classification, "rank": w.alpha, "consistency": w.beta}
    if settings.lre.steps:
        del weights["rank"]
    return weights


def likeliest(probabilities: Tensor) -> Tensor:
    """P(status) (B, 4, K) -> the status of each category (B, K), the paper's reading."""
    return probabilities.argmax(1)


class Recombined(NamedTuple):
    """Samples of a batch whose report is one that no image shows (`decoder.recombined`)."""

    rows: Tensor  # (B,) bool
    statuses: Tensor  # (B, K) long, of the report; elsewhere without meaning


class Prompts(NamedTuple):
    """Texts for a batch. W text width, V the memory's, N sentences of the retrieved report, mask True where real."""

    memory: Tensor | None  # (B, K_m, V)
    local: Tensor  # (B, 75, W)
    retrieved: Tensor | None  # (B, N, W)
    retrieved_mask: Tensor | None  # (B, N)
    presence: Tensor | None = None  # (B, 75), P(present) of each entity: read with fvtaf.text_mass=presence


@dataclass
class DecoderInputs:
    """What the decoder attends to, and how it came about."""

    decoder: Tensor  # (B, L, width)
    decoder_mask: Tensor | None
    logits: Tensor  # (B, 4, K)
    fusion: Fusion | None


@dataclass
class Generation:
    """tokens (B, T); statuses (B, K) used as prompt; probabilities (B, 4, K); attention maps or None. candidates: the
    beam's report and `generation.candidates` sampled ones, among which the caller chooses."""

    tokens: Tensor
    statuses: Tensor
    probabilities: Tensor
    global_map: Tensor | None  # (B, N, P)
    local_map: Tensor | None  # (B, 75, P)
    shares: dict[str, Tensor]  # of `Fusion`; empty without FVTAF
    candidates: Tensor | None = None  # (B, N + 1, T)


class REVTAF(nn.Module):
    """The whole network (paper Figure 1): `forward` gives the losses, `generate` the reports."""

    def __init__(
        self,
        settings: Settings,
        categories: int,
        tokenizer: ReportTokenizer,
        text_width: int,
        memory_width: int,
        retriever_width: int = len(ENTITIES),
    ):
        """categories: that have a status; 0 without labels, and then there is no classifier. text_width: of sentences
        and triplets; memory_width: of the classifier's reports; retriever_width: of what an image is retrieved by
        (`lre.features`)."""
        super().__init__()
        lre, fvtaf, seed = settings.lre, settings.fvtaf, settings.seed
        self.settings = settings
        # Each part starts from numbers of its own: to switch one off changes the start of no other.
        with stream(seed, "encoder"):
            self.encoder = Encoder(settings.encoder.backbone, settings.encoder.blind)
        with stream(seed, "classifier"):
            self.classifier = None  # without labels
            if categories:
                self.classifier = Classifier(self.encoder.width, memory_width, categories, settings.classifier)
        self.hnn = self.fvtaf = self.retrieved_project = None
        if lre.enabled:
            with stream(seed, "hnn"):
                self.hnn = HNN(
                    retriever_width, (lre.width, lre.width), lre.curvature, lre.learnable_curvature, lre.metric
                )
                if lre.steps:
                    self.hnn.requires_grad_(False)  # trained before the rest, by `revtaf.lre.fit`
        if fvtaf.enabled:
            with stream(seed, "fvtaf"):
                self.fvtaf = FVTAF(
                    self.encoder.width,
                    text_width,
                    width=fvtaf.width,
                    num_heads=fvtaf.heads,
                    attention=fvtaf.attention,
                    axis=fvtaf.axis,
                    epsilon=fvtaf.epsilon,
                    shared=fvtaf.shared,
                    projection=fvtaf.projection,
                    residual=fvtaf.residual,
                    max_iterations=fvtaf.max_iterations,
                    tolerance=fvtaf.tolerance,
                    text_mass=fvtaf.text_mass,
                    relaxation=fvtaf.relaxation,
                )
        elif lre.enabled:
            # Normalised, as FVTAF's texts are: without, two of three trainings on real reports diverged.
            with stream(seed, "retrieved"):
                width = self.encoder.width
                self.retrieved_project = nn.Sequential(nn.Linear(text_width, width), nn.LayerNorm(width))
        width = self.fvtaf.out_width if self.fvtaf else self.encoder.width
        with stream(seed, "decoder"):
            self.decoder = Decoder(settings.decoder, tokenizer, width, categories)

    @property
    def retrieves(self) -> bool:
        """Whether a retrieved report enters at all."""
        return self.settings.retrieves

    def embed(self, inputs: Tensor) -> Tensor:
        """Entity scores (B, 75), probabilities, or image embeddings (B, D) -> point of the retrieval space
        (B, lre.width).

        Without LRE they themselves are the (fixed) space.
        """
        return inputs if self.hnn is None else self.hnn(to_space(inputs, self.settings.lre.score_space))

    @property
    def curvature(self) -> float:
        """c of the ball (docs/method.md section 3.2). Without LRE 1, which no distance then depends on."""
        return float(self.hnn.c) if self.hnn is not None else 1.0

    @property
    def metric(self) -> str:
        """Between points of `embed`: `lre.metric`, and "euclidean" for the raw inputs without LRE."""
        return self.settings.lre.metric if self.hnn is not None else "euclidean"

    def forward(
        self,
        images: Tensor,
        inputs: Tensor,
        statuses: Tensor,
        tokens: Tensor,
        prompts: Prompts,
        told: Tensor | None = None,
        decide: Callable[[Tensor], Tensor] = likeliest,
        recombined: Recombined | None = None,
    ) -> Losses:
        """images (B, 3, H, W), the retriever's inputs (B, F), statuses (B, K) long, tokens (B, T) -> the four losses.

        told (B,): what the decoder's prompt says of each sample, one of `TOLD`; None for the true statuses.
        decide: as in `generate`, of the predicted ones. recombined: whose `tokens` are another report than the image's;
        there the prompt is that report's, and the decoder sees nothing else.
        """
        features = self.features(images, prompts)
        prompt = statuses if told is None else self._told(statuses, features.logits, told, decide)
        seen = features.decoder
        if recombined is not None:
            rows = recombined.rows[:, None]
            prompt, seen = torch.where(rows, recombined.statuses, prompt), seen * ~rows[:, None]
        lm = self.decoder.loss(tokens, prompt, seen, features.decoder_mask)
        zero = lm.new_zeros(())
        disease = zero if self.classifier is None else self.classifier.loss(features.logits, statuses)
        rank = self._rank_loss(inputs, statuses) if self.hnn is not None else zero
        consistency = zero if features.fusion is None else self._consistency(features.fusion, prompts)
        return Losses(lm, disease, rank, consistency)

    def train(self, mode: bool = True) -> REVTAF:
        """As any module; a trunk that was trained first stays as it is used."""
        super().train(mode)
        if self.settings.train.schedule == "staged":
            self.encoder.eval()
            self.classifier.eval()
        return self

    def diagnose(self, images: Tensor, memory: Tensor | None, dropout: float = 0.0) -> tuple[Vision, Tensor]:
        """Images (B, 3, H, W), or their patches (B, P, width), and the memory's texts -> what the encoder sees, and
        logits of the statuses (B, 4, K). dropout: of the pooled image."""
        vision = self.encoder(images)
        pooled = F.dropout(vision.pooled, dropout) if dropout else vision.pooled
        if self.classifier is None:
            return vision, pooled.new_zeros(len(pooled), len(STATUSES), 0)
        return vision, self.classifier(pooled, memory)

    def features(self, images: Tensor, prompts: Prompts) -> DecoderInputs:
        """Images (B, 3, H, W) and texts -> logits of the statuses, and what the decoder attends to: fused features, the
        patches beside the retrieved sentences, or the patches alone."""
        vision, logits = self.diagnose(images, prompts.memory)
        if self.training and self.settings.encoder.dropout:  # a feature is left out of all patches of a sample
            patches = F.dropout1d(vision.patches.mT, self.settings.encoder.dropout).mT
            vision = vision._replace(patches=patches)
        if self.training and self.settings.decoder.image_dropout:  # what fusion and decoder see, not the classifier
            shown = torch.rand(len(logits), 1, 1, device=logits.device) >= self.settings.decoder.image_dropout
            vision = vision._replace(patches=vision.patches * shown)
        if self.fvtaf is not None:
            mask = prompts.retrieved_mask if self.settings.fvtaf.mask_sentences else None
            fusion = self.fvtaf(vision.patches, prompts.retrieved, mask, prompts.local, prompts.presence)
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
        candidates = None
        if settings.candidates:
            seen = features.decoder, settings, self.settings.seed, features.decoder_mask
            candidates = self.decoder.candidates(tokens, used, *seen)
        fusion = features.fusion
        return Generation(
            tokens,
            used,
            probabilities,
            None if fusion is None else fusion.global_map,
            None if fusion is None else fusion.local_map,
            {} if fusion is None else fusion.shares,
            candidates,
        )

    def _told(self, statuses: Tensor, logits: Tensor, told: Tensor, decide: Callable[[Tensor], Tensor]) -> Tensor:
        predicted = decide(logits.detach().float().softmax(1))
        told = told[:, None]
        prompt = torch.where(told == TOLD.index("predicted"), predicted, statuses)
        return torch.where(told == TOLD.index("nothing"), BLANK, prompt)

    def _rank_loss(self, inputs: Tensor, statuses: Tensor) -> Tensor:
        lre = self.settings.lre
        points = self.embed(inputs)
        distance = pairwise(lre.metric, points, points, self.hnn.c)
        return rank_loss(distance, statuses, ties=lre.ties, temperature=lre.temperature)

    def _consistency(self, fusion: Fusion, prompts: Prompts) -> Tensor:
        fvtaf = self.settings.fvtaf
        if fvtaf.consistency == "none":
            return fusion.features.new_zeros(())
        mask = prompts.retrieved_mask if fvtaf.mask_sentences else None
        maps, options = (fusion.global_map, fusion.local_map), {"iou": fvtaf.iou, "upsample": fvtaf.upsample}
        if fvtaf.consistency == "difference":
            related = relatedness(prompts.retrieved, prompts.local, mask, fvtaf.consistency_temperature)
            return difference_loss(*maps, related, mask, **options)
        return fcc_loss(*maps, cosine_matrix(prompts.retrieved, prompts.local), mask, **options)

    def _append_retrieved(self, vision: Vision, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Patches and the projected, normalised sentences of the retrieved report, side by side, with their mask."""
        text = self.retrieved_project(prompts.retrieved)
        valid = torch.ones(vision.patches.shape[:2], dtype=torch.bool, device=text.device)
        return torch.cat([vision.patches, text], 1), torch.cat([valid, prompts.retrieved_mask], 1)
