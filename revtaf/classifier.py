"""Disease classifier with reference memory (paper section 3.2, after its [13]; docs/method.md section 2).

The pooled image asks a small transformer about the texts of its nearest training images; its answer and the
pooled image give the status of every category. Self-adaptive disease-balanced learning adjusts the logits in
training by what the validation set says about each category.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from revtaf.labels import CHEXPERT_CATEGORIES, POSITIVE, STATUSES
from revtaf.settings import ClassifierSettings

PRIOR_FLOOR = 1e-4  # keeps ln(p) finite for a category that is never predicted


class MemoryDecoderLayer(nn.Module):
    """DETR's decoder layer for one query: the query is its positional code, the content starts at zero."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feed_forward, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, content: Tensor, query: Tensor, memory: Tensor) -> Tensor:
        """content and query (B, 1, width), memory (B, K_m, width) -> (B, 1, width)."""
        q = content + query
        content = self.norms[0](content + self.dropout(self.self_attention(q, q, content)[0]))
        answer = self.cross_attention(content + query, memory, memory)[0]
        content = self.norms[1](content + self.dropout(answer))
        return self.norms[2](content + self.dropout(self.feed_forward(content)))


class ReferenceMemory(nn.Module):
    """pooled (B, visual) and K_m report embeddings (B, K_m, text) -> (B, width)."""

    def __init__(self, visual_width: int, text_width: int, settings: ClassifierSettings):
        super().__init__()
        width, heads = settings.width, settings.heads
        self.query = nn.Linear(visual_width, width)
        self.project = nn.Linear(text_width, width)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, heads, settings.feed_forward, settings.dropout, batch_first=True),
            settings.layers,
            enable_nested_tensor=False,
        )
        self.decoder = nn.ModuleList(
            MemoryDecoderLayer(width, heads, settings.feed_forward, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, pooled: Tensor, memory: Tensor) -> Tensor:
        """pooled (B, visual), memory (B, K_m, text) -> what the memory says to the image, (B, width)."""
        memory = self.encoder(self.project(memory))
        query = self.query(pooled).unsqueeze(1)
        content = torch.zeros_like(query)
        for layer in self.decoder:
            content = layer(content, query, memory)
        return self.norm(content).squeeze(1)


class Classifier(nn.Module):
    """Statuses of K categories from the pooled image and the reference memory."""

    def __init__(self, visual_width: int, text_width: int, categories: int, settings: ClassifierSettings):
        super().__init__()
        self.categories = categories
        self.balanced = settings.balanced_logits
        self.memory = ReferenceMemory(visual_width, text_width, settings) if settings.memory else None
        width = visual_width + (settings.width if settings.memory else 0)
        self.head = nn.Linear(width, len(STATUSES) * categories)
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.zeros_(self.head.bias)
        # Share of positives per category; part of the checkpoint. Auxiliary categories are never adjusted.
        self.register_buffer("prior", torch.ones(len(CHEXPERT_CATEGORIES)))

    def forward(self, pooled: Tensor, memory: Tensor | None) -> Tensor:
        """(B, visual), (B, K_m, text) -> logits (B, 4, K), status first."""
        features = pooled
        if self.memory is not None:
            features = torch.cat([pooled, self.memory(pooled, memory)], dim=1)
        return self.head(features).view(-1, len(STATUSES), self.categories)

    def loss(self, logits: Tensor, statuses: Tensor) -> Tensor:
        """Cross-entropy over statuses, mean over B * K, with balanced logits in training.

        The adjustment z[:, POS, k] += ln(p_k / max p) makes a rare positive cost more (logit adjustment).
        """
        logits = logits.float()
        if self.balanced and self.training:
            relative = (self.prior / self.prior.max()).clamp(min=PRIOR_FLOOR)
            shift = torch.zeros_like(logits[0])
            shift[POSITIVE, : len(relative)] = relative.log()
            logits = logits + shift
        return F.cross_entropy(logits, statuses)

    @torch.no_grad()
    def set_prior(self, shares: Tensor) -> None:
        """Start from the share of positives per category in the training set, (14,) or more."""
        self.prior.copy_(shares[: len(self.prior)].clamp(min=PRIOR_FLOOR))

    @torch.no_grad()
    def update_prior(self, probabilities: Tensor, statuses: Tensor) -> None:
        """After an epoch: p_k = mean P(positive) over the validation samples that are positive for k.

        probabilities and statuses (S, K). A category without a positive keeps its value.
        """
        for k in range(len(self.prior)):
            positive = statuses[:, k] == POSITIVE
            if positive.any():
                self.prior[k] = probabilities[positive, k].mean().clamp(min=PRIOR_FLOOR)
