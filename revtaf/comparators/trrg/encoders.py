"""Stage 1's encoders (section 2.1): image -> n tokens, sentence -> words, both of width d, with one vector for each.

A Swin has no [CLS]: its vector is the mean of its tokens (the paper says so of stage 2). DIFFERS: ClinicalBERT is 768
wide and d is 1024, so that a linear layer stands between; it is no part of the paper's text, and both sides have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from revtaf.comparators.medfuse.towers import LARGEST_SCALE, Encoded
from revtaf.comparators.trrg.clues import EncodedClues
from revtaf.comparators.trrg.settings import SentenceImageSettings, SentenceTextSettings, Stage1Settings
from revtaf.errors import UserError
from revtaf.files import read_json
from revtaf.pretrained.backbone import Backbone, imagenet_file, load_imagenet
from revtaf.pretrained.bert import current_names
from revtaf.pretrained.bert_folder import find_weights
from revtaf.pretrained.strict import load_strictly, read_tensors
from revtaf.rng import stream
from revtaf.tokenizer import CLS, SEP, ReportTokenizer

_UNUSED = ("cls.", "bert.pooler.")  # of BERT's pre-training
_SIZES = {  # our key -> BERT's
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
}


class ImageTokens(nn.Module):
    """(B, 3, H, W) -> the last map as tokens (B, n, width): torchvision's Swin, or one of REVTAF's backbones."""

    def __init__(self, name: str):
        super().__init__()
        self.swin = name.startswith("swin")
        if self.swin:
            self.net = torchvision.models.get_model(name, weights=None)
            self.width = self.net.head.in_features
            self.net.head = nn.Identity()
        else:
            self.net = Backbone(name)
            self.width = self.net.width

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        if self.swin:
            return self.net.norm(self.net.features(images)).flatten(1, 2)
        return self.net(images).flatten(2).mT


class AlignedEncoders(nn.Module):
    """Both encoders. Everything that stage 2 reads of stage 1 is a method here."""

    def __init__(self, settings: Stage1Settings, config: BertConfig):
        super().__init__()
        width, centred = settings.space.width, settings.space.centred
        with stream(settings.seed, "trrg.image"):
            self.visual = ImageTokens(settings.image.encoder)
            self.of_visual = nn.Linear(self.visual.width, width)
        with stream(settings.seed, "trrg.text"):
            self.text = BertModel(config, add_pooling_layer=False)
            self.of_text = nn.Linear(config.hidden_size, width)
        self.dropout = nn.Dropout(settings.image.dropout)
        for name in ("standard_image", "standard_text"):
            setattr(self, name, nn.BatchNorm1d(width, affine=False) if centred else nn.Identity())
        self.log_scale = nn.Parameter(torch.tensor(1 / settings.space.temperature).log())

    @property
    def temperature(self) -> float:
        """tau."""
        return 1 / self.log_scale.detach().exp().clamp(max=LARGEST_SCALE).item()

    def image_tokens(self, images: Tensor) -> Tensor:
        """v_e (B, n, d) of images (B, 3, S, S)."""
        return self.of_visual(self.dropout(self.visual(images)))

    def image_vector(self, tokens: Tensor) -> Tensor:
        """v_e (B, n, d) -> v_cls (B, d) of length 1: the mean of the tokens."""
        return F.normalize(self.standard_image(tokens.mean(1).float()), dim=-1)

    def text_tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(M, T) ids, mask (M, T) bool -> (M, T, d), [CLS] first."""
        return self.of_text(self.text(input_ids=ids, attention_mask=mask.long()).last_hidden_state)

    def text_vector(self, tokens: Tensor) -> Tensor:
        """(M, T, d) -> c_cls (M, d) of length 1."""
        return F.normalize(self.standard_text(tokens[:, 0].float()), dim=-1)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor) -> Encoded:
        """images (B, 3, S, S), ids and mask (M, T)."""
        return Encoded(
            self.image_vector(self.image_tokens(images)),
            self.text_vector(self.text_tokens(ids, mask)),
            self.log_scale.exp().clamp(max=LARGEST_SCALE),
        )


