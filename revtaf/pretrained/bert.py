"""BERT from local files: its names and vocabulary, and [CLS] vectors of texts.

One copy for everything that starts from BERT: the report decoder, Bio_ClinicalBERT and CheXbert. Nothing is fetched
from a hub and no file can run code. The files differ in age: LayerNorm's parameters were once called gamma and beta,
a training wrapper left the prefix `module.`, and the buffer `position_ids` was stored for some years.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor
from tqdm import tqdm
from transformers import BertConfig, BertModel

from revtaf.errors import UserError
from revtaf.rng import stream
from revtaf.tokenizer import CLS, PAD, SEP, read_pieces

_BARE = ("embeddings.", "encoder.", "pooler.")  # files of the encoder alone lack the prefix "bert."
_TOKENS_PER_BATCH = 1 << 14  # padding included: 32 texts of 512 tokens; more is not faster on CPUs
_TEXTS_PER_CALL = 4096  # the tokenizer's own records are large, ids are not


def current_names(state: Mapping[str, Tensor], path: Path, what: str) -> dict[str, Tensor]:
    """The state under today's keys: `bert.` before the encoder's, `weight` and `bias` in LayerNorm, no buffers."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        new = key.removeprefix("module.")
        new = new.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        new = f"bert.{new}" if new.startswith(_BARE) else new
        if new.endswith("position_ids"):
            continue
        if new in renamed:
            raise UserError(f"{what}: {path} holds {new} twice, under an old and a new name")
        renamed[new] = value
    return renamed


def encoder_shapes(config: BertConfig, pooler: bool) -> dict[str, torch.Size]:
    """Key -> shape of BERT's encoder, under today's names."""
    with torch.device("meta"):
        state = BertModel(config, add_pooling_layer=pooler).state_dict()
    return {f"bert.{key}": value.shape for key, value in state.items()}


class FrozenBert:
    """Texts -> [CLS] of BERT's last layer, float32, the same in whatever batch a text is encoded.

    Not a module on purpose: nothing that trains can own it, switch its dropout on or save its weights.
    """

    def __init__(
        self, config: BertConfig, state: Mapping[str, Tensor], vocabulary: Path, what: str, device: torch.device | str
    ):
        """`state` has passed `require_fit`; its pooler is left out. UserError where the vocabulary does not fit it."""
        self.device = torch.device(device)
        self.width = config.hidden_size
        self.longest = config.max_position_embeddings
        self._tokenizer = _read_vocabulary(vocabulary, config.vocab_size, what)
        self._cls, self._sep, self._pad = (self._tokenizer.token_to_id(token) for token in (CLS, SEP, PAD))
        with stream(0, what):  # its random start, replaced below, moves no number of a training that goes on
            model = BertModel(config, add_pooling_layer=False)
        own = {key: state[f"bert.{key}"] for key in model.state_dict()}
        model.load_state_dict(own, strict=True)
        self._model = model.float().eval().requires_grad_(False).to(self.device)

    def tokens(self, texts: Sequence[str], separator: bool = True, max_length: int = 512) -> list[list[int]]:
        """[CLS] X [SEP] of each lower-cased text, X cut so that the whole has at most `max_length` ids."""
        if not 2 <= max_length <= self.longest:
            raise ValueError(f"max_length must be 2..{self.longest}, got {max_length}")
        kept = max_length - 1 - separator
        end = [self._sep] if separator else []
        found = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            pieces = self._tokenizer.encode_batch(
                list(texts[start : start + _TEXTS_PER_CALL]), add_special_tokens=False
            )
            found += [[self._cls, *p.ids[:kept], *end] for p in pieces]
        return found

    def encode(
        self,
        texts: Sequence[str],
        separator: bool = True,
        max_length: int = 512,
        progress: bool = False,
        title: str = "texts",
    ) -> np.ndarray:
        """(N,) texts -> (N, width) float32, in their order; equal texts are encoded once. See `tokens`."""
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, got one string")
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        ids = self.tokens(list(rows), separator, max_length)
        vectors = np.empty((len(rows), self.width), dtype=np.float32)
        with tqdm(total=len(rows), desc=title, unit="text", leave=False, disable=not progress) as bar:
            for batch in _batches([len(i) for i in ids]):
                vectors[batch] = self._forward([ids[i] for i in batch])
                bar.update(len(batch))
        return vectors[[rows[text] for text in texts]]

    @torch.no_grad()
    def _forward(self, ids: list[list[int]]) -> np.ndarray:
        length = max(map(len, ids))
        padded = torch.tensor([i + [self._pad] * (length - len(i)) for i in ids], device=self.device)
        # By length, not by comparing with [PAD]: a report may contain that word.
        mask = torch.tensor([[1] * len(i) + [0] * (length - len(i)) for i in ids], device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            return self._model(input_ids=padded, attention_mask=mask).last_hidden_state[:, 0].cpu().numpy()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of texts of similar length, the longest first: little padding, and memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, _TOKENS_PER_BATCH // lengths[order[start]])
        yield order[start : start + size]
        start += size


def _read_vocabulary(path: Path, rows: int, what: str) -> BertWordPieceTokenizer:
    """BERT's pieces from a vocab.txt, which must have one line for each row of the word embeddings.

    Lower-casing is fixed, even for the cased vocabulary of Bio_ClinicalBERT: its users (MedKLIP among them) always
    lower-cased, because no file said otherwise.
    """
    if not path.exists():
        raise UserError(f"{what}: no such file: {path} (see checkpoints/README.md)")
    tokens = read_pieces(path, what)
    if len(tokens) != rows:
        raise UserError(
            f"{what}: {path} has {len(tokens)} lines, the word embeddings have {rows} rows; "
            "take the vocab.txt that belongs to the weights"
        )
    vocabulary = {token: row for row, token in enumerate(tokens)}
    return BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
