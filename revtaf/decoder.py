"""Disease-prompted report decoder (paper Eq. 1-2, section 3.2; docs/method.md section 6.2).

A causal BERT decoder with cross-attention on the fused features. Its input is `[DEC] s_1 .. s_K report [SEP]`,
s_k the status token of category k; the prompt carries no loss. Ground-truth statuses in training, predicted ones
at inference.
"""

from __future__ import annotations

import math
from inspect import signature
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

from revtaf.labels import BLANK
from revtaf.rng import substream
from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.tokenizer import ReportTokenizer


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
        logits = self.lm.cls(hidden[real])  # words are scored where there is a loss, nowhere else
        return F.cross_entropy(logits.float(), tokens[real], label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def generate(
        self,
        statuses: Tensor,
        features: Tensor,
        settings: GenerationSettings,
        beams: int | None = None,
        features_mask: Tensor | None = None,
    ) -> Tensor:
        """Beam search with the key/value cache of self- and cross-attention -> new token ids (B, T)."""
        prompt, seen = self.prompt(statuses), self.project(features)
        beams = beams or settings.beams
        options: dict[str, Any] = {} if features_mask is None else {"encoder_attention_mask": features_mask.long()}
        if settings.guidance > 1:
            blank = self.prompt(torch.full_like(statuses, BLANK))
            guided = PromptGuidance(self.lm, settings.guidance, blank, seen, features_mask, beams)
            options["logits_processor"] = LogitsProcessorList([guided])
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


class PromptGuidance(LogitsProcessor):
    """Classifier-free guidance by the prompt (Sanchez et al. 2023): log p(w) + (g - 1) (log p(w) - log p_0(w)), scaled
    to a distribution, where p_0 is the same decoder on the same features behind a prompt in which nothing is stated.
    Only among words that are plausible by themselves, p(w) >= .1 max p (Li et al. 2023): the ratio of two small numbers
    says nothing.

    Of `transformers`' own class this is the version for a decoder with features, prompts of equal length and beams: a
    beam that goes on from another one takes over that one's keys and values.
    """

    def __init__(self, lm: BertLMHeadModel, scale: float, blank: Tensor, seen: Tensor, mask: Tensor | None, beams: int):
        """blank (B, 1 + K) token ids; seen (B, L, width) and mask (B, L): what the decoder attends to."""
        self.lm, self.scale, self.beams = lm, scale, beams
        self.blank = blank.repeat_interleave(beams, 0)
        self.seen = seen.repeat_interleave(beams, 0)
        self.mask = None if mask is None else mask.long().repeat_interleave(beams, 0)
        self.written: Tensor | None = None  # what each row had written at the step before
        self.cache: Any = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids (B beams, T) with their own prompts, scores (B beams, V) of the next word -> guided scores."""
        written = input_ids[:, self.blank.shape[1] :]
        if self.written is None:
            inputs = self.blank
        else:
            before = written[:, None, :-1] == self.written[None]  # (rows now, rows before, T - 1)
            rows = torch.arange(len(written), device=written.device) // self.beams
            parent = (before.all(-1) & (rows[:, None] == rows)).int().argmax(1)
            self.cache.self_attention_cache.reorder_cache(parent)  # what is attended to stays
            inputs = written[:, -1:]
        self.written = written
        output = self.lm(
            input_ids=inputs,
            attention_mask=torch.ones_like(torch.cat([self.blank, written], 1)),
            encoder_hidden_states=self.seen,
            encoder_attention_mask=self.mask,
            use_cache=True,
            **({} if self.cache is None else {CACHE: self.cache}),
        )
        self.cache = output[CACHE]
        own, blank = scores.float().log_softmax(-1), output.logits[:, -1].float().log_softmax(-1)
        plausible = own >= own.max(-1, keepdim=True).values + PLAUSIBLE
        guided = own + (self.scale - 1) * (own - blank)
        return guided.masked_fill(~plausible, -torch.inf).log_softmax(-1)


PLAUSIBLE = math.log(0.1)
# What BERT calls its cache, by age of the library.
CACHE = next(n for n in ("cache", "past_key_values") if n in signature(BertLMHeadModel.forward).parameters)


class _BeamCache(EncoderDecoderCache):
    """Keys and values of self- and cross-attention. All beams of a sample attend to the same features: only the former
    move when beams change places."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows of the next step <- rows `beam_idx` of this one."""
        self.self_attention_cache.reorder_cache(beam_idx)
