"""Open-i's raw files: what is read from the XML, which image comes first, splits, and what is refused."""

import csv
import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest
from open_i_files import FRONTAL, LATERAL, OTHER, make_archive, xml
from refused import refuse

from revtaf.config import DataSettings
from revtaf.config_file import load_settings
from revtaf.data.annotations import load_annotations
from revtaf.data.sources.iu_xray import prepare as iu_xray
from revtaf.data.sources.iu_xray.open_i import find_images, frontal_first, image_key, read_open_i
from revtaf.data.sources.iu_xray.prepare import prepare_iu_xray
from revtaf.data.sources.iu_xray.raw import drop_blanks
from revtaf.data.sources.splits import random_split
from revtaf.errors import UserError
from revtaf.eval.published import printed_on
from revtaf.features.build import select

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("REVTAF_SHARED_DATA", ROOT.parent / "shared" / "data"))


def make_images(folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"pixels of " + name.encode())


@pytest.fixture
def source(tmp_path):
    """Three studies with a frontal and a lateral image each, named as in NLMCXR_png.tgz."""
    folder = tmp_path / "raw"
    folder.mkdir()
    make_archive(folder, {number: xml(number) for number in (1, 2, 10)})
    make_images(folder / "NLMCXR_png", [f"CXR{n}_IM-{n:04d}-{s}.png" for n in (1, 2, 10) for s in (1001, 2001)])
    return folder


def prepared(source, out, **options):
    return load_annotations(prepare_iu_xray(source, out, **{"split": "whole"} | options))


