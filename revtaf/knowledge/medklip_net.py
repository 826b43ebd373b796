"""MedKLIP's network (Wu et al., ICCV 2023): every entity is a query that looks for itself among the image's patches.

Module names are those of the published checkpoint, which therefore loads strictly. The two books, embedded texts of
the 75 entities and the 51 positions, are given from outside: the checkpoint does not hold them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from revtaf.labels import ENTITIES, POSITIONS

BOOK_WIDTH = 768  # of Bio_ClinicalBERT
WIDTH, LAYERS, HEADS, FEED_FORWARD, DROPOUT = 256, 4, 4, 1024, 0.1
IMAGE_SIZE = 224
GRID = IMAGE_SIZE // 16  # patches along a side: the backbone ends before ResNet's last stage


class MedKLIPOutput(NamedTuple):
    """presence (B, 75, 2): logits of absent, present. position (B, 75, 51): inner products with the anatomy book.
    attention (B, 4, 75, P): of each decoder layer over the patches, mean of its heads, rows sum to 1."""

    presence: Tensor
    position: Tensor
    attention: Tensor


class MedKLIPNet(nn.Module):
    """Images (B, 3, 224, 224) -> MedKLIPOutput, with P = 14 x 14 patches in row-major order.

    disease_book: (75, 768), anatomy_book: (51, 768). Only entities that are present were trained to find a position.
    """

    def __init__(self, disease_book: Tensor, anatomy_book: Tensor):
        super().__init__()
        expected = (len(ENTITIES), BOOK_WIDTH), (len(POSITIONS), BOOK_WIDTH)
        if (disease_book.shape, anatomy_book.shape) != expected:
            found = tuple(disease_book.shape), tuple(anatomy_book.shape)
            raise ValueError(f"expected books of {expected[0]} and {expected[1]}, got {found[0]} and {found[1]}")
        # Not persistent: the published file has no key for them. As buffers they follow the network to its device.
        self.register_buffer("disease_book", disease_book, persistent=False)
        self.register_buffer("anatomy_book", anatomy_book, persistent=False)
        self.disease_embedding_layer = nn.Linear(BOOK_WIDTH, WIDTH)
        self.cl_fc = nn.Linear(WIDTH, BOOK_WIDTH)
        resnet = torchvision.models.resnet50(weights=None)
        self.res_features = nn.Sequential(*list(resnet.children())[:-3])  # up to layer3: stride 16, 1024 channels
        self.res_l1 = nn.Linear(1024, 1024)
        self.res_l2 = nn.Linear(1024, WIDTH)
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, FEED_FORWARD, DROPOUT, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, LAYERS, norm=nn.LayerNorm(WIDTH))
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, images: Tensor) -> MedKLIPOutput:
        """images (B, 3, 224, 224), normalised -> presence, position and attention of the 75 entities."""
        queries = self.disease_embedding_layer(self.disease_book)  # (75, 256)
        found, attention = self.decode(queries.expand(len(images), -1, -1), self.patches(images))
        position = self.cl_fc(found) @ self.anatomy_book.T  # not normalised, no temperature: as it was trained
        return MedKLIPOutput(self.classifier(self.dropout(found)), position, attention)

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P, 256), row by row from the top left. No position is encoded."""
        features = self.res_features(images).flatten(2).transpose(1, 2)  # (B, P, 1024)
        return self.res_l2(torch.relu(self.res_l1(features)))

    def decode(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """queries (B, M, 256), patches (B, P, 256) -> (B, M, 256) and attention (B, 4, M, P).

        The computation of nn.TransformerDecoder, written out because that keeps the attention to itself.
        """
        x, attention = queries, []
        for layer in self.decoder.layers:
            y = layer.norm1(x)
            x = x + layer.dropout1(layer.self_attn(y, y, y, need_weights=False)[0])
            y, weights = layer.multihead_attn(layer.norm2(x), patches, patches)  # weights: mean over the heads
            x = x + layer.dropout2(y)
            y = layer.linear2(layer.dropout(torch.relu(layer.linear1(layer.norm3(x)))))
            x = x + layer.dropout3(y)
            attention.append(weights)
        return self.decoder.norm(x), torch.stack(attention, 1)
