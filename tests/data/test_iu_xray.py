"""R2Gen's package: both image layouts, the XML read in place, bad input named, nothing half-written."""

import errno
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from refused import refuse

from revtaf.data.annotations import load_annotations
from revtaf.data.sources.iu_xray import prepare as iu_xray
from revtaf.data.sources.iu_xray.prepare import prepare_iu_xray
from revtaf.errors import UserError

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("REVTAF_SHARED_DATA", ROOT.parent / "shared" / "data"))


def study(number, report="The lungs are clear.", layout="flat", **fields):
    sample = f"CXR{number}_IM-{number:04d}"
    flat = [f"{number}_IM-{number:04d}-1001.jpg"]
    paths = flat if layout == "flat" else [f"{sample}/0.png", f"{sample}/1.png"]
    return {"id": sample, "image_path": paths, "report": report, **fields}


def make_source(folder, splits, without=()):
    for entry in (s for studies in splits.values() for s in studies):
        for path in entry["image_path"]:
            if path not in without:
                (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / "images" / path).write_bytes(b"pixels of " + path.encode())
    (folder / "annotation.json").write_text(json.dumps(splits))
    return folder


def xml(number, findings="The lungs are clear.", indication="Cough."):
    return (
        f"<eCitation><uId id='CXR{number}'/><MedlineCitation><Abstract>"
        f"<AbstractText Label='INDICATION'>{indication}</AbstractText>"
        f"<AbstractText Label='FINDINGS'>{findings}</AbstractText></Abstract></MedlineCitation>"
        f"<parentImage id='CXR{number}_1_IM-{number:04d}-1001'/></eCitation>"
    )


def make_archive(folder, members):
    with tarfile.open(folder / "ecgen-radiology.tgz", "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def source(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.mark.parametrize("layout", ["flat", "r2gen"])
def test_both_image_layouts_give_loadable_annotations(source, tmp_path, layout, capsys):
    splits = {
        "train": [study(1, "Mild edema.", layout), study(2, layout=layout)],
        "val": [study(3, layout=layout, indication="Fever.")],
    }
    make_source(source, splits)
    path = prepare_iu_xray(source, tmp_path / "out")
    annotations = load_annotations(path)
    assert {split: len(studies) for split, studies in annotations.items()} == {"train": 2, "val": 1}
    first = annotations["train"][0]
    assert (first.subject_id, first.study_id) == ("CXR1", "CXR1_IM-0001")
    assert first.report == "Mild edema."
    assert not any(s.labels for studies in annotations.values() for s in studies)  # labels are made later
    assert annotations["val"][0].indication == "Fever."
    for entry in (s for studies in annotations.values() for s in studies):
        assert all((path.parent / "images" / image).is_file() for image in entry.image_path)
    record = json.loads((path.parent / "source.json").read_text())
    assert record["studies"] == {"train": 2, "val": 1}
    assert "train 2, val 1" in capsys.readouterr().out


def test_the_link_and_the_copy_replace_each_other(source, tmp_path):
    make_source(source, {"train": [study(1, layout="r2gen")]})
    out = tmp_path / "out"
    prepare_iu_xray(source, out)
    assert (out / "images").is_symlink()
    prepare_iu_xray(source, out)  # again: the same result
    prepare_iu_xray(source, out, copy=True)
    assert not (out / "images").is_symlink()
    assert (out / "images/CXR1_IM-0001/1.png").read_bytes() == b"pixels of CXR1_IM-0001/1.png"
    with pytest.raises(UserError, match="--copy"):
        prepare_iu_xray(source, out)
    assert (source / "images/CXR1_IM-0001/1.png").is_file()
    (source / "images/CXR1_IM-0001/1.png").write_bytes(b"others")
    prepare_iu_xray(source, out, copy=True)  # our own copy may be replaced
    assert (out / "images/CXR1_IM-0001/1.png").read_bytes() == b"others"


@pytest.mark.parametrize("copy", [False, True])
def test_a_folder_that_was_not_made_here_is_never_replaced(source, tmp_path, copy):
    make_source(source, {"train": [study(1)]})
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / "images/mine.png").write_bytes(b"the only one")
    (out / "annotation.json").write_text("{}")
    for copied in ({}, {"images": "copy"}):  # a record of an older run is no proof
        (out / "source.json").write_text(json.dumps({"source": "IU X-Ray (Open-i)", "studies": {}} | copied))
        with pytest.raises(UserError, match="out/images is a folder already, and no copy made here; move it away"):
            prepare_iu_xray(source, out, copy=copy)
        assert [p.name for p in (out / "images").iterdir()] == ["mine.png"]
    assert (out / "annotation.json").read_text() == "{}"


