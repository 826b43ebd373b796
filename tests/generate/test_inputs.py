"""Which images a command line names."""

import pytest
from PIL import Image

from revtaf.errors import UserError
from revtaf.generate.inputs import Wanted, find_images
from revtaf.generate.journal import Journal
from revtaf.generate.result import ImageReport


@pytest.fixture
def folder(tmp_path):
    """Three images by their names, and what is none."""
    place = tmp_path / "Röntgen Bilder"
    for name in ("b.PNG", "deep/Mäuse 1.jpg", "IM0001", "notes.txt", ".hidden.png", ".trash/x.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    return place


def test_a_folder_is_its_images_by_name(folder):
    """At any depth; a DICOM file may have no suffix; notes and hidden files are left alone. Each once."""
    expected = [folder / name for name in ("IM0001", "b.PNG", "deep/Mäuse 1.jpg")]
    assert [one.image for one in find_images([folder])] == expected
    assert [one.image for one in find_images([folder / "b.PNG", folder])] == [expected[1], expected[0], expected[2]]


def test_a_list_names_images_relative_to_itself_and_their_references(folder):
    """With a byte order mark, commas in a report, an empty reference; a reference counts wherever it stands."""
    text = 'id,image,reference\n1,b.PNG,"No edema, no effusion."\n2,deep/Mäuse 1.jpg,\n'
    (folder / "list.csv").write_text(text, encoding="utf-8-sig")
    expected = [Wanted(folder / "b.PNG", "No edema, no effusion."), Wanted(folder / "deep/Mäuse 1.jpg")]
    assert find_images([folder / "list.csv"]) == expected
    assert find_images([folder / "b.PNG", folder / "list.csv"]) == expected


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_list_of_any_spreadsheet_is_read(folder, mark, line_end):
    """Excel writes semicolons where the decimal mark is a comma, its own line ends, and a byte order mark."""
    rows = (("id", "image", "reference"), ("1", "b.PNG", '"No edema, no effusion; clear."'))
    (folder / "list.csv").write_bytes(line_end.join(map(mark.join, rows)).encode("utf-8-sig"))
    assert find_images([folder / "list.csv"]) == [Wanted(folder / "b.PNG", "No edema, no effusion; clear.")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Image,reference\na.png,x\n", "no column 'image' in line 1; did you mean 'Image'"),
        ("image,reference\n", "the list has no row"),
        ("image,reference\na.png,x\n,y\n", "line 3: no image is named"),
        (b"image\n\xff\xfe\n", "line 2: not UTF-8 text"),
        (
            "image\nGr\u00f6\u00dfe.png\n".encode("cp1252"),
            "line 2: not UTF-8 text .*Gr\u00f6\u00dfe.png.*save the whole file as UTF-8",
        ),
        ("image\na.png\n".encode("utf-16"), "UTF-16 text, not utf-8; save"),
        (
            "image;reference\na.png;No edema; no effusion.\n",
            "line 2: expected 2 values .* put texts with ';' in double",
        ),
    ],
)
def test_a_list_that_is_none_is_refused_by_line(tmp_path, content, says):
    """Before a model is opened."""
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=says):
        find_images([path])


def test_a_name_that_is_not_there_and_a_folder_without_images_are_refused(tmp_path):
    """A typing error is no unreadable image."""
    with pytest.raises(UserError, match="image not found"):
        find_images([tmp_path / "x.png"])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no image in this folder"):
        find_images([tmp_path])


def test_work_that_was_not_begun_stands_in_nobody_s_way(tmp_path):
    """Another command after one that was refused before its first report; with a report it is refused."""
    Journal(tmp_path, {"asked": 1})
    second = Journal(tmp_path, {"asked": 2})
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    second.add(ImageReport(tmp_path / "a.png", None, "Normal."))
    with pytest.raises(UserError, match="another command"):
        Journal(tmp_path, {"asked": 3})


def test_an_image_under_a_name_that_the_disk_spells_otherwise_is_done_again(tmp_path):
    """The list says a.png, the disk has a.PNG: a changed file is seen all the same."""
    asked = tmp_path / "a.png"
    Image.new("L", (64, 64)).save(tmp_path / "a.PNG", format="png")
    Journal(tmp_path, {}).add(ImageReport(asked, None, "Old."))
    assert Journal(tmp_path, {}).done[asked].report == "Old."
    Image.new("L", (65, 64), 9).save(tmp_path / "a.PNG", format="png")
    assert Journal(tmp_path, {}).done == {}
