import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torchvision.io import ImageReadMode, decode_png

from revtaf.data.grey import LUMINANCE, read_deep_colour
from revtaf.data.images import (
    STRONG_SHIFT,
    STRONG_ZOOM,
    augment,
    augment_strongly,
    crop_box,
    image_size,
    read_image,
    read_noted,
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


def png(pixels: np.ndarray) -> bytes:
    """16-bit colour (H, W, C), which Pillow does not write."""
    height, width, channels = pixels.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 12 bits


def deep(path) -> np.ndarray:
    return np.asarray(read_image(path), dtype=float)


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    """A 12-bit radiograph in a 16-bit PNG keeps its range."""
    Image.fromarray(DEEP).save(tmp_path / "deep.png")
    read = np.asarray(read_image(tmp_path / "deep.png"))
    assert read.min() == 0 and read.max() == 255 and len(np.unique(read)) > 200


def test_one_marker_does_not_black_out_a_film(tmp_path):
    """Of 4,096 pixels, sixteen at 65,535: all others change by two levels at most."""
    Image.fromarray(DEEP).save(tmp_path / "plain.png")
    marked = DEEP.copy()
    marked[:4, :4] = 65535
    Image.fromarray(marked).save(tmp_path / "marked.png")
    change = np.abs(deep(tmp_path / "marked.png") - deep(tmp_path / "plain.png"))
    change[:4, :4] = 0
    assert change.max() <= 2


@pytest.mark.parametrize("kind", ["float.tif", "int.tif", "white is zero.tif", "colour.png", "colour and alpha.png"])
def test_every_deep_file_gives_the_same_picture(tmp_path, kind):
    """Floating point from 0 to 1, 32 bits with an offset, WhiteIsZero, three channels and four: as the 16-bit PNG."""
    Image.fromarray(DEEP).save(tmp_path / "plain.png")
    path, fraction = tmp_path / kind, (DEEP / 4095).astype(np.float32)
    opaque = np.full_like(DEEP, 65535)
    if kind == "float.tif":
        Image.fromarray(fraction).save(path)
    elif kind == "int.tif":
        Image.fromarray(DEEP.astype(np.int32) + 10**6).save(path)
    elif kind == "white is zero.tif":
        Image.fromarray(4095 - DEEP).save(path, tiffinfo={262: 0})
    else:
        path.write_bytes(png(np.stack([DEEP] * 3 + ([opaque] if "alpha" in kind else []), axis=-1)))
    assert np.abs(deep(path) - deep(tmp_path / "plain.png")).max() <= 1


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colour_is_read_to_the_last_bit(channels):
    """As torchvision's decoder reads it: grey with opacity, colour, colour with opacity."""
    content = png(np.random.default_rng(channels).integers(0, 1 << 16, (33, 40, channels), dtype=np.uint16))
    planes = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    levels = planes.numpy().astype(np.float64)
    expected = np.tensordot(LUMINANCE, levels[:3], 1) if channels > 2 else levels[0]
    if channels in (2, 4):
        expected *= levels[-1] / 65535
    file = io.BytesIO(content)
    assert np.allclose(np.asarray(read_deep_colour(file, Image.open(file))), expected, atol=0.02)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_damaged_deep_colour_is_refused(tmp_path, channels):
    """libpng's errors end the process in torchvision's decoder: data that are cut, a filter that is none."""
    whole = png(np.full((40, 40, channels), 900, np.uint16))
    data = b"IDAT" + zlib.compress((b"\x09" + bytes(40 * channels * 2)) * 40)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    for name, content in (("cut", whole[: len(whole) // 2]), ("filter", whole[:33] + chunk + whole[-12:])):
        (tmp_path / f"{name}.png").write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.png"):
            read_image(tmp_path / f"{name}.png")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_film_with_nan_or_infinity_is_refused(tmp_path, value):
    pixels = DEEP.astype(np.float32)
    pixels[3, 5] = value
    Image.fromarray(pixels).save(tmp_path / "film.tif")
    with pytest.raises(UserError, match="film.tif.*NaN or infinite"):
        read_image(tmp_path / "film.tif")


def test_a_film_of_one_level_is_black_and_of_two_has_both(tmp_path):
    """Also where the second level is rarer than the percentiles."""
    pixels = np.full((40, 40), 700, dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    pixels[0, 0] = 800
    Image.fromarray(pixels).save(tmp_path / "two.png")
    assert deep(tmp_path / "one.png").max() == 0
    assert deep(tmp_path / "two.png").max() == 255 == deep(tmp_path / "two.png")[0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "RGBA", "LA"])
def test_eight_bits_are_read_as_pillow_converts_them(tmp_path, mode):
    """No scaling, and no change by a channel of full opacity."""
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(colours).convert("L" if mode in ("LA", "1") else "RGB").convert(mode)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    with Image.open(path) as again:
        assert again.mode == mode and read_image(path).tobytes() == again.convert("L").tobytes()


@pytest.mark.parametrize("suffix", ["tif", "bmp", "jp2", "ppm", "webp"])
@pytest.mark.parametrize("width", [16, 160, 1616])
def test_eight_bits_in_colour_are_no_deep_colour(tmp_path, suffix, width):
    """Whatever numbers a format's decoder is told; TIFF compressed too."""
    image = Image.effect_noise((width, 16), 50).convert("RGB")
    image.save(tmp_path / f"image.{suffix}", **({"compression": "tiff_lzw"} if suffix == "tif" else {}))
    with Image.open(tmp_path / f"image.{suffix}") as again:
        assert read_image(tmp_path / f"image.{suffix}").tobytes() == again.convert("L").tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_what_is_transparent_is_black_and_noted(tmp_path, ramp, mode):
    """Whatever its hidden colour; half transparent is half as bright. Palettes and PNG's one transparent level too."""
    path = tmp_path / "image.png"
    if mode in ("P", "L"):
        grey = Image.new("L", (40, 40), 200)
        grey.paste(90, (0, 0, 20, 40))
        grey.convert(mode).save(path, transparency=90 if mode == "L" else grey.convert("P").getpixel((0, 0)))
    else:
        image = Image.new("L", (40, 40), 200).convert(mode)
        image.putalpha(Image.fromarray(np.repeat([[0, 128], [255, 255]], 20, 0).repeat(20, 1).astype(np.uint8)))
        image.save(path)
    grey, notes = read_noted(path)
    assert grey.getpixel((5, 5)) == 0 and grey.getpixel((30, 30)) == 200
    assert mode in ("P", "L") or grey.getpixel((30, 5)) == pytest.approx(100, abs=1)
    assert notes == ["transparent in places: laid on black"]


def test_colour_is_noted_grey_in_three_channels_is_not(tmp_path, ramp):
    """Nor is what JPEG makes of it."""
    ramp.convert("RGB").save(tmp_path / "grey.jpg", quality=30)
    assert read_noted(tmp_path / "grey.jpg")[1] == []
    Image.merge("RGB", [ramp, ramp, Image.new("L", ramp.size)]).save(tmp_path / "colour.png")
    assert read_noted(tmp_path / "colour.png")[1][0].startswith("in colour: ")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path, suffix, depth, orientation):
    """The bright corner, stored upper left, is where EXIF says; `image_size` is that of what is read."""
    if suffix == "jpg" and depth == 16:
        pytest.skip("JPEG has 8 bits")
    pixels = np.zeros((32, 48), dtype=np.uint8 if depth == 8 else np.uint16)
    pixels[:8, :8] = 250 * (1 if depth == 8 else 16)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"image.{suffix}"
    told = {"tiffinfo": {274: orientation}} if suffix == "tif" else {"exif": exif}
    Image.fromarray(pixels).save(path, **told)
    read = np.asarray(read_image(path), dtype=float)
    height, width = read.shape
    corners = {"upper left": (4, 4), "upper right": (4, width - 5)}
    corners |= {"lower right": (height - 5, width - 5), "lower left": (height - 5, 4)}
    where = ["upper left", "upper right", "lower right", "lower left"] * 2  # EXIF: row 0 and column 0 are these sides
    assert max(corners, key=lambda name: read[corners[name]]) == where[orientation - 1]
    assert image_size(path) == (width, height) == ((32, 48) if orientation > 4 else (48, 32))


def test_damaged_exif_does_not_stop_the_reader(tmp_path, ramp):
    ramp.save(tmp_path / "image.jpg", exif=b"Exif\0\0not a TIFF header at all")
    assert read_image(tmp_path / "image.jpg").size == ramp.size == image_size(tmp_path / "image.jpg")


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_of_several_frames_the_first_is_read_and_noted(tmp_path, suffix):
    frames = [Image.new("L", (40, 30), level) for level in (50, 100, 200)]
    frames[0].save(tmp_path / f"image.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    grey, notes = read_noted(tmp_path / f"image.{suffix}")
    assert abs(grey.getpixel((20, 20)) - 50) <= 1 and notes == ["several frames: the first of 3 is read"]


def test_bad_files_are_told_by_what_they_are(tmp_path, ramp):
    """One message each: the file, what it is, what to do. The name of the file decides nothing."""
    ramp.save(tmp_path / "whole.jpg")
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    files = {
        "empty": (b"", "the file is empty"),
        "pdf": (b"%PDF-1.7\n%more", "PDF.*export"),
        "cut": (jpeg[: len(jpeg) // 2], "truncated"),
        "login": (b"<!DOCTYPE html><html>", "web page"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "archive": (b"PK\x03\x04rest", "ZIP"),
        "text": (b"The lungs are clear.", "no known image format"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no known image format"),
    }
    for name, (content, message) in files.items():
        (tmp_path / f"{name}.png").write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.png.*{message}"):
            read_image(tmp_path / f"{name}.png")
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(UserError, match="dot.png.*1 x 1 pixels; at least 16 x 16"):
        read_image(tmp_path / "dot.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="folder.png"):
        read_image(tmp_path / "folder.png")


@pytest.mark.parametrize("size", [(10_000, 9_000), (20_000, 20_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_above_pillows_limit_is_refused_by_name(tmp_path, size):
    """Where Pillow would warn as where it would refuse; nothing is unpacked."""
    Image.new("1", size).save(tmp_path / "bomb.png")
    for read in (read_image, image_size):
        with pytest.raises(UserError, match="bomb.png.*89,478,485 pixels.*scale it down"):
            read(tmp_path / "bomb.png")


def test_damaged_files_never_give_a_traceback(tmp_path, ramp):
    """Single bytes changed, 200 files of five formats: an image or a UserError."""
    draw = np.random.default_rng(0)
    for suffix in ("png", "jpg", "tif", "gif", "webp"):
        ramp.save(tmp_path / f"whole.{suffix}")
        content = bytearray((tmp_path / f"whole.{suffix}").read_bytes())
        for _ in range(40):
            damaged = content.copy()
            for place in draw.integers(0, min(len(content), 400), 3):
                damaged[place] = draw.integers(0, 256)
            (tmp_path / "damaged").write_bytes(damaged)
            for read in (read_noted, image_size):
                try:
                    read(tmp_path / "damaged")
                except UserError as error:
                    assert "damaged" in str(error)


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