def contents(folder):
    """The hash of every file, without those behind a link."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_field_of_a_report_is_read_packed_or_not(source, tmp_path):
    packed, place = read_open_i(source)
    assert place == source / "ecgen-radiology.tgz"
    report = packed["CXR2"]
    assert (report.findings, report.impression) == ("The lungs are clear.", "Normal chest.")
    assert (report.indication, report.comparison) == ("Cough and XXXX.", "None.")
    assert (report.mesh_major, report.mesh_automatic) == (("Lung/clear", "Heart, Normal"), ("lung",))
    assert report.images[0] == ("CXR2_IM-0002-1001", "Chest, two views", FRONTAL)
    assert report.study_id == "CXR2_IM-0002"
    for name in ("NLMCXR_reports.tgz", "ecgen-radiology"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        if name.endswith("tgz"):
            make_archive(folder, {n: xml(n) for n in (10, 2, 1)}, name)
        else:
            (folder / name).mkdir()
            for n in (1, 2, 10):
                (folder / name / f"{n}.xml").write_text(xml(n))
        assert read_open_i(folder)[0] == packed


@pytest.mark.parametrize(
    "name",
    ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-3001.png", "1_IM-0001-3001.jpg", "1_IM-0001-3001.dcm.png"],
)
def test_all_names_of_one_image_have_one_key(name):
    assert image_key(name) == "1_IM-0001-3001"
    assert image_key("CXR3029_IM-1404-1001.PNG") == "3029_IM-1404-1001" != image_key(name)


def test_frontal_images_come_first_then_unknown_then_lateral_as_listed(source):
    make_archive(source, {1: xml(1, images=((1, LATERAL), (2, OTHER), (3, FRONTAL), (4, OTHER), (5, "f0p0k184")))})
    images = read_open_i(source)[0]["CXR1"].images
    assert [image.name[-1] for image in frontal_first(images, {})] == list("35241")
    views = {"1_IM-0001-1": 0, "1_IM-0001-3": 2}  # the projections file overrules the edge word
    assert [image.name[-1] for image in frontal_first(images, views)] == list("15243")


def test_whole_is_test_with_all_images_and_no_labels(source, tmp_path, capsys):
    make_archive(source, {1: xml(1), 2: xml(2, images=((1001, LATERAL), (2001, FRONTAL))), 10: xml(10)})
    annotations = prepared(source, tmp_path / "out")
    assert list(annotations) == ["test"]
    studies = annotations["test"]
    assert [s.id for s in studies] == ["CXR1_IM-0001", "CXR2_IM-0002", "CXR10_IM-0010"]  # by number, not by text
    assert studies[1].image_path == ("CXR2_IM-0002-2001.png", "CXR2_IM-0002-1001.png")
    assert (studies[0].subject_id, studies[0].indication, studies[0].labels) == ("CXR1", "Cough and XXXX.", ())
    assert all((tmp_path / "out/images" / path).is_file() for s in studies for path in s.image_path)
    assert "test 3" in capsys.readouterr().out


def test_flat_jpeg_names_are_found_too_and_png_goes_before_jpeg(source, tmp_path):
    for path in (source / "NLMCXR_png").iterdir():
        path.unlink()
    (source / "NLMCXR_png").rmdir()
    make_images(source / "images", [f"{n}_IM-{n:04d}-{s}.jpg" for n in (1, 2, 10) for s in (1001, 2001)])
    make_images(source / "images", ["1_IM-0001-1001.dcm.png"])
    first = prepared(source, tmp_path / "out")["test"][0]
    assert first.image_path == ("1_IM-0001-1001.dcm.png", "1_IM-0001-2001.jpg")
    assert find_images(source)[0] == source / "images"


def test_the_random_split_is_70_10_20_and_no_option_moves_a_report(source, tmp_path):
    numbers = [f"CXR{n}" for n in range(4000)]
    drawn = [random_split(number, 0) for number in numbers]
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert abs(drawn.count(split) / len(drawn) - share) < 0.02
    assert drawn != [random_split(number, 1) for number in numbers]
    make_archive(source, {n: xml(n) for n in range(1, 30)})
    make_images(source / "NLMCXR_png", [f"CXR{n}_IM-{n:04d}-1001.png" for n in range(1, 30)])
    everything = prepared(source, tmp_path / "a", split="random", missing="drop", seed=5)
    for n in range(3, 30, 2):
        (source / f"NLMCXR_png/CXR{n}_IM-{n:04d}-1001.png").unlink()
    fewer = prepared(source, tmp_path / "b", split="random", missing="drop", seed=5)
    assert sum(map(len, fewer.values())) == 15 and list(everything) == ["train", "val", "test"]
    for split, studies in fewer.items():
        assert {s.id for s in studies} <= {s.id for s in everything[split]}
        assert all(random_split(s.subject_id, 5) == split for s in studies)


def test_a_split_file_gives_ids_and_splits_alone(source, tmp_path, capsys):
    split = tmp_path / "r2gen.json"
    entries = [
        {"id": "CXR10_IM-0010", "report": "The lungs  are clear."},
        {"id": "CXR7_IM-0007"},
        {"id": "CXR2_IM-0002", "report": "Other words.", "image_path": ["elsewhere/0.png"], "indication": "Other."},
    ]
    split.write_text(json.dumps({"train": entries[:2], "val": entries[2:]}))
    annotations = prepared(source, tmp_path / "out", split=str(split))
    assert {name: [s.id for s in part] for name, part in annotations.items()} == {
        "train": ["CXR10_IM-0010"],
        "val": ["CXR2_IM-0002"],
    }
    assert annotations["val"][0].report == "The lungs are clear."
    assert annotations["val"][0].indication == "Cough and XXXX."
    assert annotations["val"][0].image_path == ("CXR2_IM-0002-1001.png", "CXR2_IM-0002-2001.png")
    told = capsys.readouterr().out
    assert "1 of 3 ids are not in" in told and "CXR7_IM-0007" in told
    assert "1 of 3 texts differ" in told and "(CXR2_IM-0002)" in told
    extra = tmp_path / "test.json"
    extra.write_text(json.dumps([{"id": "CXR1_IM-0001"}]))
    annotations = prepared(source, tmp_path / "out", split=str(split), test=extra)
    assert [s.id for s in annotations["test"]] == ["CXR1_IM-0001"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There are no XXXX of edema.", "There are no of edema."),
        ("Seen in the XXXX XXXX.", "Seen in the."),
        ("Normal chest x-XXXX.", "Normal chest x-."),
        ("A nodule of  .5 cm (XXXX), stable.", "A nodule of .5 cm (), stable."),
        ("XXXX-year-old, cough", "-year-old, cough"),
        ("XXXX. XXXX/XXXX", ""),
    ],
)
def test_dropped_blanks_leave_single_blanks_and_no_bare_punctuation(text, expected):
    assert drop_blanks(text) == expected


def test_blanks_and_sections_change_the_report_but_not_the_manifest(source, tmp_path):
    make_archive(source, {1: xml(1, "No XXXX effusion."), 2: xml(2, "XXXX."), 10: xml(10, impression="")})
    published = prepared(source, tmp_path / "a")["test"]
    assert [s.report for s in published] == ["No XXXX effusion.", "The lungs are clear."]  # "XXXX." says nothing
    dropped = prepared(source, tmp_path / "b", blanks="drop", sections="findings+impression")["test"]
    # "XXXX." says nothing, but its study has an impression
    assert [s.report for s in dropped] == ["No effusion. Normal chest.", "Normal chest.", "The lungs are clear."]
    assert dropped[0].indication == "Cough and."
    with gzip.open(tmp_path / "b/manifest.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "id": "CXR1_IM-0001",
        "images": "CXR1_IM-0001-1001.png;CXR1_IM-0001-2001.png",
        "findings": "No XXXX effusion.",
        "impression": "Normal chest.",
        "indication": "Cough and XXXX.",
        "comparison": "None.",
        "mesh_major": "Lung/clear;Heart, Normal",
        "mesh_automatic": "lung",
        "split": "test",
    }


@pytest.mark.parametrize("said", ["See Imp.", "None.", "XXXX XXXX.", "As dictated.", "n.a.", "To follow."])
def test_findings_that_say_nothing_are_dropped_and_counted(source, tmp_path, capsys, said):
    make_archive(source, {1: xml(1, said), 2: xml(2), 10: xml(10)})
    assert [s.subject_id for s in prepared(source, tmp_path / "a")["test"]] == ["CXR2", "CXR10"]
    assert "dropped 1 studies without findings" in capsys.readouterr().out


def test_studies_without_images_or_text_are_dropped_and_counted_by_reason(source, tmp_path, capsys):
    empty = {n: xml(n, " "[: n % 2], impression="") for n in (3, 4, 10)}
    make_archive(source, {1: xml(1), 2: xml(2, images=()), **empty})
    for sections in ("findings", "findings+impression"):
        out = tmp_path / sections
        assert [s.id for s in prepared(source, out, sections=sections)["test"]] == ["CXR1_IM-0001"]
        told = capsys.readouterr().out
        assert "dropped 1 studies without images" in told and f"dropped 3 studies without {sections}\n" in told
        record = json.loads((out / "source.json").read_text())
        assert record["dropped"] == {f"without {sections}": 3, "without images": 1}


def test_an_impression_alone_is_a_report_where_both_sections_are_asked_for(source, tmp_path):
    """As in MIMIC-CXR: the option means the same in both sets."""
    make_archive(source, {1: xml(1), 2: xml(2, "")})
    assert [s.id for s in prepared(source, tmp_path / "a")["test"]] == ["CXR1_IM-0001"]
    reports = [s.report for s in prepared(source, tmp_path / "b", sections="findings+impression")["test"]]
    assert reports == ["The lungs are clear. Normal chest.", "Normal chest."]


def test_missing_images_are_listed_or_left_out(source, tmp_path, capsys):
    for name in ("CXR1_IM-0001-1001.png", "CXR2_IM-0002-1001.png", "CXR2_IM-0002-2001.png"):
        (source / "NLMCXR_png" / name).unlink()
    with pytest.raises(UserError, match=r"3 of 6 images are missing: CXR1_IM-0001-1001, .*--missing drop"):
        prepared(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    studies = prepared(source, tmp_path / "out", missing="drop")["test"]
    assert [s.image_path for s in studies] == [
        ("CXR1_IM-0001-2001.png",),
        ("CXR10_IM-0010-1001.png", "CXR10_IM-0010-2001.png"),
    ]
    assert "dropped 1 studies without an image file" in capsys.readouterr().out
    record = json.loads((tmp_path / "out/source.json").read_text())
    assert (record["missing_images"], record["first_image_known_frontal"]) == (3, 1)


def test_the_projections_file_decides(source, tmp_path):
    projections = tmp_path / "indiana_projections.csv"
    projections.write_text(
        "uid,filename,projection\n1,1_IM-0001-2001.dcm.png,Frontal\n1,1_IM-0001-1001.dcm.png,Lateral\n"
    )
    studies = prepared(source, tmp_path / "out", projections=projections)["test"]
    assert studies[0].image_path[0] == "CXR1_IM-0001-2001.png"
    assert studies[1].image_path[0] == "CXR2_IM-0002-1001.png"  # not named in it: the edge word decides


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("uid,filename\n1,1_IM-0001-1001.dcm.png\n", r"p\.csv, line 1: the column 'projection' is missing"),
        ("", "line 1: the column 'filename' is missing"),
        ("uid,filename,projection\n1,1_IM-0001-1001.png,Oblique\n", r"p\.csv, line 2: .*Frontal or Lateral, got 'Ob"),
        ("uid,filename,projection\n1\n", r"p\.csv, line 2: "),
        ("uid,filename,projection\n9,9_IM-9-9.png,Frontal\n", r"p\.csv: names no image of .*ecgen-radiology\.tgz"),
        (b"\xff\xfe", r"p\.csv: not a readable projections file"),
        (None, r"p\.csv: not a readable projections file .*name indiana_projections\.csv"),
    ],
)
def test_bad_projections_are_named(source, tmp_path, content, message):
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        prepared(source, tmp_path / "out", projections=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "half"}, "--split half: expected whole, random or an R2Gen annotation file"),
        ({"split": "whole", "test": Path("t.json")}, r"--test t\.json: .*leave --test out"),
        ({"split": "whole", "annotation": Path("a.json")}, r"--annotation a\.json and --split whole exclude"),
        ({"blanks": "no"}, "--blanks no: expected keep or drop"),
        ({"sections": "impression"}, "--sections impression: expected findings"),
        ({"missing": "skip"}, "--missing skip: expected error or drop"),
    ],
)
def test_bad_options_are_named(source, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepared(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"id": "CXR7_IM-0007"}], r"r\.json: none of its 1 ids is in .*ecgen-radiology\.tgz"),
        ([{"id": "CXR1_IM-0001"}, {"id": "CXR1_IM-0001"}], "ids must be unique"),
        ([{"id": "CXR1_IM-0001"}, {"id": "CXR1"}], "CXR1 appears twice"),
        ([{"id": 1}], r"r\.json: split 'train', entry 0: field 'id'"),
    ],
)
def test_bad_split_files_are_named(source, tmp_path, entries, message):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"train": entries}))
    with pytest.raises(UserError, match=message):
        prepared(source, tmp_path / "out", split=str(path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["annotation.json", "source.json"])
def test_the_split_file_is_never_overwritten(source, tmp_path, name):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / name
    path.write_text(json.dumps({"train": [{"id": "CXR1_IM-0001"}]}))
    with pytest.raises(UserError, match=f"{name} would be overwritten; name another folder"):
        prepared(source, tmp_path / "out", split=str(path))


def test_the_result_is_not_put_inside_the_source(source, tmp_path):
    (source / "ecgen-radiology").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (source / "images").symlink_to(tmp_path / "elsewhere")
    places = [source, *(source / name for name in ("NLMCXR_png", "ecgen-radiology", "images/deep"))]
    for out in (*places, tmp_path / "elsewhere/out"):
        with pytest.raises(UserError, match="which is the source; name another folder"):
            prepared(source, out)
    assert prepared(source, source.parent)  # above it is fine: data/ with data/raw


def test_what_may_not_be_read_is_not_called_absent_or_damaged(source, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/ecgen-radiology").mkdir()
    (tmp_path / "other/ecgen-radiology/1.xml").write_text(xml(1))
    for folder, path in (
        (source, "NLMCXR_png"),
        (tmp_path / "other", "ecgen-radiology"),
        (tmp_path / "other", "ecgen-radiology/1.xml"),
    ):
        with monkeypatch.context() as patch:
            refuse(patch, folder / path)
            with pytest.raises(UserError, match=rf"{path}: cannot be read \(Permission denied\); change its rights"):
                prepared(folder, tmp_path / "out")


def test_absent_archive_and_images_are_named(source, tmp_path):
    for path in (source / "NLMCXR_png").iterdir():
        path.unlink()
    with pytest.raises(
        UserError, match=r"NLMCXR_png: no study .* is left \(3 without an image file\); expected images"
    ):
        prepared(source, tmp_path / "out", missing="drop")
    (source / "NLMCXR_png").rmdir()
    with pytest.raises(UserError, match=r"image folder not found: .*NLMCXR_png or .*unpack NLMCXR_png\.tgz"):
        prepared(source, tmp_path / "out")
    (source / "ecgen-radiology.tgz").unlink()
    with pytest.raises(UserError, match="no Open-i reports in it; expected ecgen-radiology.tgz, NLMCXR_reports.tgz or"):
        prepared(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_archive_is_named(source, tmp_path):
    archive = source / "ecgen-radiology.tgz"
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"ecgen-radiology\.tgz: not a readable archive .*download it again"):
        prepared(source, tmp_path / "out")


ENTITY = "<!DOCTYPE a [<!ENTITY b 'c'>]>" + xml(1, "&b;").partition("?>")[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ENTITY, r"1\.xml: declares XML entities"),
        (ENTITY.encode("utf-16"), r"1\.xml: malformed XML"),  # another encoding hides nothing
        (ENTITY.encode("utf-16-be"), r"1\.xml: malformed XML"),
        (" " * (1 << 20) + xml(1), r"1\.xml is larger than"),
        (xml(1).replace("CXR1'", "MPX1'"), r"1\.xml: expected <uId id='CXR"),
        (xml(1)[:-5], r"1\.xml: malformed XML"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_unsafe_or_damaged_reports_are_named(source, tmp_path, content, message, packed):
    content = content if isinstance(content, bytes) else content.encode()
    if packed:
        make_archive(source, {1: content})
    else:
        (source / "ecgen-radiology.tgz").unlink()
        (source / "ecgen-radiology").mkdir()
        (source / "ecgen-radiology/1.xml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepared(source, tmp_path / "out")


def test_an_interrupted_run_started_again_gives_the_same_bytes(source, tmp_path, monkeypatch):
    expected = tmp_path / "expected"
    prepared(source, expected, split="random", copy=True)
    for stage in ("place_images", "write_manifest", "write_json", "save_annotations"):

        def stop(*args, **kwargs):
            raise KeyboardInterrupt

        out = tmp_path / stage
        with monkeypatch.context() as patch:
            patch.setattr(iu_xray, stage, stop)
            with pytest.raises(KeyboardInterrupt):
                prepared(source, out, split="random", copy=True)
        assert not (out / "annotation.json").exists()
        prepared(source, out, split="random", copy=True)
        assert contents(out) == contents(expected)


def test_a_manifest_of_an_earlier_run_does_not_stay_beside_another_source(source, tmp_path):
    prepared(source, tmp_path / "out")
    make_images(source / "images", ["1_IM-0001-1001.jpg"])
    entry = {"id": "CXR1_IM-0001", "image_path": ["1_IM-0001-1001.jpg"], "report": "The lungs are clear."}
    (source / "annotation.json").write_text(json.dumps({"train": [entry]}))
    prepare_iu_xray(source, tmp_path / "out")
    assert not (tmp_path / "out/manifest.csv.gz").exists()


@pytest.fixture(scope="module")
def real():
    folder = SHARED / "iu_xray"
    if not (folder / "annotation.json").is_file() or not (folder / "ecgen-radiology.tgz").is_file():
        pytest.skip(f"no IU X-Ray at {folder}; set REVTAF_SHARED_DATA to the folder that holds iu_xray/")
    return folder


def test_real_findings_are_the_published_reports(real):
    """All 2,357 texts of R2Gen's train and val are the XML's findings; one has doubled blanks, none other words."""
    reports, _ = read_open_i(real)
    annotation = json.loads((real / "annotation.json").read_text())
    entries = [entry for part in annotation.values() for entry in part]
    originals = [reports[entry["id"].split("_")[0]] for entry in entries]
    assert [r.study_id for r in originals] == [entry["id"] for entry in entries]
    assert [r.findings for r in originals] == [" ".join(entry["report"].split()) for entry in entries]
    assert [e["id"] for r, e in zip(originals, entries, strict=True) if r.findings != e["report"]] == [
        "CXR1600_IM-0390"
    ]
    assert [r.impression for r in originals] == [" ".join(entry["impression"].split()) for entry in entries]
    assert [list(r.mesh_major) for r in originals] == [
        [" ".join(term.split()) for term in entry["mesh"]] for entry in entries
    ]


def test_real_frontal_images_come_first(real):
    """The agreement that the module documents, and that listing order alone would be much worse."""
    reports, _ = read_open_i(real)
    annotation = json.loads((real / "annotation.json").read_text())
    agree = {}
    for split, entries in annotation.items():
        known = [(reports[entry["id"].split("_")[0]].images, image_key(entry["image_path"][0])) for entry in entries]
        agree[split] = sum(frontal_first(images, {})[0].key == frontal for images, frontal in known)
        agree[split, "listed"] = sum(images[0].key == frontal for images, frontal in known)
    assert agree == {"train": 2031, "val": 291, ("train", "listed"): 1822, ("val", "listed"): 263}


def test_real_raw_files_give_what_the_package_gives(real, tmp_path):
    """With the same split, both ways to prepare give the same ids, splits, reports, indications and first images."""
    package = load_annotations(prepare_iu_xray(real, tmp_path / "package"))
    split = str(real / "annotation.json")
    raw = prepared(real, tmp_path / "raw", split=split, missing="drop")
    assert {name: [s.id for s in part] for name, part in raw.items()} == {
        name: [s.id for s in part] for name, part in package.items()
    }
    for name, part in package.items():
        for ours, theirs in zip(raw[name], part, strict=True):
            assert ours.report == " ".join(theirs.report.split())
            assert ours.indication == " ".join(theirs.indication.split())
            assert ours.image_path[0] == theirs.image_path[0]
            assert (ours.subject_id, ours.study_id) == (theirs.subject_id, theirs.study_id)
    record = json.loads((tmp_path / "raw/source.json").read_text())
    assert record["split"]["absent"] == record["split"]["reworded"] == 0 and record["dropped"] == {}
    first = contents(tmp_path / "raw")
    prepared(real, tmp_path / "raw", split=split, missing="drop")
    assert contents(tmp_path / "raw") == first


def test_the_whole_set_is_the_same_set_however_it_is_split(source, tmp_path):
    """`--split whole` makes one split and `random` three: `data.test_split=whole` tests all of either, and the paper's
    rows on IU X-Ray stand beside both, also where the splits are named one by one."""
    found = []
    for split in ("whole", "random"):
        path = prepare_iu_xray(source, tmp_path / split, split=split)
        data = DataSettings(name="iu_xray", annotation=path, test_split="whole")
        annotations = load_annotations(path)
        found.append({study.id for study in select(annotations, "whole", data)})
        assert (
            printed_on(data) == "iu_xray" == printed_on(data.model_copy(update={"test_split": "+".join(annotations)}))
        )
    assert found[0] == found[1] and len(found[0]) == 3
    assert printed_on(data.model_copy(update={"max_samples": 2})) is None
    assert load_settings(ROOT / "configs" / "iu_xray.yaml").data.test_split == "whole"
    with pytest.raises(UserError, match="no study in split 'val'; .*whole means all of it"):
        select({"test": annotations[next(iter(annotations))]}, "val+test", data)
