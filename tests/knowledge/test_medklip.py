"""MedKLIP on random weights in the published layout: the network's arithmetic, its books, what a wrong file says."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from medklip_files import FakeClinicalBert, fake_books, write_medklip
from PIL import Image
from torchvision import transforms

from revtaf.errors import UserError
from revtaf.knowledge.medklip import MedKLIP, make_books
from revtaf.knowledge.medklip_net import MedKLIPNet
from revtaf.knowledge.scope import load_phrases
from revtaf.labels import ENTITIES, POSITIONS, UNSPECIFIED_POSITION

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
DESIGN = Path(os.environ.get("REVTAF_SHARED_DATA", ROOT.parent / "shared" / "data")).parent / "design"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_medklip(tmp_path_factory.mktemp("medklip") / "checkpoint.pth")


@pytest.fixture(scope="module")
def medklip(checkpoint) -> MedKLIP:
    return MedKLIP.load(checkpoint, fake_books())


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noise, a horizontal ramp, a bright disc: (3, 224, 224) uint8."""
    y, x = np.mgrid[:224, :224]
    noise = np.random.default_rng(1).integers(0, 256, (224, 224))
    return np.stack([noise, x, np.where((x - 60) ** 2 + (y - 150) ** 2 < 900, 230, 40)]).astype(np.uint8)


@pytest.fixture(scope="module")
def scores(medklip, images):
    return medklip.score(images, CPU)


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


# The network


def test_the_layout_is_the_published_one(checkpoint):
    """All 342 names and shapes, in the file that the other tests use and hence in the network that loads it."""
    path = DESIGN / "medklip_state_dict_layout.json"
    if not path.is_file():
        pytest.skip(f"no published layout in {DESIGN} (set REVTAF_SHARED_DATA)")
    state = read(checkpoint)["model"]
    assert {key: list(value.shape) for key, value in state.items()} == json.loads(path.read_text())
    assert len(state) == 342


def test_the_decoder_computes_what_torch_computes(medklip):
    """The written-out loop equals nn.TransformerDecoder's own forward."""
    draw = torch.Generator().manual_seed(3)
    queries, patches = torch.randn(2, 75, 256, generator=draw), torch.randn(2, 196, 256, generator=draw)
    with torch.no_grad():
        found, attention = medklip.net.decode(queries, patches)
        torch.testing.assert_close(found, medklip.net.decoder(queries, patches), atol=1e-5, rtol=1e-5)
    assert attention.shape == (2, 4, 75, 196)


def test_attention_is_softmax_of_scaled_products(medklip):
    """The first layer's map, from the projections by hand, averaged over four heads of 64."""
    draw = torch.Generator().manual_seed(4)
    queries, patches = torch.randn(1, 75, 256, generator=draw), torch.randn(1, 196, 256, generator=draw)
    layer = medklip.net.decoder.layers[0]
    with torch.no_grad():
        x = layer.norm1(queries)
        x = queries + layer.self_attn(x, x, x)[0]
        weight, bias = layer.multihead_attn.in_proj_weight, layer.multihead_attn.in_proj_bias
        q = (layer.norm2(x) @ weight[:256].T + bias[:256]).view(75, 4, 64)
        k = (patches @ weight[256:512].T + bias[256:512]).view(196, 4, 64)
        expected = (torch.einsum("mhd,phd->hmp", q, k) / 8).softmax(-1).mean(0)
        _, attention = medklip.net.decode(queries, patches)
    torch.testing.assert_close(attention[0, 0], expected, atol=1e-6, rtol=1e-4)


def test_patches_run_row_by_row_from_the_top_left(medklip):
    """A change in the top right corner moves patch 13 most, one in the bottom left corner patch 182."""
    grey = torch.zeros(1, 3, 224, 224)
    right, left = grey.clone(), grey.clone()
    right[..., :12, -12:] = left[..., -12:, :12] = 3.0
    with torch.no_grad():
        change = (medklip.net.patches(torch.cat([right, left])) - medklip.net.patches(grey)).norm(dim=-1)
    assert change.argmax(-1).tolist() == [13, 13 * 14]


def test_attention_maps_sum_to_one_and_follow_the_image(medklip, images):
    maps = medklip.attention(images, CPU)
    assert maps.shape == (3, 75, 14, 14) and maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum((2, 3)), 1, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-3  # between images
    assert np.abs(maps[1, 0] - maps[1, 1]).max() > 1e-3  # between entities


def test_an_image_scores_the_same_alone_and_in_a_batch(medklip, images, scores):
    alone = medklip.score(images[1:2], CPU)
    np.testing.assert_allclose(scores.probability[1:2], alone.probability, atol=1e-5)
    assert np.ptp(scores.probability, axis=0).max() > 0.01  # and the images do differ


def test_more_images_than_a_batch_keep_their_order(medklip, images, scores, monkeypatch):
    monkeypatch.setattr("revtaf.knowledge.medklip.BATCH", 2)
    np.testing.assert_allclose(medklip.score(images, CPU).probability, scores.probability, atol=1e-5)


