"""TRRG's language model: what carries loss, what padding does, what trains; a small one that is fitted; bad folders."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from revtaf.comparators.trrg import language as module
from revtaf.comparators.trrg.fit import BEGIN, ended, fit_language, hint, padded, perplexity
from revtaf.comparators.trrg.language import CausalLanguage, add_adapters, open_language, packed_left
from revtaf.comparators.trrg.settings import CausalGenerationSettings, CausalLanguageSettings
from revtaf.errors import UserError

SMALL = {"vocabulary_size": 200, "layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "feed_forward": 48}
REPORTS = [
    f"{size} {side} pleural effusion . {heart} . no pneumothorax ."
    for size in ("small", "large")
    for side in ("left", "right")
    for heart in ("the heart is normal", "there is cardiomegaly")
]
CPU = torch.device("cpu")


def settings(**changes) -> CausalLanguageSettings:
    return CausalLanguageSettings(folder=None, **(SMALL | {"epochs": 150, "batch_size": 4, "lr": 5e-3} | changes))


@pytest.fixture(scope="module")
def fitted():
    """(language, perplexity) of the small reports."""
    return fit_language(settings(), REPORTS, REPORTS[:2], 0, CPU)


@pytest.fixture
def folder(fitted, tmp_path):
    """The fitted model as a folder of `transformers`."""
    fitted[0].lm.save_pretrained(tmp_path / "lm")
    fitted[0].tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


def prefix_of(count, length=5, width=32, seed=0):
    return torch.randn(count, length, width, generator=torch.Generator().manual_seed(seed)) * 0.05


def reports_of(language, count=4):
    return padded(ended(language, REPORTS[:count], 40), language.pad)


def test_a_fitted_model_knows_its_language(fitted):
    """Far below the vocabulary's size, and far below a model that was not fitted; the words come back whole."""
    language, found = fitted
    untrained = fit_language(settings(epochs=1, lr=1e-9), REPORTS, REPORTS[:2], 0, CPU)[1]
    assert 1 < found < 3 and untrained > 20
    texts = ended(language, REPORTS[:2], 40)
    assert perplexity(language, texts, CPU) == pytest.approx(found, rel=1e-4)
    assert language.decode(texts[0]) == "small left pleural effusion. the heart is normal. no pneumothorax."
    assert not any(p.requires_grad for p in language.lm.parameters())
    inputs = [language.start, language.tokenizer.convert_tokens_to_ids(BEGIN), *texts[0][:-1]]
    scores = language.lm(input_ids=torch.tensor([inputs])).logits[0, 1:].log_softmax(-1)
    by_hand = -torch.stack([scores[i, word] for i, word in enumerate(texts[0])]).mean()
    assert perplexity(language, texts[:1], CPU) == pytest.approx(math.exp(by_hand), rel=1e-3)


@pytest.mark.parametrize("lr", [1e3, 1e20])
def test_a_rate_that_is_too_large_is_named(lr):
    """A perplexity beyond all numbers, and weights that are none."""
    with pytest.raises(UserError, match="llm.lr=1e?.*diverges; in none of llm.epochs=2.*Lower llm.lr"):
        fit_language(settings(epochs=2, layers=1, lr=lr), REPORTS, REPORTS[:2], 0, CPU)


def test_a_hint_is_of_the_report_itself():
    """Some of its sentences, in any order, with gaps, and never more than the room for it."""
    draw, found = np.random.default_rng(0), [[1, 2, 3], [4, 5], list(range(100, 160))]
    hints = [hint(found, draw) for _ in range(50)]
    assert all(set(one) <= {1, 2, 3, 4, 5, *range(100, 160)} and len(one) <= 40 for one in hints)
    assert len({tuple(one) for one in hints}) > 10 and hint([], draw) == []


def test_packed_left_keeps_the_order_and_hides_what_is_masked():
    values = torch.arange(8.0).view(1, 4, 2)
    moved, mask = packed_left(values, torch.tensor([[True, False, True, False]]))
    assert mask.tolist() == [[False, False, True, True]] and moved[0].tolist() == [[0, 0], [0, 0], [0, 1], [4, 5]]


