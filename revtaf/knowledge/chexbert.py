"""CheXbert (Smit et al. 2020, the paper's [48]): a report -> 14 categories x {blank, positive, negative, uncertain}.

BERT-base, [CLS] of the last layer, one linear head a category; "no finding" has two classes, the others four. Classes
and categories are in the order of `revtaf.labels`. A wrong file must not label at random, so that all 227 tensors have
to fit. CheXbert knows nothing of the four auxiliary categories: another labeler fills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig

from revtaf.data.text import says_nothing
from revtaf.errors import UserError
from revtaf.files import digest, sha256
from revtaf.knowledge.base import Labeler
from revtaf.labels import BLANK, CATEGORIES, CHEXPERT_CATEGORIES, NO_FINDING, STATUSES
from revtaf.pretrained.bert import FrozenBert, current_names, encoder_shapes
from revtaf.pretrained.strict import read_tensors, require_fit

_WHAT = "CheXbert"
_WORDS = "bert.embeddings.word_embeddings.weight"
_FEED_FORWARD = "bert.encoder.layer.0.intermediate.dense.weight"
_CLASSES = [2 if i == NO_FINDING else len(STATUSES) for i in range(len(CHEXPERT_CATEGORIES))]


class CheXbertLabeler:
    """Labels raw or cleaned reports. `auxiliary` gives columns 14 to 17 and is part of the name."""

    categories = CATEGORIES

    def __init__(self, bert: FrozenBert, heads: list[tuple[np.ndarray, np.ndarray]], auxiliary: Labeler, weights: str):
        """heads: weight (classes, width) and bias (classes,) of each of the 14 categories."""
        self.bert = bert
        self.heads = heads
        self.auxiliary = auxiliary
        self.name = f"chexbert-{weights}+{auxiliary.name}"

    @classmethod
    def load(
        cls, checkpoint: str | Path, vocabulary: str | Path, auxiliary: Labeler, device: torch.device | str = "cpu"
    ) -> CheXbertLabeler:
        """From CheXbert's training checkpoint and bert-base-uncased's vocab.txt; UserError where anything differs."""
        path = Path(checkpoint)
        state = current_names(read_tensors(path, _WHAT, entry="model_state_dict"), path, _WHAT)
        config = _config(state, path)
        shapes: dict[str, Sequence[int]] = dict(encoder_shapes(config, pooler=True))
        for i, classes in enumerate(_CLASSES):
            shapes[f"linear_heads.{i}.weight"] = (classes, config.hidden_size)
            shapes[f"linear_heads.{i}.bias"] = (classes,)
        require_fit(state, shapes, path, _WHAT)
        heads = [
            tuple(state[f"linear_heads.{i}.{part}"].float().numpy() for part in ("weight", "bias"))
            for i in range(len(_CLASSES))
        ]
        bert = FrozenBert(config, state, Path(vocabulary), _WHAT, device)
        return cls(bert, heads, auxiliary, digest([sha256(path), sha256(vocabulary)])[:8])

    def label(self, reports: Sequence[str], progress: bool = False) -> np.ndarray:
        """(N, 18) uint8: 0 blank, 1 positive, 2 negative, 3 uncertain; `no finding` is 0 or 1. A report that says
        nothing is blank in all: the network would say "no finding" of it."""
        vectors = self.embed(reports, progress)
        labels = np.empty((len(reports), len(CATEGORIES)), dtype=np.uint8)
        for category, (weight, bias) in enumerate(self.heads):
            labels[:, category] = (vectors @ weight.T + bias).argmax(axis=1)
        labels[:, len(self.heads) :] = self.auxiliary.label(reports)[:, len(self.heads) :]
        labels[[says_nothing(report) for report in reports]] = BLANK
        return labels

    def embed(self, reports: Sequence[str], progress: bool = False) -> np.ndarray:
        """(N, width) float32: the [CLS] vector that the heads read. Tokens after the 511th give way to [SEP]."""
        if isinstance(reports, str):
            raise TypeError("expected a sequence of reports, got one string")
        return self.bert.encode([" ".join(r.split()) for r in reports], progress=progress, title=_WHAT)


def _config(state: dict[str, Tensor], path: Path) -> BertConfig:
    """BERT-base, but for the widths and the vocabulary's size, which the tensors tell."""
    for key in (_WORDS, _FEED_FORWARD):
        if key not in state or state[key].ndim != 2:
            raise UserError(f"{_WHAT}: {path} has no matrix {key}; is it CheXbert's checkpoint?")
    words, width = state[_WORDS].shape
    heads = max(1, width // 64)
    if width % heads:
        raise UserError(f"{_WHAT}: {path}: the hidden width {width} is not a multiple of 64")
    return BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=12,
        num_attention_heads=heads,
        intermediate_size=state[_FEED_FORWARD].shape[0],
    )