def test_no_images_give_no_scores(medklip):
    scores = medklip.score(np.zeros((0, 224, 224), np.uint8), CPU)
    assert [len(part) for part in scores] == [0, 0, 0]


def test_images_of_another_size_are_refused(medklip):
    """The network would take them without a word, and its maps would mean another grid."""
    with pytest.raises(ValueError, match="224"):
        medklip.score(np.zeros((1, 256, 256), np.uint8), CPU)


def test_positions_are_inner_products_with_the_anatomy_book(medklip, images):
    """By an independent einsum in float64; the argmax where present, unspecified elsewhere."""
    captured = {}
    hook = medklip.net.cl_fc.register_forward_hook(lambda module, args, output: captured.update(x=args[0]))
    scores = medklip.score(images, CPU)
    hook.remove()
    weight, bias = (p.detach().double().numpy() for p in medklip.net.cl_fc.parameters())
    found = captured["x"].double().numpy()
    logits = np.einsum("bmd,wd,pw->bmp", found, weight, fake_books().anatomy.astype(np.float64), optimize=True)
    logits += bias @ fake_books().anatomy.T
    assert 0 < scores.present.sum() < scores.present.size
    np.testing.assert_array_equal(scores.position[scores.present], logits.argmax(2)[scores.present])
    assert (scores.position[~scores.present] == UNSPECIFIED_POSITION).all()
    assert len(set(scores.position[scores.present].tolist())) > 3


def test_the_second_class_is_presence(checkpoint, images):
    """With the classifier's bias alone: margin 3 gives P = sigmoid(3) and everything present, -3 nothing."""
    medklip = MedKLIP.load(checkpoint, fake_books())
    for margin in (3.0, -3.0):
        with torch.no_grad():
            medklip.net.classifier.weight.zero_()
            medklip.net.classifier.bias.copy_(torch.tensor([1.0, 1.0 + margin]))
        scores = medklip.score(images[:1], CPU)
        np.testing.assert_allclose(scores.probability, 1 / (1 + np.exp(-margin)), rtol=1e-5)
        assert (scores.present == (margin > 0)).all()


# The image


def test_a_wide_image_is_squashed_not_cropped(medklip):
    """A mark at the far right edge of an image twice as wide as high stays, at the far right edge."""
    wide = np.zeros((300, 600), np.uint8)
    wide[140:160, 585:] = 255
    pixels = medklip.pixels(Image.fromarray(wide))
    assert pixels.shape == (224, 224) and pixels.dtype == np.uint8
    assert pixels[112, 221] > 200 and pixels[:, :210].max() == 0


def test_the_network_sees_what_torchvision_would_give_it(medklip):
    """Resize([224, 224]) of the RGB image, ToTensor, ImageNet's normalisation, as in MedKLIP's training."""
    image = Image.fromarray(np.random.default_rng(5).integers(0, 256, (310, 270), dtype=np.uint8))
    reference = transforms.Compose(
        [
            transforms.Resize([224, 224]),
            transforms.ToTensor(),
            transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )(image.convert("RGB"))
    captured = {}
    hook = medklip.net.res_features.register_forward_pre_hook(lambda module, args: captured.update(x=args[0]))
    medklip.score(medklip.pixels(image)[None], CPU)
    hook.remove()
    np.testing.assert_allclose(captured["x"][0].numpy(), reference.numpy(), atol=1e-6)


# The checkpoint


def test_a_bare_state_dict_loads_like_the_published_file(checkpoint, medklip, tmp_path):
    bare = tmp_path / "bare.pth"
    torch.save({key.removeprefix("module."): value for key, value in read(checkpoint)["model"].items()}, bare)
    other = MedKLIP.load(bare, fake_books())
    for key, value in medklip.net.state_dict().items():
        assert torch.equal(other.net.state_dict()[key], value), key
    assert other.name != medklip.name  # another file


def test_books_are_not_in_the_state_and_move_with_the_network(medklip):
    books = torch.from_numpy(fake_books().disease), torch.from_numpy(fake_books().anatomy)
    net = MedKLIPNet(*books)
    assert not [key for key in net.state_dict() if "book" in key]
    assert len(net.state_dict()) == 342
    assert net.double().disease_book.dtype == net.anatomy_book.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("module.decoder.norm.weight"), r"lacks 1 keys.*decoder\.norm\.weight"),
        (lambda s: s.update({"module.bert.pooler": torch.zeros(1)}), r"1 unknown keys.*bert\.pooler"),
        (
            lambda s: s.update({"module.classifier.bias": torch.zeros(3)}),
            r"classifier\.bias is \(3,\), expected \(2,\)",
        ),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_a_file_that_does_not_fit_is_named_with_the_keys_and_the_fix(checkpoint, tmp_path, change, message):
    content = read(checkpoint)
    change(content["model"])
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"other\.pth.*{message}.*authors published"):
        MedKLIP.load(path, fake_books())


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "notes.pth"
    with pytest.raises(UserError, match=r"no such file: .*notes\.pth"):
        MedKLIP.load(path, fake_books())
    path.write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"notes\.pth"):
        MedKLIP.load(path, fake_books())
    torch.save({"model": [1, 2]}, path)
    with pytest.raises(UserError, match=r"notes\.pth does not hold named tensors"):
        MedKLIP.load(path, fake_books())


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_reading_a_checkpoint_runs_no_code_of_it(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"model": {}, "config": Touch(trace)}, path)
    with pytest.raises(UserError, match=r"evil\.pth"):
        MedKLIP.load(path, fake_books())
    assert not trace.exists()


