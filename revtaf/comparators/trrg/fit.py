"""A small language model of Mistral's architecture, fitted on the training reports before anything else.

For machines without a large one. Text only: it never sees an image, and its perplexity on reports that it was not
fitted on says whether it knows the language. It is kept as a feature of the training set, and found again. The epoch
with the lowest perplexity on the validation reports is kept.

A large model continues what stands before; one that has read bare reports alone has never had anything before them, and
no prefix moves it. So some of the training texts (`llm.hinted`) have a hint before them: some of the report's own
sentences, in any order, with gaps.

    [CLS] hint [DEC] report [SEP]        loss on the report alone
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from revtaf.comparators.trrg.language import CausalLanguage
from revtaf.comparators.trrg.settings import CausalLanguageSettings
from revtaf.data.blocks import Shard
from revtaf.data.text import sentences
from revtaf.errors import UserError
from revtaf.features.store import Arrays, FeatureStore, Save
from revtaf.files import digest
from revtaf.labels import DECODER_START_TOKEN
from revtaf.rng import generator, stream
from revtaf.tokenizer import CLS, PAD, SEP, UNKNOWN, ReportTokenizer

VERSION = 2  # raised whenever the same reports would give another model
BEGIN = DECODER_START_TOKEN  # between a hint, or a prefix, and the report
FOLDER = "language"  # of the feature, and within a model's folder
_WARM = 0.1  # of the updates
_SHAPE = ("vocabulary_size", "layers", "width", "heads", "key_value_heads", "feed_forward")
_FIT = (*_SHAPE, "epochs", "batch_size", "lr", "max_tokens", "hinted")
_LONGEST_HINT = 40  # word pieces
log = logging.getLogger("revtaf")


def fitted_language(
    store: FeatureStore,
    settings: CausalLanguageSettings,
    reports: Sequence[str],
    held_out: Sequence[str],
    seed: int,
    device: torch.device,
    halves: bool,
) -> tuple[Path, float]:
    """(folder of the model and its tokenizer, perplexity of a word piece of `held_out`). reports: of the training
    split, cleaned. halves: fit in bfloat16."""

    def build(_: Path, shard: Shard) -> tuple[Arrays, Save]:
        language, perplexity = fit_language(settings, reports, held_out, seed, device, halves)

        def save(folder: Path) -> None:
            language.lm.save_pretrained(folder)
            language.tokenizer.save_pretrained(folder)

        return {"perplexity": np.array([perplexity])}, save

    producer = {"version": VERSION, "seed": seed, "halves": halves, "reports": digest(list(reports), list(held_out))}
    producer |= {name: getattr(settings, name) for name in _FIT}
    perplexity = float(store.get(FOLDER, producer, build)["perplexity"][0])
    return store.used[FOLDER], perplexity


def fit_language(
    settings: CausalLanguageSettings,
    reports: Sequence[str],
    held_out: Sequence[str],
    seed: int,
    device: torch.device,
    halves: bool = False,
) -> tuple[CausalLanguage, float]:
    """The fitted model and its perplexity, of the epoch in which this was lowest. UserError where it diverges from the
    first epoch on."""
    tokenizer = small_tokenizer(reports, settings.vocabulary_size)
    with stream(seed, "trrg.language"):
        lm = MistralForCausalLM(small_config(settings, tokenizer)).to(device)
    language = CausalLanguage(lm, tokenizer, "")
    texts, others = (ended(language, group, settings.max_tokens) for group in (reports, held_out))
    hints = [language.encode(sentences(report)) for report in reports]
    steps = math.ceil(len(texts) / settings.batch_size) * settings.epochs
    optimizer = torch.optim.AdamW(lm.parameters(), lr=settings.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    best, kept = math.inf, {}
    for epoch in tqdm(range(settings.epochs), desc="language model", leave=False):
        lm.train()
        draw = generator(seed, "language", epoch)
        order = draw.permutation(len(texts))
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            before = [hint(hints[i], draw) if draw.random() < settings.hinted else [] for i in rows]
            with torch.autocast(device.type, torch.bfloat16, enabled=halves):
                total, count = _sum_of_losses(language, before, [texts[i] for i in rows], device)
            optimizer.zero_grad()
            (total / count).backward()
            torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        found = perplexity(language, others, device)
        log.info("language model, epoch %d: perplexity %.3f on reports that it has not seen", epoch + 1, found)
        if found < best:
            best, kept = found, {name: value.detach().clone() for name, value in lm.state_dict().items()}
    if not kept:
        raise UserError(
            f"llm.lr={settings.lr:g}: the small language model diverges; in none of llm.epochs={settings.epochs} is "
            "its perplexity a finite number. Lower llm.lr"
        )
    lm.load_state_dict(kept, strict=True)
    lm.zero_grad(set_to_none=True)
    lm.eval().requires_grad_(False)
    return language, best


@torch.no_grad()
def perplexity(language: CausalLanguage, texts: Sequence[list[int]], device: torch.device, size: int = 64) -> float:
    """exp of the mean cross-entropy of a word piece, infinite where that is no float; texts as ids, ended, without
    hints. Full precision."""
    language.lm.eval()
    total, count = 0.0, 0
    for start in range(0, len(texts), size):
        batch = texts[start : start + size]
        found, words = _sum_of_losses(language, [[]] * len(batch), batch, device)
        total, count = total + float(found), count + words
    try:
        return math.exp(total / max(1, count))
    except OverflowError:
        return math.inf


def ended(language: CausalLanguage, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Ids of each text, cut, with the end token."""
    return [[*ids[: longest - 1], language.end] for ids in language.encode(texts)]


