"""Bio_ClinicalBERT as the text encoder: [CLS] of the last layer (the paper's f_medklip, Eq. 9).

MedKLIP's text encoder is this model, frozen and unchanged; no MedKLIP file holds any part of it. Its 75 entity and
51 position texts were fed as `[CLS] X` without the closing [SEP]: `separator=False` repeats that. Texts that MedKLIP
never saw (sentences, triplets, reports) get both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig

from revtaf.errors import UserError
from revtaf.files import digest, read_json, sha256
from revtaf.pretrained.bert import FrozenBert, current_names, encoder_shapes
from revtaf.pretrained.bert_folder import BERT_FILES, bert_files, find_weights
from revtaf.pretrained.strict import read_tensors, require_fit

_WHAT = "Bio_ClinicalBERT"
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
# Of BERT's pre-training, without influence on [CLS] of the last layer.
_UNUSED = ("cls.", "bert.pooler.")


class ClinicalBertEncoder:
    """Texts -> (N, width) float32; `name` changes with weights, vocabulary and sizes."""

    def __init__(self, bert: FrozenBert, weights: str):
        self.bert = bert
        self.width = bert.width
        self.name = f"bio_clinicalbert-{weights}"

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> ClinicalBertEncoder:
        """From a folder with config.json, vocab.txt and the weights; UserError where a tensor is missing or unknown."""
        folder = Path(folder)
        path = find_weights(folder)
        if path is None:
            raise UserError(f"{_WHAT}: {folder} holds neither {' nor '.join(BERT_FILES)} (see checkpoints/README.md)")
        config = _read_config(folder / "config.json")
        state = current_names(read_tensors(path, _WHAT), path, _WHAT)
        state = {key: value for key, value in state.items() if not key.startswith(_UNUSED)}
        require_fit(state, encoder_shapes(config, pooler=False), path, _WHAT)
        bert = FrozenBert(config, state, folder / "vocab.txt", _WHAT, device)
        return cls(bert, digest([sha256(file) for file in bert_files(folder)])[:8])

    def encode(
        self, texts: Sequence[str], separator: bool = True, max_length: int = 128, progress: bool = False
    ) -> np.ndarray:
        """(N,) texts -> (N, width) float32; 128 is the length MedKLIP was trained with."""
        return self.bert.encode(texts, separator, max_length, progress, title=_WHAT)


def _read_config(path: Path) -> BertConfig:
    content = read_json(path, f"{_WHAT}: config.json")
    kind = content.get("model_type", "bert") if isinstance(content, dict) else type(content).__name__
    if kind != "bert":
        raise UserError(f"{_WHAT}: {path} describes a {kind}, expected a BERT")
    for key in _SIZES:
        if not isinstance(content.get(key), int) or content[key] < 1:
            raise UserError(f"{_WHAT}: {path}: '{key}' is {content.get(key)!r}, expected a positive whole number")
    if content["hidden_size"] % content["num_attention_heads"]:
        raise UserError(f"{_WHAT}: {path}: hidden_size is not a multiple of num_attention_heads")
    return BertConfig(
        **{key: content[key] for key in _SIZES},
        hidden_act=content.get("hidden_act", "gelu"),
        layer_norm_eps=content.get("layer_norm_eps", 1e-12),
    )
