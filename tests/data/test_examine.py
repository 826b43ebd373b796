"""What is warned of, on pictures drawn here; the rates on real radiographs are in docs/data.md."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from revtaf.data.examine import examine
from revtaf.data.images import read_image

SCRIPT = Path(__file__).parents[2] / "scripts" / "image_warnings.py"


@pytest.fixture(scope="module")
def films(phantom):
    return [read_image(path) for path in sorted((phantom / "images").iterdir())[:40]]


def test_drawn_radiographs_pass_and_their_negatives_do_not(films):
    """No warning on the phantom; nearly every negative looks inverted; on its side or upside down it is not frontal."""
    assert [examine(film) for film in films] == [[]] * len(films)
    inverted = [examine(ImageOps.invert(film)) for film in films]
    assert sum(told[:1] != [] and told[0].startswith("looks inverted") for told in inverted) >= 0.95 * len(films)
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_180):
        assert sum(not_frontal(film.transpose(turn)) for film in films) >= 0.9 * len(films)


def test_the_warning_does_not_depend_on_exposure_or_size(films):
    """Half the contrast, twice the size: the same answer."""
    for film in films[:10]:
        for shown in (film, ImageOps.invert(film)):
            told = examine(shown)
            assert examine(shown.point(lambda level: 60 + level // 2)) == told
            assert examine(shown.resize((200, 240))) == told


def not_frontal(image: Image.Image) -> bool:
    return any(told.startswith("does not look like a frontal chest radiograph: ") for told in examine(image))


def page(font_size: int) -> Image.Image:
    image = Image.new("L", (800, 1000), 255)
    draw = ImageDraw.Draw(image)
    for row in range(40):
        draw.text((60, 40 + 23 * row), "The heart is normal. The lungs are clear. " * 2, fill=0, font_size=font_size)
    return image


GREY = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (300, 1))
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
STRANGE = {
    "page": page(12),
    "large print": page(20),
    "white on black": ImageOps.invert(page(12)),
    "noise": Image.fromarray(NOISE).convert("L"),
    "fading to the right": Image.fromarray(GREY),
    "fading to the left": Image.fromarray(GREY[:, ::-1].copy()),
    "fading downwards": Image.fromarray(GREY.T.copy()),
    "fading upwards": Image.fromarray(GREY.T[::-1].copy()),
    "strip": Image.fromarray(GREY).resize((900, 300)),
}


@pytest.mark.parametrize("image", STRANGE.values(), ids=STRANGE)
def test_what_is_no_radiograph_is_told(image):
    assert not_frontal(image)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_single_colour_is_nearly_constant(level):
    assert examine(Image.new("L", (50, 60), level)) == ["nearly constant: its grey levels span 0 of 255"]


def test_the_script_of_the_rates_counts_them(phantom, capsys):
    runpy.run_path(str(SCRIPT))["main"]([str(phantom / "images"), "--every", "6"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "as they are, 10 images: no warning" and told[-1] == "files, 10 images: no warning"
    assert "looks inverted 10 (100.00%)" in told[1]
