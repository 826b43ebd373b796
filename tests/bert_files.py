"""Small BERT files with the key layouts of the real ones: Bio_ClinicalBERT's folder and CheXbert's checkpoint."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, BertModel

from revtaf.labels import CHEXPERT_CATEGORIES, NO_FINDING
from revtaf.tokenizer import BERT_TOKENS

_WORDS = """
    the a an of and or in on is are was no not without with there has have may left right lower upper mid both small
    mild moderate large stable unchanged normal clear new old acute chronic heart lung lungs size silhouette mediastinum
    hilar pleural chest base bases apex lobe rib ribs spine bone bony aorta aortic diaphragm volumes effusion effusions
    edema consolidation pneumonia pneumothorax atelectasis opacity opacities nodule mass lesion fracture cardiomegaly
    congestion catheter tube line pacemaker enlarged tortuous elevated low seen noted evidence view frontal lateral
    within limits findings impression ##s ##es ##ed ##ing ##ly
""".split()


def small_vocabulary() -> list[str]:
    """Special tokens first, as in BERT; then what spells every plain word, and common words of chest reports."""
    characters = string.ascii_lowercase + string.digits
    return list(
        dict.fromkeys([*BERT_TOKENS, *characters, *string.punctuation, *(f"##{c}" for c in characters), *_WORDS])
    )


def pretraining_state(config: BertConfig, old_names: bool, seed: int = 5) -> dict[str, Tensor]:
    """BertForPreTraining's tensors; old files call LayerNorm's parameters gamma and beta."""
    torch.manual_seed(seed)
    state = {key: value.clone() for key, value in BertForPreTraining(config).state_dict().items()}
    if old_names:
        state = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
            for k, v in state.items()
        }
    return state


def write_bert_folder(
    folder: Path,
    vocabulary: list[str] | None = None,
    width: int = 64,
    layers: int = 2,
    heads: int = 2,
    old_names: bool = True,
) -> Path:
    """Bio_ClinicalBERT's folder: config.json, vocab.txt and, by age, pytorch_model.bin or model.safetensors."""
    vocabulary = vocabulary or small_vocabulary()
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    state = pretraining_state(BertConfig(**sizes), old_names)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, **sizes}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    if old_names:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors")
    return folder


def chexbert_state(vocabulary_size: int, width: int = 64, new_form: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """CheXbert's 227 tensors with random values; the new form has the buffer `position_ids` besides."""
    heads = max(1, width // 64)
    config = BertConfig(
        vocab_size=vocabulary_size, hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads
    )
    with torch.device("meta"):
        shapes = {f"bert.{key}": value.shape for key, value in BertModel(config).state_dict().items()}
    for i in range(len(CHEXPERT_CATEGORIES)):
        classes = 2 if i == NO_FINDING else 4
        shapes |= {f"linear_heads.{i}.weight": (classes, width), f"linear_heads.{i}.bias": (classes,)}
    generator = torch.Generator().manual_seed(seed)
    spread = 2 * width**-0.5
    state = {}
    for key, shape in shapes.items():
        if key.endswith("LayerNorm.weight"):
            value = torch.ones(shape)
        else:  # wide enough that texts differ visibly
            value = torch.empty(shape).uniform_(-spread, spread, generator=generator)
        state[f"module.{key}"] = value
    if new_form:
        state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    return state


def write_chexbert(
    path: Path, vocabulary_size: int, width: int = 64, new_form: bool = False, seed: int = 0, state: dict | None = None
) -> Path:
    """CheXbert's checkpoint, in torch's old file format unless `new_form`; `state` replaces the random tensors."""
    if state is None:
        state = chexbert_state(vocabulary_size, width, new_form, seed)
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 2e-5, "params": [0]}]}
    content = {"epoch": 7, "model_state_dict": state, "optimizer_state_dict": optimizer}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=new_form)
    return path
