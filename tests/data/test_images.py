import numpy as np
import pytest
import torch
from PIL import Image

from revtaf.data.images import (
    STRONG_SHIFT,
    STRONG_ZOOM,
    augment,
    augment_strongly,
    crop_box,
    image_size,
    read_image,
    resize_crop,
    to_tensor,
)
from revtaf.engine.batches import EpochBatches
from revtaf.errors import UserError


@pytest.fixture
def ramp():
    return Image.fromarray(np.add.outer(np.arange(90), np.arange(100)).astype(np.uint8))


def test_unreadable_images_are_named(tmp_path, ramp):
    """Missing, truncated and foreign files each give one error that names the file."""
    ramp.save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("not an image")
    for name in ("missing.png", "cut.png", "text.png"):
        with pytest.raises(UserError, match=name):
            read_image(tmp_path / name)


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    """A 12-bit radiograph in a 16-bit PNG keeps its range."""
    pixels = (np.arange(64 * 64).reshape(64, 64)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    read = np.asarray(read_image(tmp_path / "deep.png"))
    assert read.min() == 0 and read.max() == 255 and len(np.unique(read)) > 200


@pytest.mark.parametrize("transform", [augment, augment_strongly])
def test_left_stays_left(ramp, transform):
    """No transform mirrors the image: the brighter side stays on its side."""
    for seed in range(20):
        image = np.asarray(transform(ramp, 72, 64, 5.0, np.random.default_rng(seed)), dtype=float)
        assert image.shape == (64, 64) and image[16:48, 40:48].mean() > image[16:48, 16:24].mean()


@pytest.mark.parametrize("transform", [augment, augment_strongly])
def test_augmentation_depends_on_its_seed_alone(ramp, transform):
    """The same draw gives the same image whatever the global random state; other draws give others."""
    one = np.asarray(transform(ramp, 72, 64, 5.0, np.random.default_rng((0, 1, 2))))
    torch.manual_seed(99)
    np.random.seed(99)
    assert np.array_equal(one, np.asarray(transform(ramp, 72, 64, 5.0, np.random.default_rng((0, 1, 2)))))
    assert not np.array_equal(one, np.asarray(transform(ramp, 72, 64, 5.0, np.random.default_rng((0, 2, 2)))))


def test_strong_augmentation_moves_zooms_and_lights_within_its_bounds():
    """A bright square, 20 of 64 pixels, on grey: place, size and level vary around those of the evaluation's crop, and
    reach nearly as far as they may."""
    pixels = np.full((72, 72), 60, np.uint8)
    pixels[26:46, 26:46] = 150
    centres, sides, levels = [], [], []
    for seed in range(200):
        image = np.asarray(augment_strongly(Image.fromarray(pixels), 72, 64, 0.0, np.random.default_rng(seed)))
        square = image > (int(image[20:44, 20:44].max()) + int(image[32, 4])) / 2
        rows, columns = np.nonzero(square[8:56, 8:56])
        centres.append((rows.mean() - 23.5, columns.mean() - 23.5))
        sides.append(len(np.unique(rows)))
        levels.append(image[32, 32])
    centres, sides, levels = np.array(centres), np.array(sides), np.array(levels, dtype=float)
    assert np.abs(centres).max() <= 64 * STRONG_SHIFT + 1 and (np.abs(centres).max(0) > 2).all()
    assert np.abs(centres.mean(0)).max() < 0.5
    assert 20 * (1 - STRONG_ZOOM) - 1 <= sides.min() < 20 < sides.max() <= 20 * (1 + STRONG_ZOOM) + 1
    assert 100 <= levels.min() < 130 and 170 < levels.max() <= 200 and abs(levels.mean() - 150) < 5


def test_evaluation_crop_is_central_and_normalised(ramp):
    """Shorter side to 72, centre 64 x 64; ImageNet statistics per channel."""
    crop = resize_crop(ramp, 72, 64)
    assert crop.size == (64, 64)
    tensor = to_tensor(Image.new("L", (4, 4), 255), "imagenet")
    assert tensor[:, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


SIZES = {"landscape": (301, 207), "portrait": (200, 310), "square": (240, 240), "small": (50, 41)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("box", [(0.3, 0.4, 0.6, 0.7), (0.25, 0.3, 0.5, 0.9), (0.0, 0.35, 0.55, 1.0)])
def test_a_box_follows_the_pixels_into_the_crop(size, box):
    """A white rectangle on black, resized and cropped: its bright pixels lie where crop_box says, within 1.5 pixels."""
    width, height = size
    pixels = np.zeros((height, width), dtype=np.uint8)
    left, top, right, bottom = np.round(np.array(box) * (*size, *size)).astype(int)
    pixels[top:bottom, left:right] = 255
    exact = (left / width, top / height, right / width, bottom / height)
    rows, columns = np.nonzero(np.asarray(resize_crop(Image.fromarray(pixels), 72, 64)) > 127)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.array(crop_box(exact, size, 72, 64)) * 64 == pytest.approx(seen, abs=1.5)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_box_outside_the_crop_has_no_area(size):
    """Of the longer side, what the centre crop leaves out; a box that contains the crop becomes the whole of it."""
    outside = 1 - 64 / 72 * min(size) / max(size)
    long = 0 if size[0] >= size[1] else 1
    for low, high in ((0, outside / 2), (1 - outside / 2, 1)):
        box = [0.0, 0.0, 1.0, 1.0]
        box[long], box[long + 2] = low, high
        found = crop_box(box, size, 72, 64)
        assert found[long + 2] - found[long] == pytest.approx(0, abs=1e-9)
        assert all(0 <= value <= 1 for value in found)
    assert crop_box((0, 0, 1, 1), size, 72, 64) == (0, 0, 1, 1)


def test_the_size_of_an_image_is_that_of_its_pixels(tmp_path):
    """Width first, for 8 and 16 bits."""
    for name, kind in (("grey.png", np.uint8), ("deep.png", np.uint16)):
        Image.fromarray(np.zeros((30, 50), dtype=kind)).save(tmp_path / name)
        assert image_size(tmp_path / name) == (50, 30) == read_image(tmp_path / name).size


def test_an_image_without_a_size_is_named(tmp_path, ramp):
    ramp.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:12])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    for name in ("missing.png", "cut.png", "text.png", "empty.png"):
        with pytest.raises(UserError, match=name):
            image_size(tmp_path / name)


def test_an_epoch_is_every_sample_once_and_can_start_in_the_middle():
    """Batches are a function of (seed, epoch); the second half equals the uninterrupted second half."""
    batches = EpochBatches(20, 6, seed=1)
    whole = list(batches)
    assert sorted(row for batch in whole for _, row in batch) == list(range(20))
    batches.move_to(0, 2)
    assert list(batches) == whole[2:] and len(batches) == len(whole) - 2
    batches.move_to(1, 0)
    assert [row for b in batches for _, row in b] != [row for b in whole for _, row in b]
    assert {epoch for b in batches for epoch, _ in b} == {1}


def test_a_lonely_last_sample_is_left_out():
    """A batch of one has no neighbour to rank; 13 = 6 + 6 + 1 gives two batches."""
    assert [len(b) for b in EpochBatches(13, 6, 0)] == [6, 6]
    assert [len(b) for b in EpochBatches(14, 6, 0)] == [6, 6, 2]
