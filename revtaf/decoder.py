"""Disease-prompted report decoder (paper Eq. 1-2, section 3.2; docs/method.md section 6.2).

A causal BERT decoder with cross-attention on the fused features. Its input is `[DEC] s_1 .. s_K report [SEP]`,
s_k the status token of category k; the prompt carries no loss. Ground-truth statuses in training, predicted ones
at inference.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertLMHeadModel,
    DynamicCache,
    EncoderDecoderCache,
    LogitsProcessor,
    LogitsProcessorList,
)

from revtaf.rng import key_of, substream
from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.tokenizer import ReportTokenizer

AT_ONCE = 256  # reports that are sampled at once, each with keys and values of its own


class Decoder(nn.Module):
    """A causal BERT with cross-attention to features (B, L, feature_width); its prompt has one token a category.

    One linear layer brings the features to BERT's width, so that no weight of the language model, nor its random start,
    depends on how wide they are.
    """

    def __init__(self, settings: DecoderSettings, tokenizer: ReportTokenizer, feature_width: int, categories: int):
        super().__init__()
        self.label_smoothing = settings.label_smoothing
        self.pad, self.end = tokenizer.pad, tokenizer.end
        with substream("lm"):
            self.lm = LanguageModel(
                BertConfig(
                    vocab_size=tokenizer.size,
                    hidden_size=settings.width,
                    intermediate_size=settings.feed_forward,
                    num_hidden_layers=settings.layers,
                    num_attention_heads=settings.heads,
                    hidden_dropout_prob=settings.dropout,
                    attention_probs_dropout_prob=settings.dropout,
                    max_position_embeddings=512,
                    bos_token_id=tokenizer.start,
                    eos_token_id=tokenizer.end,
                    pad_token_id=tokenizer.pad,
                    is_decoder=True,
                    add_cross_attention=True,
                    # Plain products: a CPU's fused attention takes .98 of the time of a step in float32, and 1.4
                    # times it in bf16.
                    attn_implementation="eager",
                )
            )
        with substream("project"):
            self.project = nn.Linear(feature_width, settings.width, bias=False)  # keys and values have their own
        prompt = torch.tensor([tokenizer.start])
        self.register_buffer("start", prompt, persistent=False)
        self.register_buffer("status_tokens", torch.tensor(tokenizer.statuses), persistent=False)
        self.prompt_length = 1 + categories

    def prompt(self, statuses: Tensor) -> Tensor:
        """Statuses (B, K) -> token ids (B, 1 + K)."""
        return torch.cat([self.start.expand(len(statuses), 1), self.status_tokens[statuses]], dim=1)

    def loss(self, tokens: Tensor, statuses: Tensor, features: Tensor, features_mask: Tensor | None = None) -> Tensor:
        """Label-smoothed cross-entropy over report tokens.

        tokens (B, T): report ids ended by [SEP], padded with [PAD]; statuses (B, K); features (B, L, width),
        features_mask (B, L) bool where some of them are padding.
        """
        # Position i predicts token i + 1, so the last prompt position predicts the first report token, and the report's
        # last token predicts nothing.
        inputs = torch.cat([self.prompt(statuses), tokens[:, :-1]], dim=1)
        hidden = self.lm.bert(
            input_ids=inputs,
            attention_mask=(inputs != self.pad).long(),
            encoder_hidden_states=self.project(features),
            encoder_attention_mask=None if features_mask is None else features_mask.long(),
            use_cache=False,
        ).last_hidden_state[:, self.prompt_length - 1 :]
        real = tokens != self.pad
        logits = self.lm.cls(hidden[real]).float()  # words are scored where they are asked for, nowhere else
        return F.cross_entropy(logits, tokens[real], label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def generate(
        self,
        statuses: Tensor,
        features: Tensor,
        settings: GenerationSettings,
        beams: int | None = None,
        features_mask: Tensor | None = None,
        drawn: Tensor | None = None,
    ) -> Tensor:
        """Beam search with the key/value cache of self- and cross-attention -> new token ids (B, T). drawn: numbers in
        [0, 1) (B, max_new_tokens) by which words are sampled instead (`Draws`)."""
        prompt, seen = self.prompt(statuses), self.project(features)
        beams = 1 if drawn is not None else beams or settings.beams
        options: dict[str, Any] = {} if features_mask is None else {"encoder_attention_mask": features_mask.long()}
        if drawn is not None:
            options["logits_processor"] = LogitsProcessorList([Draws(drawn, settings.temperature, prompt.shape[1])])
        output = self.lm.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            encoder_hidden_states=seen,
            eos_token_id=self.end,
            pad_token_id=self.pad,
            **search_options(settings, beams),
            **options,
        )
        return output[:, prompt.shape[1] :]

    @torch.no_grad()
    def candidates(
        self,
        written: Tensor,
        statuses: Tensor,
        features: Tensor,
        settings: GenerationSettings,
        seed: int,
        features_mask: Tensor | None = None,
    ) -> Tensor:
        """The reports `written` (B, T) by beam search, and `settings.candidates` that are sampled: (B, N + 1, T). What
        is drawn is the same for every sample, so that a report depends on no other report of its batch."""
        draw = torch.Generator().manual_seed(key_of(seed, "candidates"))
        drawn = torch.rand(settings.candidates, settings.max_new_tokens, generator=draw).to(features.device)
        count, tokens = len(statuses), [written]
        for numbers in drawn.split(max(1, AT_ONCE // count)):
            many = len(numbers)
            mask = None if features_mask is None else features_mask.repeat_interleave(many, 0)
            seen = statuses.repeat_interleave(many, 0), features.repeat_interleave(many, 0)
            sampled = self.generate(*seen, settings, features_mask=mask, drawn=numbers.repeat(count, 1))
            tokens += sampled.unflatten(0, (count, many)).unbind(1)
        longest = max(t.shape[1] for t in tokens)
        padded = [F.pad(t, (0, longest - t.shape[1]), value=self.pad) for t in tokens]
        return torch.stack(padded, 1)


class SearchSettings(Protocol):
    """What any system's `generation` says of its search."""

    min_new_tokens: int
    max_new_tokens: int
    length_penalty: float
    repetition_penalty: float
    no_repeat_ngram: int


