"""The language model (section 2.2): a causal model of `transformers` reads a prefix of vectors and writes a report.

From a local folder, or a small one of Mistral's architecture that is fitted on the training reports first
(`revtaf.comparators.trrg.fit`): frozen must mean a model that knows the language, not noise. Nothing is fetched, no
code of a folder is run, and weights are safetensors, strictly loaded.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from revtaf.comparators.trrg.settings import CausalGenerationSettings, CausalLanguageSettings
from revtaf.decoder import search_options
from revtaf.errors import UserError
from revtaf.files import read_json

log = logging.getLogger("revtaf")
WEIGHTS = "*.safetensors"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")  # one of them
_LORA_ON = ["q_proj", "v_proj"]
_PARTS = ("lora_A", "lora_B", "lora_dropout")  # of a layer with an adapter


@dataclass
class CausalLanguage:
    """A model with its tokenizer. Not a module on purpose: what holds it does not own its weights, so that a frozen
    model is in no checkpoint, no optimiser and no gradient exchange. about: for the run's report."""

    lm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    about: str
    checkpointing: bool = False

    def __post_init__(self):
        tokenizer = self.tokenizer
        self.end = tokenizer.eos_token_id
        self.start = self.end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.pad = self.end if tokenizer.pad_token_id is None else tokenizer.pad_token_id  # masked by length
        self.width = self.lm.get_input_embeddings().embedding_dim
        if self.checkpointing:
            newer = getattr(self.lm, "activation_checkpointing_enable", None)  # by age of the library
            (newer or self.lm.gradient_checkpointing_enable)({"use_reentrant": False})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without start and end."""
        return (
            [list(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Text up to the end token."""
        ids = list(ids)
        return self.tokenizer.decode(ids[: ids.index(self.end)] if self.end in ids else ids, skip_special_tokens=True)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, H)."""
        return self.lm.get_input_embeddings()(ids)

    def loss(self, prefix: Tensor, mask: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        """Cross-entropy of the report alone: neither prefix nor padding carries any.

        prefix (B, P, H), mask (B, P) True where there is something; tokens (B, T) ended by the end token, real (B, T)
        False where they are padding.
        """
        prefix, mask = packed_left(prefix, mask)  # so that its last place is a real one, which predicts the first word
        inputs = torch.cat([prefix, self.embed(tokens[:, :-1]).to(prefix.dtype)], 1)
        seen = torch.cat([mask, real[:, :-1]], 1)
        with self._checkpointed():
            logits = self.lm(
                inputs_embeds=inputs.to(self.lm.dtype),
                attention_mask=seen.long(),
                position_ids=(seen.long().cumsum(1) - 1).clamp(min=0),
                use_cache=False,
            ).logits
        logits = logits[:, prefix.shape[1] - 1 :]
        return F.cross_entropy(logits[real].float(), tokens[real])

    @torch.no_grad()
    def generate(
        self, prefix: Tensor, mask: Tensor, settings: CausalGenerationSettings, beams: int | None = None
    ) -> Tensor:
        """Beam search with the key/value cache -> new token ids (B, T). prefix, mask as in `loss`, padded anywhere."""
        prefix, mask = packed_left(prefix, mask)
        config = GenerationConfig(
            bos_token_id=self.start,
            eos_token_id=self.end,
            pad_token_id=self.pad,
            **search_options(settings, beams or settings.beams),
        )
        training = self.lm.training
        self.lm.eval()
        try:
            return self.lm.generate(
                inputs_embeds=prefix.to(self.lm.dtype), attention_mask=mask.long(), generation_config=config
            )
        finally:
            self.lm.train(training)

    @contextlib.contextmanager
    def _checkpointed(self) -> Iterator[None]:
        """A frozen model is in evaluation, and layers there keep all activations: those that can be made again are told
        otherwise, their parts (and so any dropout) are not."""
        layers = [m for m in self.lm.modules() if self.checkpointing and getattr(m, "gradient_checkpointing", False)]
        before = [layer.training for layer in layers]
        try:
            for layer in layers:
                layer.training = torch.is_grad_enabled()
            yield
        finally:
            for layer, training in zip(layers, before, strict=True):
                layer.training = training


def packed_left(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """values (B, P, H) and mask (B, P) with everything real at the right, in its order: a model continues from the last
    place, and what lies under the mask, wherever it was, is never seen."""
    order = mask.to(torch.int8).argsort(dim=1, stable=True)
    moved = values.gather(1, order[..., None].expand_as(values))
    mask = mask.gather(1, order)
    return moved.masked_fill(~mask[..., None], 0), mask


def open_language(settings: CausalLanguageSettings, device: torch.device, halves: bool) -> CausalLanguage:
    """The model of `llm.folder`, on the device. halves: whether training computes in bfloat16, for `llm.dtype=auto`.
    UserError where the folder is no causal model with a tokenizer, or too large for the memory that is there."""
    folder = Path(settings.folder)
    config = read_causal_config(folder)
    low = settings.tuning != "full" and (settings.dtype == "bfloat16" or (settings.dtype == "auto" and halves))
    dtype = torch.bfloat16 if low else torch.float32
    require_memory(folder, config, dtype, device)
    lm, problems = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := sorted(map(str, problems.get(what) or ())):
            raise UserError(f"llm.folder: {folder} does not fit its config.json: {what} {found[:3]}; get it again")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"llm.folder: {folder}: its tokenizer cannot be read: {str(error).splitlines()[0]}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"llm.folder: {folder}: its tokenizer has no end token")
    lm.eval().requires_grad_(False).to(device)
    count = sum(p.numel() for p in lm.parameters())
    about = f"{config.model_type} of {folder} ({count / 1e6:,.1f} M parameters, {str(dtype).removeprefix('torch.')})"
    return CausalLanguage(lm, tokenizer, about, settings.checkpointing)


def read_causal_config(folder: Path) -> PretrainedConfig:
    """config.json of a causal model that has weights and a tokenizer beside it; UserError naming what is wrong."""
    if not folder.is_dir():
        raise UserError(
            f"llm.folder: no such folder: {folder}; null fits a small model on the training reports (checkpoints/"
            "README.md says where others are)"
        )
    content = read_json(folder / "config.json", "llm.folder: config.json")
    kinds = content.get("architectures") or [] if isinstance(content, dict) else []
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if not kinds or kinds[0] not in causal or kinds[0] == "BertLMHeadModel":
        raise UserError(
            f"llm.folder: {folder} holds {kinds[0] if kinds else 'a model without a named architecture'}, expected a "
            "causal language model of transformers, such as MistralForCausalLM"
        )
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise UserError(f"llm.folder: {folder} has no tokenizer: none of {', '.join(TOKENIZERS)} is there")
    if not list(folder.glob(WEIGHTS)):
        raise UserError(f"llm.folder: {folder} has no weights ({WEIGHTS}); others than safetensors are not read")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"llm.folder: {folder / 'config.json'}: {str(error).splitlines()[0]}") from None


def require_memory(folder: Path, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> None:
    """UserError, with both sizes, where the weights alone are more than the memory that is free."""
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(config)
    needed = sum(p.numel() for p in shape.parameters()) * torch.finfo(dtype).bits // 8
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"llm.folder: {folder} needs {needed / 1e9:.1f} GB for its weights in {str(dtype).removeprefix('torch.')}, "
            f"{free / 1e9:.1f} GB of memory are free on {device}; take a smaller model, or null to fit one on reports"
        )


def add_adapters(language: CausalLanguage, settings: CausalLanguageSettings) -> nn.ModuleDict:
    """Put LoRA on queries and values; what trains of it, by layer, for a module to own. The rest stays frozen and
    unowned, so that a checkpoint holds the adapters alone. UserError where peft is missing or finds no such layer.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("llm.tuning=lora needs peft: pip install 'revtaf[llm]'") from None
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_LORA_ON,
        task_type="CAUSAL_LM",
    )
    try:
        language.lm = get_peft_model(language.lm, config).base_model.model
    except ValueError as error:
        raise UserError(f"llm.tuning=lora: {str(error).splitlines()[0]}") from None
    owned = nn.ModuleDict()
    for name, layer in language.lm.named_modules():
        if hasattr(layer, "lora_A"):
            parts = {part: getattr(layer, part) for part in _PARTS}
            owned[name.replace(".", "-")] = nn.ModuleDict(parts)
    return owned