def hint(found: Sequence[list[int]], draw: np.random.Generator) -> list[int]:
    """Some of a report's sentences (as ids), in any order, with gaps."""
    if not found:
        return []
    chosen = draw.permutation(len(found))[: draw.integers(1, len(found) + 1)]
    kept = draw.uniform(0.4, 1.0)
    return [piece for i in chosen for piece in found[i] if draw.random() < kept][:_LONGEST_HINT]


def _sum_of_losses(
    language: CausalLanguage, before: Sequence[list[int]], texts: Sequence[list[int]], device: torch.device
) -> tuple[Tensor, int]:
    begin = language.tokenizer.convert_tokens_to_ids(BEGIN)
    first = [[language.start, *one, begin] for one in before]
    tokens, real = padded([[*a, *b] for a, b in zip(first, texts, strict=True)], language.pad)
    lengths = torch.tensor([len(one) for one in first])[:, None]
    report = real & (torch.arange(tokens.shape[1])[None] >= lengths)  # what carries loss
    tokens, real, report = tokens.to(device), real.to(device), report.to(device)[:, 1:]
    logits = language.lm(input_ids=tokens[:, :-1], attention_mask=real[:, :-1].long(), use_cache=False).logits
    wanted = tokens[:, 1:][report]
    return F.cross_entropy(logits[report].float(), wanted, reduction="sum"), len(wanted)


def padded(texts: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """(B, T) long, and (B, T) bool: which are no padding."""
    lengths = torch.tensor([len(ids) for ids in texts])
    width = int(lengths.max())
    tokens = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in texts], dtype=torch.long)
    return tokens, torch.arange(width)[None] < lengths[:, None]


def small_tokenizer(reports: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Whole words of the reports, as REVTAF's decoder has them, in `transformers`' form."""
    fitted = ReportTokenizer.fit(reports, size).tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=fitted, bos_token=CLS, eos_token=SEP, pad_token=PAD, unk_token=UNKNOWN, padding_side="left"
    )


def small_config(settings: CausalLanguageSettings, tokenizer: PreTrainedTokenizerFast) -> MistralConfig:
    """Mistral's architecture in the configured sizes."""
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.key_value_heads,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        sliding_window=None,
    )


def _rate(step: int, steps: int) -> float:
    warm = max(1, int(_WARM * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
