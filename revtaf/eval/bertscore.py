"""BERTScore (Zhang et al. 2020; supplement, Table 5) from a local model folder.

Each word piece of one text is matched to its most similar piece of the other, [CLS] and [SEP] included as partners but
with no weight of their own; F1 of the mean similarities, rescaled so that unrelated texts get about 0. As the field
computes it for radiology: distilroberta-base, layer 5, baseline 0.8473319, idf off. With idf a score depends on the
evaluated set, and numbers with and without do not compare.

# DIFFERS: an empty text scores 0 after rescaling; the package bert-score crashes on it or gives -5.55.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.eval.keyed import require_files
from revtaf.eval.metric import Metric, mean_metric
from revtaf.files import read_json

LAYER = 5
BASELINE = 0.8473319  # F of bert-score's English baseline for distilroberta-base, layer 5
_DISTILROBERTA = {"model_type": "roberta", "num_hidden_layers": 6, "hidden_size": 768, "vocab_size": 50265}

_WHAT = "BERTScore model"
_FILES = (
    ("config.json",),
    ("model.safetensors", "pytorch_model.bin"),
    ("tokenizer.json", "vocab.json", "vocab.txt"),
)
_FIX = "put the files of distilroberta-base there"
_PAIRS_PER_BATCH = 32


def check_model(folder: Path, layer: int = LAYER, baseline: float | None = None) -> None:
    """UserError where a file is missing, the layer does not exist or the baseline is not known. Imports nothing."""
    folder = Path(folder)
    require_files(folder, _FILES, _WHAT, _FIX)
    config = read_json(folder / "config.json", _WHAT)
    layers = config.get("num_hidden_layers") if isinstance(config, dict) else None
    if not isinstance(layers, int) or not 1 <= layer <= layers:
        raise UserError(f"{_WHAT}: {folder / 'config.json'} has {layers} layers, asked for layer {layer}")
    ours = layer == LAYER and all(config.get(key) == value for key, value in _DISTILROBERTA.items())
    if baseline is None and not ours:
        raise UserError(
            f"{_WHAT}: the baseline {BASELINE} belongs to distilroberta-base, layer {LAYER}, which {folder} with layer "
            f"{layer} is not; give this model's baseline (0 for raw scores)"
        )


def read_baseline(path: Path, layer: int = LAYER) -> float:
    """F of the layer, from a baseline file of the package bert-score (LAYER,P,R,F)."""
    try:
        rows = list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))
        return next(float(row["F"]) for row in rows if int(row["LAYER"]) == layer)
    except FileNotFoundError:
        raise UserError(f"BERTScore baseline: no such file: {path}") from None
    except StopIteration:
        raise UserError(f"BERTScore baseline: {path} has no row for layer {layer}") from None
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"BERTScore baseline: {path}: expected the columns LAYER,P,R,F ({error!r})") from None


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    folder: Path,
    layer: int = LAYER,
    baseline: float | None = None,
    idf: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Metric:
    """The mean of (F - baseline) / (1 - baseline) over N pairs; baseline 0 gives raw F, None the published constant.

    Runs of blanks count as one. Texts are cut at the model's length (510 pieces for distilroberta-base). The same in
    whatever batch, to float32. Raises UserError, within a second where a file is missing.
    """
    check_model(folder, layer, baseline)
    baseline = BASELINE if baseline is None else baseline
    pairs = [tuple(re.sub(" +", " ", t).strip() for t in p) for p in zip(references, hypotheses, strict=True)]
    encoder = _Encoder(Path(folder), layer, device)
    weights = _idf([encoder.tokens(r) for r, _ in pairs]) if idf else None
    values = np.zeros(len(pairs))
    # Pairs of similar length together. An empty text has nothing to match and keeps its 0.
    order = sorted((i for i, (r, h) in enumerate(pairs) if r and h), key=lambda i: -sum(map(len, pairs[i])))
    with tqdm(total=len(order), desc="BERTScore", unit="pair", leave=False, disable=not progress) as bar:
        for start in range(0, len(order), _PAIRS_PER_BATCH):
            batch = order[start : start + _PAIRS_PER_BATCH]
            texts = list(dict.fromkeys(t for i in batch for t in pairs[i]))
            ids = [encoder.tokens(t) for t in texts]
            vectors = dict(
                zip(texts, zip(encoder.vectors(ids), encoder.weights(ids, weights), strict=True), strict=True)
            )
            for i in batch:
                reference, hypothesis = (vectors[t] for t in pairs[i])
                values[i] = (_f1(*reference, *hypothesis) - baseline) / (1 - baseline)
            bar.update(len(batch))
    return mean_metric("BERTScore", values)


def _f1(reference: np.ndarray, reference_weights: np.ndarray, hypothesis: np.ndarray, weights: np.ndarray) -> float:
    """Greedy matching of unit vectors (T, D) and (S, D) with weights (T,) and (S,); 0 where no piece has weight."""
    if not reference_weights.any() or not weights.any():
        return 0.0
    similar = hypothesis @ reference.T  # (S, T)
    precision = similar.max(axis=1) @ weights / weights.sum()
    recall = similar.max(axis=0) @ reference_weights / reference_weights.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _idf(references: Sequence[Sequence[int]]) -> tuple[Counter, int]:
    """How many references hold each piece, and their number."""
    return Counter(piece for ids in references for piece in set(ids)), len(references)


class _Encoder:
    """The first `layer` layers of a model, in float32 and without dropout."""

    def __init__(self, folder: Path, layer: int, device: str):
        import torch
        import transformers

        self._torch = torch
        before = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()  # else it lists the layers that are left out on purpose
        try:
            local = {"local_files_only": True, "trust_remote_code": False}
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
            model, loaded = transformers.AutoModel.from_pretrained(
                folder, num_hidden_layers=layer, output_loading_info=True, **local
            )
        except Exception as error:  # many kinds, one meaning; the library's advice is to download
            raise UserError(
                f"{_WHAT}: cannot load {folder}: {' '.join(str(error).split())[:200] or repr(error)}; {_FIX}"
            ) from error
        finally:
            transformers.logging.set_verbosity(before)
        if missing := [key for key in loaded["missing_keys"] if not key.startswith("pooler.")]:
            raise UserError(f"{_WHAT}: {folder} lacks {len(missing)} tensors, first {missing[0]}; {_FIX}")
        self._model = model.float().eval().to(device)
        self._device = device
        # RoBERTa counts positions from 2; some tokenizers' own limit is missing, that is, enormous.
        self._longest = min(self._tokenizer.model_max_length, model.config.max_position_embeddings - 2)
        self._edges = [self._tokenizer.cls_token_id, self._tokenizer.sep_token_id]

    def tokens(self, text: str) -> list[int]:
        """Ids with [CLS] and [SEP]. The blank makes RoBERTa read the first word as any other; others ignore it."""
        return self._tokenizer.encode(f" {text}", truncation=True, max_length=self._longest)

    def weights(self, texts: list[list[int]], idf: tuple[Counter, int] | None) -> list[np.ndarray]:
        """(T,) of each text: 1 or idf, 0 for [CLS] and [SEP]."""

        def weight(piece: int) -> float:
            if piece in self._edges:
                return 0.0
            return math.log((idf[1] + 1) / (idf[0][piece] + 1)) if idf else 1.0

        return [np.array([weight(piece) for piece in ids]) for ids in texts]

    def vectors(self, texts: list[list[int]]) -> list[np.ndarray]:
        """(T, D) float64 of length 1 for each text."""
        torch = self._torch
        length = max(map(len, texts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([t + [pad] * (length - len(t)) for t in texts], device=self._device)
        mask = torch.tensor([[1] * len(t) + [0] * (length - len(t)) for t in texts], device=self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.double()
        hidden = torch.nn.functional.normalize(hidden, dim=-1).cpu().numpy()
        return [row[: len(t)] for row, t in zip(hidden, texts, strict=True)]
