"""Pretrained files with the real key layouts, made small by the tests."""

import numpy as np
import pytest
import torch
import torchvision
import yaml
from bert_files import pretraining_state
from safetensors.torch import save_file
from tiny import make_session
from transformers import BertConfig

from revtaf.config_file import load_settings, save_settings
from revtaf.data.images import to_tensor
from revtaf.decoder import Decoder
from revtaf.errors import UserError
from revtaf.pretrained.backbone import Backbone, imagenet_file, load_imagenet
from revtaf.settings import DecoderSettings
from revtaf.system.initialise import load_bert
from revtaf.tokenizer import BERT_TOKENS, ReportTokenizer

WORDS = ["heart", "normal", "lung", "clear"]


@pytest.fixture
def vocabulary(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join([*BERT_TOKENS, *WORDS]))
    return folder


def small_decoder(folder):
    settings = DecoderSettings(layers=2, width=16, heads=2, feed_forward=32)
    return Decoder(settings, ReportTokenizer.from_vocabulary(folder / "vocab.txt"), 24, 18)


def bert_state(old_names=True) -> dict:
    """A BertForPreTraining checkpoint: 2 layers of 16, 9 words, with the names of the hosted bert-base-uncased."""
    config = BertConfig(vocab_size=9, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    state = pretraining_state(config, old_names)
    del state["cls.predictions.decoder.bias"]  # as hosted: the head has one bias, under its own name
    state["cls.predictions.bias"].copy_(torch.arange(9))
    return state


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_bert_goes_into_the_decoder(vocabulary, suffix):
    """Self-attention, feed-forward, positions, token types and words are BERT's; prompt tokens and cross-attention keep
    their start."""
    decoder = small_decoder(vocabulary)
    before = {k: v.clone() for k, v in decoder.lm.state_dict().items()}
    state = bert_state(old_names=suffix == "safetensors")
    if suffix == "safetensors":
        path = vocabulary / "model.safetensors"
        save_file(state, path)
    else:
        path = vocabulary / "pytorch_model.bin"
        torch.save(state, path)
    load_bert(decoder, path)
    own = decoder.lm.state_dict()
    query = "bert.encoder.layer.1.attention.self.query.weight"
    assert torch.equal(own[query], state[query])
    words = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(own[words][:9], state[words]) and torch.equal(own[words][9:], before[words][9:])
    for name in ("position_embeddings", "token_type_embeddings"):
        key = f"bert.embeddings.{name}.weight"
        assert torch.equal(own[key], state[key])
    assert own["cls.predictions.bias"].tolist() == [*range(9), *[0] * 5]
    cross = [k for k in own if "crossattention" in k]
    assert cross and all(torch.equal(own[k], before[k]) for k in cross)
    assert decoder.lm.get_output_embeddings().weight is decoder.lm.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("bert.encoder.layer.0.attention.self.key.weight"), "lacks 1 keys"),
        (lambda s: s.pop("bert.embeddings.token_type_embeddings.weight"), "lacks 1 keys"),
        (lambda s: s.update({"bert.encoder.layer.7.foo": torch.zeros(1)}), "unknown key"),
        (lambda s: s.update({"conv1.weight": torch.zeros(1)}), r"1 unknown keys, first \['conv1.weight'\]"),
        (lambda s: s.update({"epoch": 3}), "does not hold named tensors"),
        (
            lambda s: s.update({"bert.encoder.layer.0.output.dense.bias": torch.zeros(3)}),
            r"output.dense.bias is \(3,\), expected \(16,\); set decoder.layers",
        ),
    ],
)
def test_a_bert_file_that_does_not_fit_is_refused(vocabulary, change, says):
    """Nothing is loaded loosely: a missing, an unknown or a misshapen tensor ends with its name."""
    state = bert_state(old_names=False)
    change(state)
    torch.save(state, vocabulary / "pytorch_model.bin")
    with pytest.raises(UserError, match=says):
        load_bert(small_decoder(vocabulary), vocabulary / "pytorch_model.bin")


