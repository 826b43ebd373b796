import numpy as np
import pytest
import torch
from PIL import Image

from revtaf.data.dataset import EpochBatches
from revtaf.data.images import augment, read_image, resize_crop, to_tensor
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


def test_left_stays_left(ramp):
    """No transform mirrors the image: the brighter side stays on its side."""
    for seed in range(20):
        image = np.asarray(augment(ramp, 72, 64, 5.0, np.random.default_rng(seed)), dtype=float)
        assert image[16:48, 40:48].mean() > image[16:48, 16:24].mean()


def test_augmentation_depends_on_its_seed_alone(ramp):
    """The same draw gives the same image whatever the global random state; other draws give others."""
    one = np.asarray(augment(ramp, 72, 64, 5.0, np.random.default_rng((0, 1, 2))))
    torch.manual_seed(99)
    np.random.seed(99)
    assert np.array_equal(one, np.asarray(augment(ramp, 72, 64, 5.0, np.random.default_rng((0, 1, 2)))))
    assert not np.array_equal(one, np.asarray(augment(ramp, 72, 64, 5.0, np.random.default_rng((0, 2, 2)))))


def test_evaluation_crop_is_central_and_normalised(ramp):
    """Shorter side to 72, centre 64 x 64; ImageNet statistics per channel."""
    crop = resize_crop(ramp, 72, 64)
    assert crop.size == (64, 64)
    tensor = to_tensor(Image.new("L", (4, 4), 255))
    assert tensor[:, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


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
