"""The CLIP pair on a tiny random open_clip network: its geometry, its vectors, what a wrong file says."""

import builtins
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from revtaf.errors import UserError
from revtaf.knowledge.clip import ClipPair

CPU = torch.device("cpu")
NAME = "revtaf-tiny-clip"
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def open_clip():
    return pytest.importorskip("open_clip", reason="needs pip install 'revtaf[clip]'")


@pytest.fixture(scope="module")
def weights(open_clip, tmp_path_factory) -> Path:
    """The tiny architecture under a name of its own, and random weights of it."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{NAME}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = open_clip.create_model(NAME)
    path = folder / "tiny.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def pair(weights) -> ClipPair:
    return ClipPair.load(NAME, weights, CPU)


@pytest.fixture(scope="module")
def state(weights) -> dict:
    from safetensors.torch import load_file

    return load_file(weights)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)


TEXTS = ["the lungs are clear .", "large right pleural effusion .", ""]


def test_the_interface_says_what_it_needs(pair):
    assert (pair.image_size, pair.width) == (32, 24)
    assert pair.name.startswith(f"clip-{NAME}-") and len(pair.name.split("-")[-1]) == 8


def test_vectors_have_length_one_and_differ(pair, images):
    for vectors in (pair.encode_images(images, CPU), pair.encode_texts(TEXTS, CPU)):
        assert vectors.dtype == np.float32 and vectors.shape[1] == 24
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert np.linalg.norm(vectors[0] - vectors[1]) > 1e-3


def test_images_are_prepared_and_encoded_as_open_clip_does(open_clip, pair, state):
    """From a grey image that is not square: open_clip's own evaluation transform and normalised features."""
    model, _, transform = open_clip.create_model_and_transforms(NAME)
    model.load_state_dict(state)
    model.eval()
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 90), dtype=np.uint8))
    with torch.no_grad():
        expected = model.encode_image(transform(image)[None], normalize=True)
    found = pair.encode_images(pair.pixels(image)[None], CPU)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_texts_are_encoded_as_open_clip_does(open_clip, pair, state):
    model = open_clip.create_model(NAME)
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(NAME)(TEXTS), normalize=True)
    np.testing.assert_allclose(pair.encode_texts(TEXTS, CPU), expected.numpy(), atol=1e-5)


def test_pixels_keep_the_proportions_and_crop_the_centre(pair):
    """A mark in the middle stays in the middle, one at the far edge of a wide image is cut off."""
    wide = np.zeros((64, 128), np.uint8)
    wide[:, 120:] = 255
    assert pair.pixels(Image.fromarray(wide)).max() == 0
    wide[28:36, 60:68] = 255
    pixels = pair.pixels(Image.fromarray(wide))
    assert pixels.shape == (32, 32) and pixels.dtype == np.uint8
    assert pixels[14:18, 14:18].min() > 128 and pixels[:, :8].max() == 0


def test_a_row_does_not_depend_on_its_batch(pair, images, monkeypatch):
    whole_images, whole_texts = pair.encode_images(images, CPU), pair.encode_texts(TEXTS, CPU)
    monkeypatch.setattr("revtaf.knowledge.clip.BATCH", 2)
    np.testing.assert_allclose(pair.encode_images(images, CPU), whole_images, atol=1e-5)
    np.testing.assert_allclose(pair.encode_texts(TEXTS, CPU), whole_texts, atol=1e-5)
    assert pair.encode_images(images[:0], CPU).shape == pair.encode_texts([], CPU).shape == (0, 24)


def test_long_texts_are_cut_at_the_context(pair):
    """What comes after 12 tokens changes nothing; what comes before does."""
    first = "the heart size is normal and the lungs are clear without effusion"
    vectors = pair.encode_texts([first, f"{first} or pneumothorax .", f"now {first}"], CPU)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_images_of_another_size_are_refused(pair):
    with pytest.raises(ValueError, match="32"):
        pair.encode_images(np.zeros((1, 40, 40), np.uint8), CPU)


def test_a_training_checkpoint_of_open_clip_loads_too(pair, state, images, tmp_path):
    """{'state_dict': ...} with DataParallel's prefix, read without unpickling objects."""
    path = tmp_path / "epoch_3.pt"
    torch.save({"epoch": 3, "name": "run", "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    other = ClipPair.load(NAME, path, CPU)
    np.testing.assert_array_equal(other.encode_images(images, CPU), pair.encode_images(images, CPU))
    assert other.name != pair.name


def test_weights_must_fit_exactly(state, tmp_path):
    lacking = {key: value for key, value in state.items() if key != "ln_final.weight"}
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(UserError, match=rf"lacking\.safetensors does not fit.*ln_final\.weight.*{NAME}"):
        ClipPair.load(NAME, tmp_path / "lacking.safetensors", CPU)


def test_weights_are_a_local_file(weights):
    """A tag like "openai", for which open_clip would start a download, is a missing file here."""
    with pytest.raises(UserError, match=r"no such file: openai"):
        ClipPair.load("ViT-B-32", "openai", CPU)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-31", "unknown model 'ViT-B-31'"),
        ("hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "unknown model 'hf-hub"),
        ("local-dir:weights", "unknown model 'local-dir"),
        ("roberta-ViT-B-32", "needs downloads beside its weights"),
        ("ViT-B-16-SigLIP", "needs downloads beside its weights"),
    ],
)
def test_models_that_would_download_something_are_refused(weights, name, message):
    with pytest.raises(UserError, match=message):
        ClipPair.load(name, weights, CPU)


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_reading_weights_runs_no_code_of_the_file(open_clip, tmp_path, weights):
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    torch.save({"state_dict": {}, "args": Touch(trace)}, path)
    with pytest.raises(UserError, match=r"evil\.pt"):
        ClipPair.load(NAME, path, CPU)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_openai_files_load_once_their_tensors_are_saved(weights, pair, state, images, tmp_path):
    """Theirs are TorchScript archives: refused, with the way out; the sizes among their tensors do no harm."""
    archive, saved = tmp_path / "scripted.pt", tmp_path / "saved.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), archive)
    with pytest.raises(UserError, match=r"scripted\.pt is a TorchScript archive.*torch\.save"):
        ClipPair.load(NAME, archive, CPU)
    torch.save(state | {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}, saved)
    found = ClipPair.load(NAME, saved, CPU).encode_images(images, CPU)
    np.testing.assert_array_equal(found, pair.encode_images(images, CPU))


def test_loading_leaves_the_log_as_it_was(weights, caplog):
    """open_clip's "no pretrained weights loaded" would be false; other warnings still come through afterwards."""
    with caplog.at_level(logging.WARNING):
        ClipPair.load(NAME, weights, CPU)
        assert "randomly" not in caplog.text
        logging.getLogger("revtaf").warning("still here")
    assert "still here" in caplog.text


def test_without_open_clip_the_message_says_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "open_clip":
            raise ModuleNotFoundError("No module named 'open_clip'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'revtaf\[clip\]'"):
        ClipPair.load(NAME, tmp_path / "none.pt", CPU)