def test_a_file_with_code_in_it_is_not_unpickled(vocabulary):
    """torch.load of a user's file never runs what is in it."""
    torch.save({"x": Backbone}, vocabulary / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot read"):
        load_bert(small_decoder(vocabulary), vocabulary / "pytorch_model.bin")
    with pytest.raises(UserError, match="encoder.weights: cannot read"):
        load_imagenet(Backbone("resnet18"), vocabulary / "pytorch_model.bin")


def test_imagenet_weights_load_strictly(tmp_path):
    """A torchvision classifier's file fits its own backbone, and no other."""
    net = torchvision.models.resnet18(weights=None)
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    backbone = Backbone("resnet18")
    load_imagenet(backbone, tmp_path / "resnet18.pth")
    assert torch.equal(backbone.net.layer3[0].conv1.weight, net.layer3[0].conv1.weight)
    with pytest.raises(UserError, match="does not fit .*give torchvision's weights of resnet34"):
        load_imagenet(Backbone("resnet34"), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="no such file"):
        load_imagenet(backbone, tmp_path / "missing.pth")


def test_imagenet_files_from_before_the_counters_of_batch_norm_load(tmp_path):
    """torchvision's first ResNet files hold none; a file that lacks one of them is damaged."""
    state = torchvision.models.resnet18(weights=None).state_dict()
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    torch.save({key: value for key, value in state.items() if key not in counters}, tmp_path / "old.pth")
    backbone = Backbone("resnet18")
    load_imagenet(backbone, tmp_path / "old.pth")
    assert len(counters) == 20 and torch.equal(backbone.net.bn1.weight, state["bn1.weight"])
    torch.save({key: value for key, value in state.items() if key != counters[3]}, tmp_path / "damaged.pth")
    with pytest.raises(UserError, match="lacks 1 keys"):
        load_imagenet(backbone, tmp_path / "damaged.pth")


def test_missing_weights_are_named_in_the_report_and_do_not_stop(tiny_config, tmp_path, monkeypatch):
    """Without ImageNet and BERT the run starts from random weights and says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    session = make_session(tiny_config, "decoder.weights=bert-base-uncased", "encoder.weights=imagenet")
    assert "not found" in session.notes["report decoder"]
    assert "random" in session.notes["image encoder"]


def test_imagenet_weights_are_found_beside_the_project(tmp_path, monkeypatch):
    """checkpoints/ is looked into, and the older weights are preferred; nothing is downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    assert imagenet_file("resnet101") is None
    (tmp_path / "checkpoints").mkdir()
    for name in ("resnet101-cd907fc2.pth", "resnet101-63fe2227.pth"):
        (tmp_path / "checkpoints" / name).touch()
    assert imagenet_file("resnet101").name == "resnet101-63fe2227.pth"


def test_the_encoder_can_start_from_the_entity_scorer(tiny_config):
    """encoder.weights=scorer copies the first fold's backbone; another backbone is refused by name."""
    session = make_session(tiny_config, "encoder.weights=scorer")
    assert torch.equal(
        session.model.encoder.backbone.net.conv1.weight, session.knowledge.entities.nets[0].backbone.net.conv1.weight
    )
    with pytest.raises(UserError, match="resnet34"):
        make_session(tiny_config, "encoder.weights=scorer", "encoder.backbone=resnet34")


def test_the_encoder_sees_what_the_scorer_saw(tiny_config):
    """The same pixels give the patch features that the scorer's own network makes of them, from the first step on; with
    ImageNet's scale they are others."""
    session = make_session(tiny_config, "encoder.weights=scorer")
    net = session.knowledge.scorer.nets[0].eval()
    dataset = session.train_set()
    dataset.train = False
    encoder = session.model.encoder.eval()
    images = torch.stack([dataset[row][1] for row in range(3)])
    pixels = np.stack([np.asarray(dataset.crop(row)) for row in range(3)])
    seen = []
    hook = net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output))
    session.knowledge.scorer.score(pixels, torch.device("cpu"))
    hook.remove()
    with torch.no_grad():
        patches = encoder(images).patches
        others = encoder(torch.stack([to_tensor(dataset.crop(row), "imagenet") for row in range(3)])).patches
    assert torch.equal(patches, seen[0].flatten(2).transpose(1, 2))
    assert (others - patches).abs().max() > 0.1


def test_a_model_of_an_earlier_version_keeps_its_scale(tiny_config, tmp_path):
    """Its saved settings say nothing of it: the encoder saw ImageNet's, whatever it began from. A configuration that
    says nothing follows the weights."""
    content = yaml.safe_load(tiny_config.read_text())
    content["encoder"]["weights"] = "scorer"
    content["encoder"].pop("inputs", None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert load_settings(tmp_path / "config.yaml", bases=False).encoder.inputs == "imagenet"
    assert load_settings(tmp_path / "config.yaml").encoder.inputs == "image"
    save_settings(tmp_path / "config.yaml", load_settings(tmp_path / "config.yaml"))
    assert load_settings(tmp_path / "config.yaml", ["encoder.weights=null"], bases=False).encoder.inputs == "image"


def test_berts_own_vocabulary_is_used_with_its_weights(tiny_config, vocabulary):
    """Named weights bring their vocab.txt along."""
    save_file(bert_state(), vocabulary / "model.safetensors")
    overrides = [f"decoder.weights={vocabulary}", "decoder.width=16", "decoder.feed_forward=32"]
    session = make_session(tiny_config, *overrides)
    assert session.tokenizer.size == 9 + 5
    assert "decoder from" in session.notes["report decoder"]
    assert load_settings(tiny_config, overrides).decoder.vocabulary == "train"