class SentenceWords:
    """Texts -> ids with [CLS] and [SEP], cut to `longest`."""

    def __init__(self, tokenizer: ReportTokenizer, longest: int):
        self.tokenizer, self.longest = tokenizer, longest
        self.start, self.end = (tokenizer.tokenizer.token_to_id(token) for token in (CLS, SEP))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. UserError for a text of blanks."""
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise UserError(f"text {number} of {len(texts)} is empty: there is nothing to look for")
        return [[self.start, *ids[: self.longest - 2], self.end] for ids in self.tokenizer.encode(texts)]

    def padded(self, ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """(M, T) long, and the mask (M, T) bool: by length, not by token, as a text may hold the word [PAD]."""
        width = max(map(len, ids))
        tokens = torch.tensor([[*one, *[self.tokenizer.pad] * (width - len(one))] for one in ids])
        return tokens, torch.arange(width)[None] < torch.tensor([len(one) for one in ids])[:, None]


@torch.no_grad()
def encode_clues(
    encoders: AlignedEncoders, words: SentenceWords, texts: Sequence[str], owner: Sequence[int], device: torch.device
) -> EncodedClues:
    """The bank's texts, encoded as at evaluation; the encoders are left in evaluation."""
    encoders.eval()
    ids, mask = (t.to(device) for t in words.padded(words.encode(texts)))
    with torch.autocast(device.type, enabled=False):
        tokens = encoders.text_tokens(ids, mask)
        cls = encoders.text_vector(tokens)
    lengths = mask.sum(1, keepdim=True)
    inner = torch.arange(tokens.shape[1], device=device)[None]
    kept = (inner >= 1) & (inner < lengths - 1)  # neither [CLS] nor [SEP]
    tokens = tokens.masked_fill(~kept[..., None], 0)
    return EncodedClues(cls, tokens[:, 1:-1], kept[:, 1:-1], owner, encoders.temperature).to(device)


def bert_config(settings: SentenceTextSettings, tokens: int) -> BertConfig:
    """Of the configured sizes, and a vocabulary of `tokens`."""
    sizes = {theirs: getattr(settings, ours) for ours, theirs in _SIZES.items()}
    drop = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}
    return BertConfig(vocab_size=tokens, max_position_embeddings=512, **sizes, **drop)


def sentence_tokenizer(settings: SentenceTextSettings, reports: Sequence[str]) -> ReportTokenizer:
    """BERT's own vocabulary where its files are, else one of the training reports."""
    if settings.weights is not None and find_weights(settings.weights):
        return ReportTokenizer.from_vocabulary(settings.weights / "vocab.txt")
    return ReportTokenizer.fit(reports, settings.vocabulary_size)


def initialise(encoders: AlignedEncoders, settings: Stage1Settings) -> dict[str, str]:
    """Load the configured weights; lines for the run's report. UserError where a file does not fit."""
    return {
        "image encoder": _initialise_image(encoders.visual, settings.image),
        "text encoder": _initialise_text(encoders.text, settings.text),
    }


def _initialise_image(visual: ImageTokens, settings: SentenceImageSettings) -> str:
    name, wanted = settings.encoder, settings.weights
    if wanted is None:
        return f"{name} from random weights"
    path = imagenet_file(name) if wanted == "imagenet" else Path(wanted)
    if path is None:
        return f"{name} from random weights: ImageNet weights not found (see checkpoints/README.md)"
    if visual.swin:
        state = {k: v for k, v in read_tensors(path, "image.weights").items() if not k.startswith("head.")}
        load_strictly(visual.net, state, path, "image.weights", f"give torchvision's weights of {name}")
    else:
        load_imagenet(visual.net, path)
    return f"{name} from {path.name}"


def _initialise_text(bert: BertModel, settings: SentenceTextSettings) -> str:
    path = find_weights(settings.weights) if settings.weights is not None else None
    if path is None:
        missing = f": {settings.weights} not found" if settings.weights else ""
        return f"BERT of {settings.layers} layers from random weights{missing}"
    what, own = "text.weights", bert.state_dict()
    state = current_names(read_tensors(path, what), path, what)
    state = {k.removeprefix("bert."): v for k, v in state.items() if not k.startswith(_UNUSED)}
    words = "embeddings.word_embeddings.weight"
    if words in state and len(state[words]) < len(own[words]):  # rows of the tokens that the tokenizer adds
        state[words] = torch.cat([state[words], own[words][len(state[words]) :]])
    load_strictly(bert, state, path, what, "set text.layers, width, heads and feed_forward to its config.json")
    return f"BERT from {settings.weights}"


def check_bert_sizes(settings: SentenceTextSettings) -> None:
    """UserError where the folder's config.json has other sizes than the settings: heads leave no trace in a tensor."""
    if settings.weights is None or find_weights(settings.weights) is None:
        return
    path = settings.weights / "config.json"
    content = read_json(path, "text.weights")
    for ours, theirs in _SIZES.items():
        if content.get(theirs) != getattr(settings, ours):
            raise UserError(f"text.weights: {path} has {theirs} {content.get(theirs)}, text.{ours} is set otherwise")
