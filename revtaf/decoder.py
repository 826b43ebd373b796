"""Disease-prompted report decoder (paper Eq. 1-2, section 3.2; docs/method.md section 6.2).

A causal BERT decoder with cross-attention on the fused features. Its input is `[DEC] s_1 .. s_K report [SEP]`,
s_k the status token of category k; the prompt carries no loss. Ground-truth statuses in training, predicted ones
at inference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BlipTextConfig, BlipTextLMHeadModel

from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.tokenizer import ReportTokenizer

IGNORED = -100  # label of positions that carry no loss


class Decoder(nn.Module):
    """A causal BERT with cross-attention to features (B, L, feature_width); its prompt has one token a category."""

    def __init__(self, settings: DecoderSettings, tokenizer: ReportTokenizer, feature_width: int, categories: int):
        super().__init__()
        self.label_smoothing = settings.label_smoothing
        self.pad, self.end = tokenizer.pad, tokenizer.end
        self.lm = BlipTextLMHeadModel(
            BlipTextConfig(
                vocab_size=tokenizer.size,
                hidden_size=settings.width,
                encoder_hidden_size=feature_width,
                intermediate_size=settings.feed_forward,
                num_hidden_layers=settings.layers,
                num_attention_heads=settings.heads,
                hidden_dropout_prob=settings.dropout,
                attention_probs_dropout_prob=settings.dropout,
                max_position_embeddings=512,
                bos_token_id=tokenizer.start,
                eos_token_id=tokenizer.end,
                sep_token_id=tokenizer.end,
                pad_token_id=tokenizer.pad,
                is_decoder=True,
            )
        )
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
        inputs = torch.cat([self.prompt(statuses), tokens], dim=1)
        labels = inputs.masked_fill(inputs == self.pad, IGNORED)
        labels[:, : self.prompt_length] = IGNORED
        logits = self.lm(
            input_ids=inputs,
            attention_mask=(inputs != self.pad).long(),
            encoder_hidden_states=features,
            encoder_attention_mask=None if features_mask is None else features_mask.long(),
        ).logits
        # Position i predicts token i + 1, so the last prompt position predicts the first report token.
        first = self.prompt_length - 1
        return F.cross_entropy(
            logits[:, first:-1].flatten(0, 1).float(),
            labels[:, first + 1 :].flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )

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
        prompt = self.prompt(statuses)
        beams = beams or settings.beams
        options = {} if features_mask is None else {"encoder_attention_mask": features_mask.long()}
        if beams > 1:
            options |= {"length_penalty": settings.length_penalty, "early_stopping": False}
        if settings.no_repeat_ngram:
            options["no_repeat_ngram_size"] = settings.no_repeat_ngram
        output = self.lm.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            encoder_hidden_states=features,
            num_beams=beams,
            do_sample=False,
            min_new_tokens=settings.min_new_tokens,
            max_new_tokens=settings.max_new_tokens,
            repetition_penalty=settings.repetition_penalty,
            use_cache=True,
            eos_token_id=self.end,
            pad_token_id=self.pad,
            **options,
        )
        return output[:, prompt.shape[1] :]