# The books


@pytest.fixture
def explanations() -> dict[str, str]:
    return {entity: f"sign number {i}" for i, entity in enumerate(ENTITIES)}


def write(path: Path, content) -> Path:
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content, sort_keys=False))
    return path


def test_our_explanations_cover_the_entities_in_order():
    """One text for each, all different, none of them shorter than a clause or longer than MedKLIP's text length."""
    ours = load_phrases("explanations.yaml")
    assert tuple(ours) == ENTITIES
    assert len(set(ours.values())) == 75
    assert all(5 <= len(text.split()) <= 60 for text in ours.values())


def test_books_are_encoded_as_in_training():
    """Explanations, then places; without [SEP], up to 128 tokens; rows in the order of the labels."""
    encoder = FakeClinicalBert()
    books = make_books(encoder)
    ((texts, separator, length),) = encoder.calls
    assert (separator, length) == (False, 128)
    assert texts[:75] == tuple(load_phrases("explanations.yaml").values())
    assert texts[75:] == tuple(f"It is located at {position}" for position in POSITIONS)
    assert books.disease.shape == (75, 768) and books.anatomy.shape == (51, 768)
    np.testing.assert_array_equal(books.anatomy[1], encoder.encode(["It is located at left_hilar"])[0])


@pytest.mark.parametrize("name", ["observation explanation.json", "mine.yaml"])
def test_order_counts_not_names(explanations, tmp_path, name):
    """MedKLIP's own file misspells its 21st key; the books are the same."""
    right = make_books(FakeClinicalBert(), write(tmp_path / name, explanations))
    misspelt = {("eumonia" if key == "pneumonia" else key): text for key, text in explanations.items()}
    wrong = make_books(FakeClinicalBert(), write(tmp_path / name, misspelt))
    np.testing.assert_array_equal(right.disease, wrong.disease)
    assert right.key == wrong.key
    np.testing.assert_array_equal(right.disease[20], FakeClinicalBert().encode(["sign number 20"])[0])


def test_a_file_in_another_order_is_refused(explanations, tmp_path):
    """By name it would look right, by order every query would mean another entity."""
    path = write(tmp_path / "sorted.json", dict(sorted(explanations.items())))
    with pytest.raises(UserError, match=r"sorted\.json: entry 1 explains 'abnormality'.*read as 'normal'"):
        make_books(FakeClinicalBert(), path)


def test_a_file_of_another_kind_is_refused(explanations, tmp_path):
    del explanations["chf"]
    with pytest.raises(UserError, match=r"few\.json: expected a mapping of 75 .* got 74 entries"):
        make_books(FakeClinicalBert(), write(tmp_path / "few.json", explanations))
    with pytest.raises(UserError, match=r"list\.yaml: expected a mapping of 75 .* got a list"):
        make_books(FakeClinicalBert(), write(tmp_path / "list.yaml", ["a"] * 75))
    explanations = dict.fromkeys(ENTITIES, "text") | {"excluded_obs": None}
    with pytest.raises(UserError, match=r"empty\.yaml: entry 75 \('excluded_obs'\) is not a text"):
        make_books(FakeClinicalBert(), write(tmp_path / "empty.yaml", explanations))
    (tmp_path / "broken.yaml").write_text("normal: [")
    with pytest.raises(UserError, match=r"broken\.yaml: not a YAML file.*line"):
        make_books(FakeClinicalBert(), tmp_path / "broken.yaml")
    with pytest.raises(UserError, match=r"explanations not found: .*absent\.yaml"):
        make_books(FakeClinicalBert(), tmp_path / "absent.yaml")


def test_an_encoder_of_another_width_is_refused():
    with pytest.raises(UserError, match="768.*fake-clinical-bert gives 512"):
        make_books(FakeClinicalBert(width=512))


def test_the_name_says_what_was_used(checkpoint, explanations, tmp_path):
    """The name changes with the texts, with the encoder and with the file."""
    ours, encoder = make_books(FakeClinicalBert()), FakeClinicalBert()
    encoder.name = "another"
    given = make_books(FakeClinicalBert(), write(tmp_path / "observation explanation.json", explanations))
    assert len({ours.key, given.key, make_books(encoder).key, fake_books().key}) == 4
    medklip = MedKLIP.load(checkpoint, ours)
    first, *rest = medklip.name.split("-")
    assert first == "medklip" and [len(part) for part in rest] == [8, 8]


def test_other_explanations_give_other_scores(checkpoint, images, scores):
    """The queries are the book: with other texts the same weights answer other questions."""
    other = MedKLIP.load(checkpoint, fake_books(seed=1)).score(images[:1], CPU)
    assert np.abs(other.probability - scores.probability[:1]).max() > 0.01