@pytest.mark.parametrize("copy", [False, True])
def test_originals_that_lie_where_the_images_go_are_never_replaced(source, tmp_path, copy):
    """Also not where they bear the mark of a copy."""
    make_source(source, {"train": [study(1), study(2)]})
    place = tmp_path / "out/images"
    place.parent.mkdir()
    (source / "images").rename(place)
    (source / "images").symlink_to(place)
    before = sorted(place.iterdir())
    with pytest.raises(UserError, match="out/images is the source of the images itself"):
        prepare_iu_xray(source, tmp_path / "out", copy=copy)
    (place / ".revtaf-copy").touch()
    with pytest.raises(UserError, match="out/images is the source of the images itself"):
        prepare_iu_xray(source, tmp_path / "out", copy=copy)
    assert [p for p in sorted(place.iterdir()) if p.name != ".revtaf-copy"] == before


def test_a_file_in_the_place_of_a_folder_is_named_and_the_other_way_round(source, tmp_path):
    make_source(source, {"train": [study(1)]})
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/deep/out"):
        with pytest.raises(UserError, match=r"--out .*: \S*/file is a file; name another folder"):
            prepare_iu_xray(source, out)
    for name in ("annotation.json", "manifest.csv.gz", "source.json"):
        (tmp_path / name / name).mkdir(parents=True)
        with pytest.raises(UserError, match=f"{name} is a folder, expected a file; move it away"):
            prepare_iu_xray(source, tmp_path / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images").touch()
    with pytest.raises(UserError, match="out/images is a file; move it away"):
        prepare_iu_xray(source, tmp_path / "out")


def test_an_image_that_may_not_be_read_and_a_place_without_rights_are_told_apart(source, tmp_path, monkeypatch):
    make_source(source, {"train": [study(1)]})
    with monkeypatch.context() as patch:
        refuse(patch, source / "images/1_IM-0001-1001.jpg")
        with pytest.raises(UserError, match=r"raw/images/1_IM-0001-1001.jpg: cannot be read .*; change its rights"):
            prepare_iu_xray(source, tmp_path / "out", copy=True)
    assert not list((tmp_path / "out").iterdir())
    for code, message in (
        (errno.EACCES, r"cannot write \S*out/images \(Permission denied\); name another --out$"),
        (errno.EROFS, r"cannot write \S*out/images \(Read-only file system\); name another --out$"),
        (errno.EPERM, r"cannot link \S*out/images .*; prepare with --copy$"),  # a file system without links
    ):

        def fails(target, link, *_, code=code, **__):
            raise OSError(code, os.strerror(code), target, None, link)

        with monkeypatch.context() as patch:
            patch.setattr(os, "symlink", fails)
            with pytest.raises(UserError, match=message):
                prepare_iu_xray(source, tmp_path / "out")


def test_an_image_name_that_is_too_long_is_missing(source, tmp_path):
    make_source(source, {"train": [study(1)]})
    (source / "annotation.json").write_text(json.dumps({"train": [study(1) | {"image_path": ["a" * 300 + ".png"]}]}))
    with pytest.raises(UserError, match="1 of 1 images are missing: aaa"):
        prepare_iu_xray(source, tmp_path / "out")


def test_an_interrupted_run_leaves_no_annotation_beside_other_images(source, tmp_path, monkeypatch):
    """The old annotation goes before the images change."""
    make_source(source, {"train": [study(1)]})
    prepare_iu_xray(source, tmp_path / "out")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(iu_xray, "place_images", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_iu_xray(source, tmp_path / "out", copy=True)
    assert not (tmp_path / "out/annotation.json").exists() and (tmp_path / "out/images").is_symlink()


def test_missing_images_are_listed_and_counted_and_nothing_is_written(source, tmp_path):
    studies = [study(number) for number in range(1, 10)]
    make_source(source, {"train": studies}, without={s["image_path"][0] for s in studies[1:]})
    with pytest.raises(UserError, match=r"8 of 9 images are missing: 2_IM-0002-1001.jpg, .*6_IM.*, \.\.\.$"):
        prepare_iu_xray(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_empty_reports_are_dropped_counted_and_need_no_image(source, tmp_path, capsys):
    make_source(
        source,
        {"train": [study(1), study(2, "  "), study(3, "None. See impression."), study(4, "XXXX."), study(5, "Same.")]},
        without={"2_IM-0002-1001.jpg"},
    )
    path = prepare_iu_xray(source, tmp_path / "out")
    assert [s.id for s in load_annotations(path)["train"]] == ["CXR1_IM-0001"]
    assert "dropped 4 studies whose report is empty or says nothing" in capsys.readouterr().out


def test_a_test_split_is_written_only_when_given(source, tmp_path):
    make_source(source, {"train": [study(1)], "val": [study(2)], "test": []})
    assert "test" not in load_annotations(prepare_iu_xray(source, tmp_path / "a"))
    (source / "images/3_IM-0003-1001.jpg").write_bytes(b"pixels")
    extra = tmp_path / "test.json"
    extra.write_text(json.dumps([study(3)]))  # a flat list is a test split
    annotations = load_annotations(prepare_iu_xray(source, tmp_path / "b", test=extra))
    assert [s.id for s in annotations["test"]] == ["CXR3_IM-0003"]
    extra.write_text(json.dumps({"test": [study(1)]}))
    with pytest.raises(UserError, match="ids must be unique.*CXR1_IM-0001"):
        prepare_iu_xray(source, tmp_path / "c", test=extra)


def test_the_source_is_never_overwritten(source, tmp_path):
    make_source(source, {"train": [study(1)]})
    before = (source / "annotation.json").read_bytes()
    (tmp_path / "link").symlink_to(source)
    for out in (source, tmp_path / "link", source / "images" / ".."):
        with pytest.raises(UserError, match="name another folder"):
            prepare_iu_xray(source, out)
    assert (source / "annotation.json").read_bytes() == before


@pytest.mark.parametrize("packed", [True, False])
def test_the_xml_fills_missing_indications_only(source, tmp_path, packed, capsys):
    make_source(source, {"train": [study(1, indication="Fever."), study(2)], "val": [study(3)]})
    members = {f"ecgen-radiology/{n}.xml": xml(n, indication=f"Cough  {n}.") for n in (1, 2, 3)}
    if packed:
        make_archive(source, {**members, "ecgen-radiology/README": "not a report"})
    else:
        (source / "ecgen-radiology").mkdir()
        for name, text in members.items():
            (source / name).write_text(text)
    path = prepare_iu_xray(source, tmp_path / "out")
    annotations = load_annotations(path)
    assert [s.indication for s in annotations["train"]] == ["Fever.", "Cough 2."]
    assert annotations["val"][0].indication == "Cough 3."
    assert "3 of 3 studies agree" in capsys.readouterr().out
    assert sorted(p.name for p in path.parent.iterdir()) == ["annotation.json", "images", "source.json"]


def test_differences_with_the_xml_are_told_and_a_foreign_archive_is_refused(source, tmp_path, capsys):
    make_source(source, {"train": [study(n) for n in range(1, 7)]})
    members = {f"{n}.xml": xml(n, "Other words." if n == 2 else "The lungs are clear.") for n in (1, 2, 4, 5)}
    other = {"6.xml": xml(6).replace("IM-0006", "IM-9999")}
    make_archive(source, {**members, **other})
    record = json.loads(prepare_iu_xray(source, tmp_path / "out").with_name("source.json").read_text())
    assert record["open_i"] == {"agree": 3, "absent": 1, "reworded": 1, "other_images": 1}
    told = capsys.readouterr().out
    assert all(sample in told for sample in ("CXR2_IM-0002", "CXR3_IM-0003", "CXR6_IM-0006"))
    make_archive(source, {"1.xml": xml(1)})
    with pytest.raises(UserError, match="disagree on 5 of 6"):
        prepare_iu_xray(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ecgen-radiology/1.xml": "<eCitation><uId id='CXR1'>"}, r"ecgen-radiology/1\.xml: malformed XML"),
        ({"1.xml": "<eCitation/>"}, r"1\.xml: expected <uId"),
        ({"../1.xml": xml(1)}, r"member name '\.\./1\.xml' leaves the archive"),
        ({"/tmp/1.xml": xml(1)}, "leaves the archive"),
        ({"1.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]>" + xml(1)}, "declares XML entities"),
        ({"a/1.xml": xml(1), "b/1.xml": xml(1)}, "CXR1 appears twice"),
        ({"README": "nothing"}, "no Open-i report"),
    ],
)
def test_bad_archives_are_named(source, tmp_path, members, message):
    make_source(source, {"train": [study(1)]})
    make_archive(source, members)
    with pytest.raises(UserError, match=message):
        prepare_iu_xray(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_archive_is_named(source, tmp_path):
    make_source(source, {"train": [study(1)]})
    make_archive(source, {f"{n}.xml": xml(n, findings=os.urandom(2000).hex()) for n in range(1, 9)})
    archive = source / "ecgen-radiology.tgz"
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UserError, match="ecgen-radiology.tgz: not a readable archive"):
        prepare_iu_xray(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**study(1), "id": "1_IM-0001"}, r"split 'train', entry 1: field 'id': expected an Open-i id"),
        ({**study(1), "image_path": ["../secret.png"]}, r"entry 1 \(id CXR1_IM-0001\): field 'image_path'"),
        ({**study(1), "image_path": ["/etc/secret.png"]}, "field 'image_path'"),
        ({**study(1), "image_path": []}, "field 'image_path'"),
        ({**study(1), "report": 7}, "field 'report': expected a text"),
        ("CXR1", "split 'train', entry 1: expected an object, got str"),
    ],
)
def test_bad_entries_are_named(source, tmp_path, entry, message):
    make_source(source, {"train": [study(9)]})
    (source / "annotation.json").write_text(json.dumps({"train": [study(9), entry]}))
    with pytest.raises(UserError, match=message):
        prepare_iu_xray(source, tmp_path / "out")


