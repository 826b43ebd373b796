"""Pretrained weights into the model: what was asked for, what was found, strictly checked.

Without a file a run starts from random weights and its report says so; whether it may start at all, `missing` in the
settings decides before (`revtaf.check`). A file that is there but does not fit stops it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from revtaf.data.annotations import Study, clean_reports
from revtaf.decoder import Decoder
from revtaf.encoder import Encoder
from revtaf.errors import UserError
from revtaf.knowledge.entity_scorer import EntityScorer
from revtaf.pretrained.backbone import imagenet_file, load_imagenet
from revtaf.pretrained.bert import current_names
from revtaf.pretrained.bert_folder import bert_folder, find_weights
from revtaf.pretrained.strict import load_strictly, read_tensors
from revtaf.settings import Settings
from revtaf.tokenizer import ReportTokenizer

UNKNOWN_TOKENS = 0.01  # of training reports that are not English, at most, with a given vocabulary
# Of BERT, not of a causal decoder with cross-attention: the pooler and the next-sentence head.
_UNUSED = ("pooler.", "cls.seq_relationship.")
# What BERT cannot give: cross-attention; and its LM head is missing from files of the bare encoder.
_OWN_START = ("crossattention", "cls.")


def bert_file(weights: str) -> Path | None:
    """The file that `decoder.weights` means; None where it is not there."""
    return find_weights(bert_folder(weights))


def make_tokenizer(settings: Settings, studies: list[Study]) -> ReportTokenizer:
    """BERT's vocabulary where its weights are used, else one fitted on the training reports."""
    vocabulary, data = bert_vocabulary(settings), settings.training_data
    reports = clean_reports(studies, data.max_words, data.language)
    if vocabulary == "train":
        return ReportTokenizer.fit(reports, settings.decoder.vocabulary_size, data.language)
    tokenizer = ReportTokenizer.from_vocabulary(vocabulary, data.language)
    if data.language != "en" and (share := tokenizer.unknown_share(reports)) > UNKNOWN_TOKENS:
        raise UserError(
            f"{vocabulary} lacks {share:.0%} of the words of {data.annotation}: take a BERT of that language as "
            "decoder.weights, or decoder.weights=null decoder.vocabulary=train"
        )
    return tokenizer


def initialise_encoder(encoder: Encoder, settings: Settings, scorer: EntityScorer) -> str:
    """Load `encoder.weights`; returns one line for the run's report."""
    name, wanted = settings.encoder.backbone, settings.encoder.weights
    if wanted is None:
        return f"{name} from random weights"
    if wanted == "scorer":
        encoder.backbone.load_state_dict(scorer.nets[0].backbone.state_dict(), strict=True)
        size, own = settings.encoder.image_size, scorer.image_size
        return f"{name} from the entity scorer's first fold" + (f", fitted at {own} px" if size != own else "")
    path = imagenet_file(name) if wanted == "imagenet" else Path(wanted)
    if path is None:
        return f"{name} from random weights: ImageNet weights not found (see checkpoints/README.md)"
    load_imagenet(encoder.backbone, path)
    return f"{name} from {path.name}"


def initialise_decoder(decoder: Decoder, settings: Settings) -> str:
    """Load BERT into the decoder where its files are; returns one line for the run's report."""
    wanted = settings.decoder.weights
    if wanted is None:
        return "decoder from random weights"
    path = bert_file(wanted)
    if path is None:
        return f"decoder from random weights: {wanted} not found (see checkpoints/README.md)"
    load_bert(decoder, path)
    return f"decoder from {wanted}; cross-attention, its input and new tokens from random weights"


def load_bert(decoder: Decoder, path: Path) -> None:
    """BERT's encoder and masked-LM head -> the causal decoder. Every key must be used or known as unused."""
    state = current_names(read_tensors(path, "decoder.weights"), path, "decoder.weights")
    own = decoder.lm.state_dict()
    loaded = {key: value for key, value in own.items() if any(part in key for part in _OWN_START)}
    for key, value in state.items():
        if any(part in key for part in _UNUSED):
            continue
        if key in own:
            value = _fit_vocabulary(key, value, own[key])
        loaded[key] = value
    remedy = "set decoder.layers, width, heads and vocabulary to fit"
    load_strictly(decoder.lm, loaded, path, "decoder.weights", remedy)
    decoder.lm.tie_weights()


def _fit_vocabulary(key: str, value: Tensor, own: Tensor) -> Tensor:
    """Rows of the added prompt tokens keep their random start."""
    by_token = key.endswith(("word_embeddings.weight", "predictions.bias", "predictions.decoder.weight"))
    by_token = by_token or key.endswith("predictions.decoder.bias")
    if by_token and value.shape[1:] == own.shape[1:] and 0 < len(own) - len(value) <= 8:
        return torch.cat([value, own[len(value) :].to(value.dtype)])
    return value


def bert_vocabulary(settings: Settings) -> str:
    """`decoder.vocabulary`, or BERT's own vocab.txt where its weights are used and none was named."""
    wanted = settings.decoder
    if wanted.vocabulary == "train" and wanted.weights and bert_file(wanted.weights):
        return str(bert_folder(wanted.weights) / "vocab.txt")
    return wanted.vocabulary
