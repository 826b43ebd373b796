"""Images are found however the disk spells them, by everything that reads images; else it is said what is there."""

import json

import pytest
from PIL import Image

from revtaf.audit.checks import Part, _paths
from revtaf.check import inspect
from revtaf.config_file import load_settings
from revtaf.data.annotations import Study
from revtaf.data.blocks import read_pixels
from revtaf.data.image_names import ImageNames, difference, find_file, why_absent
from revtaf.data.images import image_size, read_image
from revtaf.data.sources.placing import place_images
from revtaf.errors import UserError
from revtaf.generate.inputs import find_images

ON_DISK = [
    "p1/X.JPG",
    "mu\u0308ller/a.png",
    "both.png",
    "both.jpg",
    "Röntgen/Thorax 1.PNG",
    "P10/S5/view.jpeg",
    "放射/肺.png",
]
SPELLED = [  # asked for, on disk, what is said
    ("p1\\X.JPG", "p1/X.JPG", "backslashes"),
    ("p1\\x.jpg", "p1/X.JPG", "backslashes between folders and capitals"),
    ("p1/x.jpg", "p1/X.JPG", "capitals"),
    ("m\u00fcller/a.png", "mu\u0308ller/a.png", "NFD"),
    ("Ro\u0308ntgen\\thorax 1.png", "Röntgen/Thorax 1.PNG", "NFD"),
    ("p1/x.png", "p1/X.JPG", "another ending"),
    ("both.jpg", "both.jpg", "the same name"),
    ("p10/s5/view.JPEG", "P10/S5/view.jpeg", "capitals"),
    (".\\P10\\S5\\view.jpeg", "P10/S5/view.jpeg", "backslashes"),
    ("放射\\肺.PNG", "放射/肺.png", "backslashes between folders and capitals"),
    ("p1/X.JPG ", "p1/X.JPG", "blanks at an end"),
    ("p1//X.JPG", "p1/X.JPG", ""),
]


@pytest.fixture
def folder(tmp_path):
    """Images whose width tells which is which."""
    for number, name in enumerate(ON_DISK):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32 + number, 32), 90).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("asked", "found", "why"), SPELLED)
def test_every_reader_finds_the_file(folder, asked, found, why):
    """Names below a folder, paths, the reader, a study, a command line and a list of it: one answer."""
    assert ImageNames(folder).find(asked) == found and why in difference(asked, found)
    assert find_file(folder / asked).samefile(folder / found)
    width = 32 + ON_DISK.index(found)
    assert read_image(folder / asked).width == image_size(str(folder / asked))[0] == width
    study = Study(id="a", image_path=(asked,), report="")
    assert read_pixels([study], folder, 1, lambda image: image.width) == width
    (folder / "list.csv").write_text(f'image\n"{asked}"\n', encoding="utf-8")
    for given in (folder / asked, folder / "list.csv"):
        assert read_image(find_images([given])[0].image).width == width
    place_images(folder, folder / "copy", [asked], copy=True)
    assert read_image(folder / "copy" / asked).width == width


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("p1/Y.JPG", "the nearest file in .*p1 is X.JPG"),
        ("Roentgen/Thorax 1.PNG", "the nearest folder in .* is Röntgen"),
        ("p2/X.JPG", "has no folder p2"),
        ("P10/S5/veiw.jpeg", "the nearest file in .*P10/S5 is view.jpeg"),
        ("images/p1/X.JPG", "p1/X.JPG is there: leave images/ out of the name"),
        ("data\\images\\p1\\x.jpg", "X.JPG is there: leave data/images/ out of the name"),
        ("C:\\data\\p1\\X.JPG", "a place on a Windows machine"),
        ("\\\\server\\share\\X.JPG", "a place on a Windows machine"),
        ("Röntgen/thoraxx 1.png", "the nearest file in .* is Thorax 1.PNG"),
        ("Röntgen/Thorax 2.PNG", "not found: .*Thorax 2.PNG; check data.images"),
        ("p1", "is a folder, expected a file"),
        ("empty/x.png", "empty is empty"),
        ("gone.png", "a link to .*nowhere.png, which is not there"),
        ("p1\\..\\..\\secret.png", "has no folder"),
    ],
)
def test_what_is_not_there_is_told_by_what_is(folder, asked, says):
    (folder / "empty").mkdir()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert find_file(folder / asked) is None
    with pytest.raises(UserError, match=f"image.*{says}"):
        read_image(folder / asked)


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        (["study1.png", "study1.1.png", "study1.2.png"], "study1.1", "study1.1.png"),
        (["study1.png", "study1.2.png"], "study1.1", None),
        (["1.2.6.jpg", "1.2.7.jpg", "1.2.jpg"], "1.2.7", "1.2.7.jpg"),
        (["1.2.jpg"], "1.2.7", None),
        (["a.png", "a.dcm.png"], "a.dcm", "a.dcm.png"),
        (["a.png"], "a.dcm", "a.png"),
        (["1.2.7.png"], "1.2.7.JPG", "1.2.7.png"),
    ],
)
def test_a_dot_in_a_name_is_no_ending(tmp_path, there, asked, found):
    """Study 1.1 is not study 1, and a UID is not the one above it."""
    for name in there:
        (tmp_path / name).touch()
    assert ImageNames(tmp_path).find(asked) == found


def test_a_name_that_climbs_finds_nothing(folder):
    """Backslashes lead nowhere that slashes would not be refused for."""
    assert ImageNames(folder / "p1").find("..\\both.png") is None
    assert ImageNames(folder / "p1").find("../both.png") is None


def test_a_file_that_comes_later_is_found(folder):
    assert find_file(folder / "p1/new.png") is None
    Image.new("L", (32, 32)).save(folder / "p1/NEW.PNG")
    assert find_file(folder / "p1/new.png").name == "NEW.PNG"


def test_training_on_names_of_another_system(tiny_config, phantom, tmp_path):
    """`check` says once how many are spelled otherwise, and of an absent one what is in its place."""
    content = json.loads((phantom / "annotation.json").read_text(encoding="utf-8"))
    for study in content["train"]:
        study["image_path"] = [f".\\{study['image_path'][0].replace('.png', '.PNG')}"]
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    lines = inspect(load_settings(tiny_config, [f"data.annotation={path}"]), training=True)
    assert not [line for line in lines if line.level == "error"]
    (told,) = [line.what for line in lines if "named otherwise" in line.what]
    assert told.startswith(f"{len(content['train'])} images") and "backslashes between folders and capitals" in told
    content["train"][0]["image_path"] = [f"images\\{content['train'][0]['image_path'][0][2:]}"]
    path.write_text(json.dumps(content), encoding="utf-8")
    lines = inspect(load_settings(tiny_config, [f"data.annotation={path}"]), training=True)
    (told,) = [line.what for line in lines if line.level == "error"]
    assert "1 of" in told and "leave images/ out of the name" in told


def test_one_image_in_two_spellings_is_a_leak(tmp_path):
    parts = [
        Part("set", tmp_path, [Study(id="a", image_path=(name,), report="")])
        for name in ("m\u00fcller\\a.png", "mu\u0308ller/a.png")
    ]
    assert _paths(parts[0]) == _paths(parts[1])


def test_what_is_told_of_a_place_that_is_nowhere():
    assert "/ has no folder no-such-place-1" in why_absent("/no-such-place-1/at/all.png")


def test_a_name_that_is_the_folder_itself_is_no_file(tmp_path):
    """ "." is how some programs write a missing value."""
    assert ImageNames(tmp_path).find(".") is None and find_file(tmp_path / ".") is None