def test_missing_source_annotation_and_images_are_named(source, tmp_path):
    with pytest.raises(UserError, match="source folder not found.*nowhere"):
        prepare_iu_xray(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="annotation not found.*annotation.json.*--split whole"):
        prepare_iu_xray(source, tmp_path / "out")
    (source / "annotation.json").write_text(json.dumps({"train": [study(1)]}))
    with pytest.raises(UserError, match="image folder not found.*images"):
        prepare_iu_xray(source, tmp_path / "out")


@pytest.mark.parametrize("option", [{"seed": 1}, {"blanks": "drop"}, {"missing": "drop"}, {"projections": Path("p")}])
def test_options_of_the_raw_files_are_refused_rather_than_ignored(source, tmp_path, option):
    make_source(source, {"train": [study(1)]})
    with pytest.raises(UserError, match="are for Open-i's raw files; add --split"):
        prepare_iu_xray(source, tmp_path / "out", **option)


def test_the_real_collection(tmp_path):
    source = SHARED / "iu_xray"
    if not (source / "annotation.json").is_file():
        pytest.skip(f"no IU X-Ray at {source}; set REVTAF_SHARED_DATA to the folder that holds iu_xray/")
    path = prepare_iu_xray(source, tmp_path / "out")
    annotations = load_annotations(path)
    assert len(annotations["train"]) == 2063 and len(annotations["val"]) == 294
    patients = {split: {s.subject_id for s in studies} for split, studies in annotations.items()}
    assert not patients["train"] & patients["val"]
    assert not any(s.labels for studies in annotations.values() for s in studies)
    record = json.loads((path.parent / "source.json").read_text())
    assert record["open_i"] is None or record["open_i"]["agree"] == 2357