def test_only_the_report_carries_loss(fitted):
    """The sum over the report's words by hand; prefix and padding add nothing, the words behind the end neither."""
    language = fitted[0]
    (tokens, real), prefix = reports_of(language), prefix_of(4)
    mask = torch.ones(4, 5, dtype=torch.bool)
    found = language.loss(prefix, mask, tokens, real)
    total, count = 0.0, 0
    for i in range(4):
        ids = tokens[i][real[i]]
        inputs = torch.cat([prefix[i : i + 1], language.embed(ids[None, :-1])], 1)
        logits = language.lm(inputs_embeds=inputs).logits[0, 4:].log_softmax(-1)
        total, count = total - logits.gather(1, ids[:, None]).sum(), count + len(ids)
    torch.testing.assert_close(found, total / count, atol=1e-4, rtol=1e-4)
    changed = tokens.masked_fill(~real, 7)
    torch.testing.assert_close(language.loss(prefix, mask, changed, real), found)


def test_masked_places_of_the_prefix_have_no_influence(fitted):
    """Wherever they are and whatever is in them: the loss is that without them."""
    language = fitted[0]
    (tokens, real), prefix = reports_of(language), prefix_of(4)
    plain = language.loss(prefix, torch.ones(4, 5, dtype=torch.bool), tokens, real)
    wide = torch.full((4, 9, 32), 3.0)
    places = [0, 2, 3, 5, 7]
    wide[:, places] = prefix
    mask = torch.zeros(4, 9, dtype=torch.bool)
    mask[:, places] = True
    torch.testing.assert_close(language.loss(wide, mask, tokens, real), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_left_and_right_padding_and_any_company_generate_the_same(fitted, beams):
    """A prefix alone, padded at either side, or among seven others: the same words."""
    language = fitted[0]
    options = CausalGenerationSettings(
        beams=beams, min_new_tokens=3, max_new_tokens=10, repetition_penalty=1.0, length_penalty=1.0
    )
    prefix = prefix_of(8)
    alone = [language.generate(prefix[i : i + 1], torch.ones(1, 5, dtype=torch.bool), options) for i in range(8)]
    texts = [language.decode(ids[0].tolist()) for ids in alone]
    everything = language.generate(prefix, torch.ones(8, 5, dtype=torch.bool), options)
    assert everything.shape[1] <= 10 and [language.decode(ids.tolist()) for ids in everything] == texts
    for side in (0, 4):
        wide, mask = torch.full((8, 9, 32), 2.0), torch.zeros(8, 9, dtype=torch.bool)
        wide[:, side : side + 5], mask[:, side : side + 5] = prefix, True
        assert [language.decode(ids.tolist()) for ids in language.generate(wide, mask, options)] == texts


def test_a_frozen_model_has_no_gradient_but_lets_it_through(fitted):
    language = fitted[0]
    (tokens, real), prefix = reports_of(language), prefix_of(4).requires_grad_(True)
    language.loss(prefix, torch.ones(4, 5, dtype=torch.bool), tokens, real).backward()
    assert prefix.grad.abs().max() > 0 and all(p.grad is None for p in language.lm.parameters())


def test_hints_let_a_prefix_move_a_frozen_model(fitted):
    """The positive control of the idea: eight prefixes learn to make it write eight reports. A model that has read
    bare reports alone stays at what it says anyway."""
    left = []
    for language in (fitted[0], fit_language(settings(hinted=0), REPORTS, REPORTS[:2], 0, CPU)[0]):
        begin = language.embed(torch.tensor([language.tokenizer.convert_tokens_to_ids(BEGIN)])).expand(8, 1, -1)
        prefix, (tokens, real) = nn.Parameter(prefix_of(8)), reports_of(language, 8)
        mask, optimizer = torch.ones(8, 6, dtype=torch.bool), torch.optim.Adam([prefix], lr=3e-2)
        for _ in range(75):
            optimizer.zero_grad()
            loss = language.loss(torch.cat([prefix, begin], 1), mask, tokens, real)
            loss.backward()
            optimizer.step()
        left.append(loss.item())
    assert left[0] < 0.85 * left[1], left


def test_checkpointing_makes_the_layers_again_and_changes_nothing(folder):
    """Also in a frozen model, which is in evaluation; generation has its cache all the same."""
    found, calls = [], []
    for on in (False, True):
        language = open_language(settings(checkpointing=on).model_copy(update={"folder": folder}), CPU, False)
        language.lm.model.layers[0].self_attn.register_forward_hook(lambda *_, on=on: calls.append(on))
        (tokens, real), prefix = reports_of(language), prefix_of(4).requires_grad_(True)
        language.loss(prefix, torch.ones(4, 5, dtype=torch.bool), tokens, real).backward()
        found.append(prefix.grad)
        assert calls.count(on) == (2 if on else 1) and not language.lm.training
        options = CausalGenerationSettings(beams=1, min_new_tokens=2, max_new_tokens=3)
        language.generate(prefix_of(1), torch.ones(1, 5, dtype=torch.bool), options)
        assert not any(m.training for m in language.lm.modules())
    torch.testing.assert_close(*found)


def test_adapters_alone_are_owned_and_train(folder):
    """LoRA of queries and values: at first they change nothing, they alone have gradients, and they alone are kept."""
    pytest.importorskip("peft", reason="needs pip install 'revtaf[llm]'")
    options = settings(tuning="lora", lora_rank=2, lora_dropout=0.0).model_copy(update={"folder": folder})
    language = open_language(options, CPU, False)
    (tokens, real), mask = reports_of(language), torch.ones(4, 5, dtype=torch.bool)
    before = language.loss(prefix_of(4), mask, tokens, real)
    owner = nn.Module()
    owner.adapters = add_adapters(language, options)
    torch.testing.assert_close(language.loss(prefix_of(4), mask, tokens, real), before)
    language.loss(prefix_of(4), mask, tokens, real).backward()
    with_gradient = {id(p) for p in language.lm.parameters() if p.grad is not None}
    assert with_gradient == {id(p) for p in owner.parameters()} and len(with_gradient) == 2 * 2 * 2
    assert all("lora_" in name for name in owner.state_dict())
    with torch.no_grad():
        for parameter in owner.parameters():
            parameter.add_(0.1)
    assert (language.loss(prefix_of(4), mask, tokens, real) - before).abs() > 1e-4


def opened(folder, **changes):
    return open_language(settings(**changes).model_copy(update={"folder": folder}), CPU, False)


def test_a_folder_gives_the_model_that_was_saved(fitted, folder):
    language = opened(folder)
    own = fitted[0].lm.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in language.lm.state_dict().items())
    assert language.encode(REPORTS) == fitted[0].encode(REPORTS) and "mistral" in language.about
    assert opened(folder, dtype="bfloat16").lm.dtype == torch.bfloat16


