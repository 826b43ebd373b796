"""A MedKLIP checkpoint with the published layout and random weights, books, and a stand-in for Bio_ClinicalBERT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from revtaf.files import digest
from revtaf.knowledge.medklip import MedKLIPBooks
from revtaf.knowledge.medklip_net import BOOK_WIDTH, MedKLIPNet
from revtaf.labels import ENTITIES, POSITIONS


def fake_books(seed: int = 0) -> MedKLIPBooks:
    """Random vectors of the length that BERT's [CLS] has, about 15."""
    draw = np.random.default_rng(seed)
    disease, anatomy = (
        draw.normal(0, 0.5, (n, BOOK_WIDTH)).astype(np.float32) for n in (len(ENTITIES), len(POSITIONS))
    )
    return MedKLIPBooks(disease, anatomy, digest("books", seed)[:8])


def write_medklip(path: str | Path, seed: int = 0) -> Path:
    """All 342 tensors under their published names, `module.` included, as {'model', 'optimizer', 'epoch'}.

    Its queries are spread out, and the normalisation's statistics are those of a grey image, so that answers differ
    between entities and between images, as a trained network's do.
    """
    books = fake_books(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MedKLIPNet(torch.from_numpy(books.disease), torch.from_numpy(books.anatomy))
        for module in net.modules():
            if isinstance(module, torch.nn.MultiheadAttention):  # biases start at zero: a mixed-up one would not show
                torch.nn.init.normal_(module.in_proj_bias, std=0.1)
                torch.nn.init.normal_(module.out_proj.bias, std=0.1)
        with torch.no_grad():
            net.disease_embedding_layer.weight.mul_(4)
            net.res_l2.weight.mul_(8)
            net.classifier.weight.mul_(4)
            net.train().res_features(torch.randn(4, 3, 96, 96))
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"model": state, "optimizer": {}, "epoch": 1}, path)
    return Path(path)


class FakeClinicalBert:
    """Texts -> vectors that depend on the text alone; remembers what it was asked for."""

    name = "fake-clinical-bert"

    def __init__(self, width: int = BOOK_WIDTH):
        self.width = width
        self.calls: list[tuple[tuple[str, ...], bool, int]] = []

    def encode(self, texts, separator=True, max_length=128) -> np.ndarray:
        self.calls.append((tuple(texts), separator, max_length))
        seeds = [int(digest(text), 16) for text in texts]
        return np.stack([np.random.default_rng(s).normal(0, 0.5, self.width) for s in seeds]).astype(np.float32)