def search_options(settings: SearchSettings, beams: int) -> dict[str, Any]:
    """What `transformers`' generate is told of the search: `settings`, with `beams` in place of its own number."""
    options: dict[str, Any] = {
        "num_beams": beams,
        "do_sample": False,
        "min_new_tokens": settings.min_new_tokens,
        "max_new_tokens": settings.max_new_tokens,
        "repetition_penalty": settings.repetition_penalty,
        "use_cache": True,
    }
    if beams > 1:
        options |= {"length_penalty": settings.length_penalty, "early_stopping": False}
    if settings.no_repeat_ngram:
        options["no_repeat_ngram_size"] = settings.no_repeat_ngram
    return options


class LanguageModel(BertLMHeadModel):
    """`transformers`' BERT with a word head, which generates with features to attend to.

    `generate` hands a decoder that has no encoder of its own a cache for self-attention alone; versions of BERT that
    take such an object want one for cross-attention beside it. The earlier ones make their own.
    """

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """The library's hook before each step: the inputs of `forward`, with a cache that holds both."""
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        for name in ("cache", "past_key_values"):  # by age of the library
            if isinstance(inputs.get(name), DynamicCache):
                inputs[name] = _BeamCache(inputs[name], DynamicCache())
        return inputs


class Draws(LogitsProcessor):
    """Sampling as a greedy search: of each row the word at its own number in the cumulated distribution gets all of the
    mass. `transformers`' own sampling draws for the whole batch, so that a report would depend on its batch."""

    def __init__(self, numbers: Tensor, temperature: float, prompt_length: int):
        """numbers (B, T) in [0, 1): one for each row and step."""
        self.numbers, self.temperature, self.prompt_length = numbers, temperature, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids (B, prompt + t), scores (B, V) of the next word -> 0 for the word drawn, -inf for others."""
        number = self.numbers[:, input_ids.shape[1] - self.prompt_length, None].double()
        below = (scores.double() / self.temperature).softmax(-1).cumsum(-1)
        # The first word whose cumulated mass is above the number: never one without any.
        word = torch.searchsorted(below, number * below[:, -1:], right=True).clamp(max=below.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, word, 0.0)


class _BeamCache(EncoderDecoderCache):
    """Keys and values of self- and cross-attention. All beams of a sample attend to the same features: only the former
    move when beams change places."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows of the next step <- rows `beam_idx` of this one."""
        self.self_attention_cache.reorder_cache(beam_idx)