def test_a_folder_without_a_tokenizer_or_of_another_kind_is_refused(folder):
    """Each with what is wrong, before weights are read."""
    config = json.loads((folder / "config.json").read_text())
    for kind in ("BertForMaskedLM", "T5ForConditionalGeneration", None):
        content = config | {"architectures": [kind] if kind else None}
        (folder / "config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"holds {kind or 'a model without'}.*expected a causal language model"):
            opened(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").rename(folder / "away")
    with pytest.raises(UserError, match="has no tokenizer: none of tokenizer.json"):
        opened(folder)
    (folder / "away").rename(folder / "tokenizer.json")
    state = load_file(folder / "model.safetensors")
    state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="missing_keys .'lm_head.weight'"):
        opened(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        opened(folder)
    with pytest.raises(UserError, match="llm.folder: no such folder"):
        opened(folder / "nowhere")


def test_a_model_that_is_too_large_is_refused_with_both_sizes(folder, monkeypatch):
    """Before it is loaded: 7 thousand million parameters need no weights to be counted."""
    config = json.loads((folder / "config.json").read_text())
    large = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    large |= {"intermediate_size": 14336, "vocab_size": 32000, "head_dim": 128}
    (folder / "config.json").write_text(json.dumps(config | large))
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 8_000_000_000}))
    with pytest.raises(UserError, match=r"needs 14.5 GB for its weights in bfloat16, 8.0 GB of memory are free"):
        opened(folder, dtype="bfloat16")


def test_a_model_without_a_start_token_starts_with_its_end_token(fitted):
    tokenizer = fitted[0].tokenizer
    kept, tokenizer.bos_token = tokenizer.bos_token, None
    try:
        assert CausalLanguage(fitted[0].lm, tokenizer, "").start == tokenizer.eos_token_id
    finally:
        tokenizer.bos_token = kept
