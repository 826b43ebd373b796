"""MIMIC-CXR source on a miniature release: selection, texts, labels, damaged input, interrupted runs."""

import csv
import gzip
import json
import os
import shutil
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from mimic_files import write_mimic, write_table
from refused import refuse

from revtaf.data.annotations import SPLITS, load_annotations
from revtaf.data.images import read_image
from revtaf.data.sources.mimic_cxr import output as mimic_output
from revtaf.data.sources.mimic_cxr.prepare import OFFICIAL_IMAGES, prepare_mimic_cxr
from revtaf.data.sources.mimic_cxr.reports import MAX_REPORT_BYTES
from revtaf.data.sources.mimic_cxr.sections import extract_sections
from revtaf.data.sources.mimic_cxr.selection import OFFICIAL_STUDIES, select
from revtaf.data.sources.mimic_cxr.tables import Image
from revtaf.errors import UserError

OUR_SPLIT = {"train": "train", "validate": "val", "test": "test"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_mimic(tmp_path_factory.mktemp("mimic"), patients=12)


@pytest.fixture
def files(original, tmp_path):
    """A copy whose tables and reports a test may change; the images are shared."""
    jpg = tmp_path / "jpg"
    jpg.mkdir()
    (jpg / "files").symlink_to(original.jpg / "files")
    for table in original.jpg.glob("*.csv.gz"):
        shutil.copy(table, jpg)
    zipped, tree = tmp_path / "reports.zip", tmp_path / "reports"
    shutil.copy(original.reports_zip, zipped)
    return replace(original, jpg=jpg, reports_zip=zipped, reports_tree=tree, reports=dict(original.reports))


def read_table(path):
    header, *rows = csv.reader(gzip.decompress(path.read_bytes()).decode().splitlines())
    return header, rows


def edit_table(path, change):
    """`change(rows)` edits the rows, given as dicts, in place."""
    header, rows = read_table(path)
    rows = [dict(zip(header, row, strict=True)) for row in rows]
    change(rows)
    write_table(path, header, [[row[name] for name in header] for row in rows])


def manifest(path):
    with gzip.open(path.with_name("manifest.csv.gz"), "rt", newline="") as file:
        return list(csv.DictReader(file))


def all_samples(path):
    return [study for studies in load_annotations(path).values() for study in studies]


def tree_bytes(out):
    """What is in the folder, a link by its target; without a link that a killed run had not yet renamed."""
    found = [p for p in sorted(out.iterdir()) if not p.name.startswith(".images.partial-")]
    return {p.name: p.read_bytes() if p.is_file() else os.readlink(p) for p in found}


def prepare(files, out, **options):
    return prepare_mimic_cxr(files.jpg, files.reports_zip, out, **options)


def test_a_protocol_names_the_samples_of_its_paper(original, tmp_path, capsys):
    """TRRG: every study with a text is one sample with all its images; REVTAF: images with findings, the default. What
    is said beside the protocol replaces its own."""
    studies = prepare(original, tmp_path / "trrg", protocol="trrg")
    said = capsys.readouterr().out
    assert "the trrg protocol's paper: train 222,758, val 1,808, test 3,269" in said
    rows = manifest(studies)
    texts = {r["study_id"]: " ".join(filter(None, (r["findings"], r["impression"]))) for r in rows}
    images = Counter(r["study_id"] for r in rows)
    samples = {s.id: s for s in all_samples(studies)}
    assert set(samples) == {f"s{study}" for study, text in texts.items() if text}
    assert any(not r["findings"] and r["impression"] for r in rows)  # no filter of findings
    for study, text in texts.items():
        if text:
            assert (samples[f"s{study}"].report, len(samples[f"s{study}"].image_path)) == (text, images[study])
    assert json.loads(studies.with_name("source.json").read_text())["options"]["protocol"] == "trrg"
    usual, named = (prepare(original, tmp_path / name, **o) for name, o in (("a", {}), ("b", {"protocol": "revtaf"})))
    assert usual.read_bytes() == named.read_bytes()
    assert "the revtaf protocol's paper: train 270,790" in capsys.readouterr().out
    findings = prepare(original, tmp_path / "c", protocol="trrg", sections="findings")
    assert {s.id for s in all_samples(findings)} < set(samples)
    with pytest.raises(UserError, match="--protocol: expected revtaf, trrg"):
        prepare(original, tmp_path / "d", protocol="medfuse")


def test_known_counts_add_up_to_the_release():
    assert sum(OFFICIAL_IMAGES.values()) == 377_110 and sum(OFFICIAL_STUDIES.values()) == 227_835


def test_the_default_miniature_is_large_enough_for_an_end_to_end_run(tmp_path):
    """As its description promises, whatever the size of the images."""
    files = write_mimic(tmp_path, size=(32, 32))
    with_findings = Counter(i[3] for i in files.images if files.findings[i[1]])
    assert with_findings == {"train": 50, "validate": 12, "test": 12}
    patients = {split: {i[2] for i in files.images if i[3] == split} for split in OUR_SPLIT}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())) == 24


def test_every_image_of_a_study_with_findings_is_a_sample(original, tmp_path, capsys):
    """Ids, order, split, text, labels and patient agree with what the generator wrote down."""
    path = prepare(original, tmp_path / "out", labels="chexpert")
    annotations = load_annotations(path)
    for split in SPLITS:
        expected = [i for i in original.images if OUR_SPLIT[i[3]] == split and original.findings[i[1]]]
        assert [(s.id, s.study_id, s.subject_id) for s in annotations[split]] == [i[:3] for i in expected]
        assert expected
    for study in all_samples(path):
        assert study.report == original.findings[study.study_id]
        assert study.indication == original.indications[study.study_id]
        assert study.labels == original.statuses[study.study_id]
        assert read_image(path.parent / "images" / study.image_path[0]).size == (80, 72)
    assert (path.parent / "images").is_symlink()
    told = capsys.readouterr().out
    assert "more than one split" not in told
    assert "train 368,960, val 2,991, test 5,159" in told and "train 270,790, val 2,130, test 3,858" in told
    assert f"images selected: train {len(annotations['train'])}, val {len(annotations['val'])}" in told


def test_the_manifest_has_one_row_per_image_and_says_why(original, tmp_path):
    path = prepare(original, tmp_path / "out", views="frontal")
    rows = manifest(path)
    assert [tuple(r[n] for n in ("dicom_id", "study_id", "subject_id")) for r in rows] == [
        i[:3] for i in original.images
    ]
    chosen = {study.id for study in all_samples(path)}
    for row, (dicom, study, _, split, view) in zip(rows, original.images, strict=True):
        assert (row["view"], row["split"]) == (view, OUR_SPLIT[split])
        frontal = view in ("PA", "AP", "AP AXIAL")
        assert row["selected"] == ("view" if not frontal else "yes" if original.findings[study] else "no findings")
        assert (row["selected"] == "yes") == (dicom in chosen)
        report = next(text for name, text in original.reports.items() if study in name)
        sections = extract_sections(report)
        assert all(row[name] == getattr(sections, name) for name in vars(sections))
    assert any(row["unsectioned"] for row in rows)
    header = path.with_name("manifest.csv.gz").read_bytes()[:8]
    assert header[3] == 0 and header[4:] == bytes(4)  # no file name, no time
    record = json.loads(path.with_name("source.json").read_text())
    assert record["dropped_images"] == Counter(r["selected"] for r in rows if r["selected"] != "yes")


def test_zip_and_unpacked_tree_give_the_same_bytes(original, tmp_path):
    places = [original.reports_zip, original.reports_tree, original.reports_tree / "files"]
    outs = [prepare_mimic_cxr(original.jpg, place, tmp_path / str(i)).parent for i, place in enumerate(places)]
    for name in ("annotation.json", "manifest.csv.gz"):
        assert len({(out / name).read_bytes() for out in outs}) == 1


def test_unpacked_tables_and_a_newer_release_give_the_same_annotation(files, tmp_path):
    before = prepare(files, tmp_path / "a", labels="negbio").read_bytes()
    for table in list(files.jpg.glob("*.csv.gz")):
        name = table.name.replace("2.0.0", "2.1.0").removesuffix(".gz")
        (files.jpg / name).write_bytes(gzip.decompress(table.read_bytes()))
        table.unlink()
    assert prepare(files, tmp_path / "b", labels="negbio").read_bytes() == before


def test_findings_and_impression_are_joined_and_either_may_be_absent(original, tmp_path):
    path = prepare(original, tmp_path / "out", sections="findings+impression")
    reports = {study.study_id: study.report for study in all_samples(path)}
    rows = {row["study_id"]: row for row in manifest(path)}
    assert {s: f"{rows[s]['findings']} {rows[s]['impression']}".strip() for s in reports} == reports
    both = [bool(rows[s]["findings"]) + 2 * bool(rows[s]["impression"]) for s in reports]
    assert set(both) == {1, 2, 3}


def test_frontal_views():
    """The beam runs front to back: with the patient on the side, too, but not obliquely, and not where unknown."""
    views = ("AP", "PA", "AP AXIAL", "PA LLD", "AP RLD", "LATERAL", "LL", "LAO", "RAO", "LPO", "XTABLE LATERAL", "")
    assert [view for view in views if Image("", "", "", "", view).frontal] == list(views[:5])


def test_an_unknown_view_comes_before_a_lateral_one():
    """As in the other sources; within a view the order of the table stays."""
    images = [Image(name, "1", "1", "train", view) for name, view in (("l", "LATERAL"), ("u", ""), ("v", ""))]
    first = select({"1": images}, views="first")["train"]
    assert [sample.id for sample in first] == ["u"]
    (whole,) = select({"1": images}, one_per_study=True)["train"]
    assert [image.dicom_id for image in whole.images] == ["u", "v", "l"]


def test_views_and_one_sample_per_study(original, tmp_path):
    """Against a selection computed from the generator's own list."""
    by_study = {}
    for dicom, study, *_, view in original.images:
        by_study.setdefault(study, []).append((dicom, view[:2] in ("AP", "PA")))
    with_text = {study: images for study, images in by_study.items() if original.findings[study]}
    first = [next((d for d, frontal in images if frontal), images[0][0]) for images in with_text.values()]
    samples = all_samples(prepare(original, tmp_path / "first", views="first"))
    assert sorted(s.id for s in samples) == sorted(first)

    samples = all_samples(prepare(original, tmp_path / "study", one_image_per_study=True))
    assert {s.id: [Path(p).stem for p in s.image_path] for s in samples} == {
        f"s{study}": [d for d, frontal in sorted(images, key=lambda i: not i[1])] for study, images in with_text.items()
    }
    samples = all_samples(prepare(original, tmp_path / "both", views="frontal", one_image_per_study=True))
    assert {len(s.image_path) for s in samples} == {1, 2} and len(samples) < len(with_text)


def test_first_follows_the_order_of_the_metadata(files, tmp_path):
    edit_table(files.table("metadata"), lambda rows: rows.reverse())
    frontal = {}
    for dicom, study, *_, view in files.images:
        if view[:2] in ("AP", "PA"):
            frontal[study] = dicom  # the last one in the split table
    ids = {s.study_id: s.id for s in all_samples(prepare(files, tmp_path / "out", views="first"))}
    assert all(ids[study] == dicom for study, dicom in frontal.items() if study in ids)


def test_studies_without_a_label_row_are_blank_and_counted_but_only_a_few(files, tmp_path, capsys):
    gone = [study for study in files.findings if files.findings[study]][:3]
    edit_table(files.table("chexpert"), lambda rows: [rows.remove(r) for r in list(rows) if r["study_id"] in gone])
    samples = all_samples(prepare(files, tmp_path / "out", labels="chexpert"))
    assert {s.study_id for s in samples if not any(s.labels)} >= set(gone)
    assert all(s.labels == files.statuses[s.study_id] for s in samples if s.study_id not in gone)
    assert "3 studies have no row" in capsys.readouterr().out
    edit_table(files.table("chexpert"), lambda rows: rows.__delitem__(slice(2, None)))
    with pytest.raises(UserError, match=r"chexpert.csv.gz: \d+ of \d+ studies have no row: 5\d{7}, .*, \.\.\."):
        prepare(files, tmp_path / "again", labels="chexpert")
    assert all(not s.labels for s in all_samples(prepare(files, tmp_path / "none")))


def write_like(files, path, change=lambda splits: None):
    """R2Gen's form, in an order and with splits of its own."""
    splits = {"train": [], "val": [], "test": []}
    for index, (dicom, study, subject, _, _) in enumerate(reversed(files.images)):
        if files.findings[study] and index % 4:
            image = f"p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
            entry = {"id": dicom, "study_id": int(study), "subject_id": int(subject), "image_path": [image]}
            splits[SPLITS[index % 3]].append(entry | {"report": files.findings[study].replace(" ", "\n ")})
    change(splits)
    path.write_text(json.dumps(splits))
    return splits


def test_like_reproduces_ids_splits_and_order_with_our_texts(files, tmp_path, capsys):
    def reword(splits):
        splits["train"][0]["report"] = "Other words."
        del splits["val"][0]["report"]

    splits = write_like(files, tmp_path / "r2gen.json", reword)
    path = prepare(files, tmp_path / "out", like=tmp_path / "r2gen.json")
    annotations = load_annotations(path)
    assert {s: [(i.id, list(i.image_path)) for i in annotations[s]] for s in SPLITS} == {
        s: [(entry["id"], entry["image_path"]) for entry in splits[s]] for s in SPLITS
    }
    assert all(study.report == files.findings[study.study_id] for study in all_samples(path))
    total = sum(map(len, splits.values()))
    where = {(split, study.subject_id) for split in SPLITS for study in annotations[split]}
    told = capsys.readouterr().out
    assert f"{total - 2} of {total - 1} reports equal those of r2gen.json" in told
    leaks = sum(len({split for split, p in where if p == patient}) > 1 for patient in {p for _, p in where})
    assert leaks and f"{leaks} patients are in more than one split" in told
    rows = {row["dicom_id"]: row for row in manifest(path)}
    assert all(rows[e["id"]]["split"] == s and rows[e["id"]]["selected"] == "yes" for s in SPLITS for e in splits[s])
    assert Counter(row["selected"] for row in rows.values())["not in r2gen.json"] == len(rows) - total


def test_like_keeps_its_own_report_only_where_the_raw_one_has_no_such_section(files, tmp_path, capsys):
    dicom = next(i[0] for i in files.images if not files.findings[i[1]])
    write_like(files, tmp_path / "a.json", lambda s: s["test"].append({"id": dicom, "report": "Its own words."}))
    path = prepare(files, tmp_path / "out", like=tmp_path / "a.json")
    assert load_annotations(path)["test"][-1].report == "Its own words."
    assert "1 images keep the report of that file" in capsys.readouterr().out
    assert next(r for r in manifest(path) if r["dicom_id"] == dicom)["selected"].startswith("yes, with the report")
    write_like(files, tmp_path / "a.json", lambda s: s["test"].append({"id": dicom}))
    before = tree_bytes(path.parent)
    with pytest.raises(UserError, match=f"1 of its images have no findings in reports.zip .*: {dicom}"):
        prepare(files, tmp_path / "out", like=tmp_path / "a.json")
    assert tree_bytes(path.parent) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["val"].extend({"id": f"x{n}"} for n in range(7)), r"7 of \d+ ids are not in .*: x0, .*x4, \.\.\."),
        (lambda s: s["val"].append(s["train"][0]), "split 'val', entry .*: the id .* appears twice"),
        (lambda s: s["val"].append({"id": 7}), "split 'val', entry .*: expected an object with a text as 'id'"),
        (lambda s: s["val"].append({"id": "a", "image_path": [1]}), r"\(id a\): field 'image_path'"),
        (lambda s: s["val"].append({"id": "a", "report": 1}), r"\(id a\): field 'report'"),
        (lambda s: [part.clear() for part in s.values()], "no entry in it"),
        (lambda s: s.update(extra=[]), "expected an object with the lists train, val, test"),
        (
            lambda s: s["val"].append(
                {"id": "a", "image_path": s["train"][0]["image_path"] + s["train"][-1]["image_path"]}
            ),
            "several studies",
        ),
    ],
)
def test_bad_annotations_to_follow_are_named(files, tmp_path, change, message):
    write_like(files, tmp_path / "like.json", change)
    with pytest.raises(UserError, match=f"like.json: .*{message}"):
        prepare(files, tmp_path / "out", like=tmp_path / "like.json")
    assert not (tmp_path / "out").exists()


def set_value(index, column, value):
    return lambda rows: rows[index].__setitem__(column, value)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (
            "split",
            set_value(1, "split", "valid"),
            r"line 3: column 'split': expected train, validate, test, got 'valid'",
        ),
        ("split", set_value(1, "study_id", "5.0e7"), r"line 3: column 'study_id': expected a number of eight digits"),
        ("split", set_value(1, "subject_id", ""), r"line 3: column 'subject_id'"),
        ("split", set_value(1, "dicom_id", "../secret"), r"line 3: column 'dicom_id'"),
        ("split", lambda rows: rows.append(rows[0]), r"line \d+: the dicom_id .* appears twice"),
        (
            "split",
            lambda rows: rows[1].update(study_id=rows[0]["study_id"], split="test"),
            "another subject_id or split",
        ),
        ("split", lambda rows: rows.clear(), "no image in it"),
        ("split", lambda rows: rows.__delitem__(slice(20, None)), r"lacks \d+ images of .*metadata.csv.gz: .*download"),
        ("metadata", lambda rows: rows.append(rows[0]), r"line \d+: the dicom_id .* appears twice"),
        ("metadata", lambda rows: rows.pop(), r"lacks 1 images of mimic-cxr-2.0.0-split.csv.gz"),
        ("chexpert", set_value(0, "Edema", "2.0"), r"line 2: column 'Edema': expected 1.0, 0.0, -1.0 or nothing"),
        ("chexpert", set_value(0, "Edema", "yes"), r"line 2: column 'Edema'"),
        ("chexpert", lambda rows: rows.append(rows[0]), r"the study \d+ appears twice"),
    ],
)
def test_bad_rows_are_named(files, tmp_path, table, change, message):
    edit_table(files.table(table), change)
    with pytest.raises(UserError, match=f"mimic-cxr-2.0.0-{table}.csv.gz.*{message}"):
        prepare(files, tmp_path / "out", labels="chexpert")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["split", "metadata", "chexpert"])
def test_damaged_tables_are_named(files, tmp_path, table):
    path = files.table(table)
    header, rows = read_table(path)
    content, text = path.read_bytes(), gzip.decompress(path.read_bytes())

    def fails(message):
        with pytest.raises(UserError, match=rf"mimic-cxr-\S+{table}\S*{message}"):
            prepare(files, tmp_path / "out", labels="chexpert")

    needed = {"split": "split", "metadata": "ViewPosition", "chexpert": "Edema"}[table]
    write_table(path, [name.replace(needed, "other") for name in header], rows)
    fails(f": the column '{needed}' is missing; it has: .*other")
    path.write_bytes(content[: len(content) // 2])
    fails(": damaged or half-downloaded")
    path.write_bytes(b"")
    fails(": the column .* is missing; it has: nothing")
    path.write_bytes(b"<html>not a table</html>")
    fails(": damaged or half-downloaded")
    path.write_bytes(gzip.compress(text + b'"open'))
    fails(": not a CSV table")
    path.write_bytes(gzip.compress(text + b"\xff\xfe"))
    fails(": not a CSV table")
    path.unlink()
    path.with_name(path.name.removesuffix(".gz")).write_bytes(text[: text.rindex(b",")])
    fails(r", line \d+: expected \d+ values, got \d+; download the file again")
    path.write_bytes(content)
    fails(r".csv.gz, found .*; keep one")
    path.unlink()
    path.with_name(path.name.removesuffix(".gz")).unlink()
    fails(".csv.gz, found none; download it")


def test_images_that_are_spelled_otherwise_are_there(original, files, tmp_path):
    """Some systems write .JPG, and who converted the films has PNG; both are linked, and copied under their names."""
    (files.jpg / "files").unlink()
    shutil.copytree(original.jpg / "files", files.jpg / "files")
    for (dicom, study, subject, _, _), ending in zip(files.images, (".JPG", ".png", ".jpeg"), strict=False):
        image = files.jpg / "files" / f"p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
        image.rename(image.with_suffix(ending))
    prepare(files, tmp_path / "out", copy=True)
    for study in load_annotations(tmp_path / "out/annotation.json")["train"]:
        assert all((tmp_path / "out/images" / path).is_file() for path in study.image_path)


def test_missing_images_are_counted_but_those_of_other_views_are_not_needed(original, files, tmp_path):
    (files.jpg / "files").unlink()
    shutil.copytree(original.jpg / "files", files.jpg / "files")
    lateral = [i for i in files.images if i[4] in ("LATERAL", "LL")]
    for dicom, study, subject, _, _ in lateral:
        (files.jpg / "files" / f"p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg").unlink()
    with pytest.raises(
        UserError, match=rf"{len(lateral)} of {len(files.images)} images are missing: p10/p.*\.jpg, \.\.\."
    ):
        prepare(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepare(files, tmp_path / "out", views="frontal")
    _, study, subject, _, _ = files.images[0]
    shutil.rmtree(files.jpg / "files" / f"p{subject[:2]}/p{subject}/s{study}")
    with pytest.raises(UserError, match=f"1 of .* images are missing: p10/p{subject}/s{study}/"):
        prepare(files, tmp_path / "out", views="frontal")


def test_blank_lines_at_the_end_of_a_table_are_no_rows(files, tmp_path):
    before = prepare(files, tmp_path / "a").read_bytes()
    for table in files.jpg.glob("*.csv.gz"):
        table.write_bytes(gzip.compress(gzip.decompress(table.read_bytes()) + b"\n\r\n"))
    assert prepare(files, tmp_path / "b").read_bytes() == before


def test_empty_images_and_a_doubled_folder_are_named(original, files, tmp_path):
    (files.jpg / "files").unlink()
    shutil.copytree(original.jpg / "files", files.jpg / "files")
    path = sorted((files.jpg / "files").rglob("*.jpg"))[3]
    path.write_bytes(b"")
    with pytest.raises(UserError, match=rf"1 of \d+ images are empty: p10/.*{path.name}; download them again"):
        prepare(files, tmp_path / "out")
    (files.jpg / "files").rename(files.jpg / "moved")
    (files.jpg / "files").mkdir()
    (files.jpg / "moved").rename(files.jpg / "files/files")
    with pytest.raises(UserError, match=r"images are missing: .*; there is a second files/ in it: move its content up"):
        prepare(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_may_not_be_read_is_not_called_absent_or_damaged(files, tmp_path, monkeypatch):
    files.write_reports()
    _, study, subject, _, _ = files.images[0]
    folder = f"p{subject[:2]}/p{subject}/s{study}"
    for place, path in (
        (files.reports_zip, files.reports_zip),
        (files.reports_tree, files.reports_tree / "files"),
        (files.reports_tree, files.reports_tree / "files" / f"{folder}.txt"),
        (files.reports_zip, files.jpg),
        (files.reports_zip, files.jpg / "files" / folder),
    ):
        with monkeypatch.context() as patch:
            refuse(patch, path)
            with pytest.raises(UserError, match=rf"{path}: cannot be read \(Permission denied\); change its rights"):
                prepare_mimic_cxr(files.jpg, place, tmp_path / "out")


def test_reports_in_another_folder_are_named(original, files, tmp_path):
    """A folder too many is said, and an archive of something else is refused."""
    with zipfile.ZipFile(files.reports_zip, "w") as archive:
        for name in files.reports:
            archive.writestr(f"notes/{name}", "FINDINGS: Clear lungs.")
    with pytest.raises(UserError, match=r"reports.zip: expected files/p10/.*, found none"):
        prepare(files, tmp_path / "out")
    (tmp_path / "twice/files").mkdir(parents=True)
    (tmp_path / "twice/files/files").symlink_to(original.reports_tree / "files")
    with pytest.raises(UserError, match=r"twice: its files/ holds a second files/; name .*twice/files$"):
        prepare_mimic_cxr(files.jpg, tmp_path / "twice", tmp_path / "out")


def test_bad_reports_are_named(files, tmp_path):
    name, other = list(files.reports)[:2]

    def fails(message, place=None):
        with pytest.raises(UserError, match=message):
            prepare_mimic_cxr(files.jpg, place or files.reports_zip, tmp_path / "out")
        assert not list((tmp_path / "out").glob("*.json"))

    missing = {key: text for key, text in files.reports.items() if key not in (name, other)}
    replace(files, reports=missing).write_reports()
    for place in (files.reports_zip, files.reports_tree):
        fails(rf"2 of {len(files.reports)} reports are missing: {name}, {other}$", place)
    for content, message in (
        (b"FINDINGS: caf\xe9", "not UTF-8 text .byte 13"),
        (b"FINDINGS: a\0b", "holds a NUL character"),
        (b"a" * (MAX_REPORT_BYTES + 1), "larger than"),
    ):
        replace(files, reports={**files.reports, other: content}).write_reports()
        for place in (files.reports_zip, files.reports_tree):
            fails(f"{other}: {message}", place)


def test_broken_archives_are_named(files, tmp_path):
    whole = files.reports_zip.read_bytes()
    offset = whole.index(list(files.reports)[1].encode()) + 60  # inside the compressed bytes of a member
    for content, message in (
        (whole[: len(whole) // 2], "not a readable zip file"),
        (b"", "not a readable zip file"),
        (whole[:offset] + b"\xff\xff\xff\xff" + whole[offset + 4 :], "cannot be read .*; download the reports again"),
    ):
        files.reports_zip.write_bytes(content)
        with pytest.raises(UserError, match=f"reports.zip: .*{message}"):
            prepare(files, tmp_path / "out")
        assert not list((tmp_path / "out").glob("*.json"))
    (tmp_path / "empty").mkdir()
    for place, message in (("nowhere", "reports not found"), ("empty", "holds no files/p10")):
        with pytest.raises(UserError, match=message):
            prepare_mimic_cxr(files.jpg, tmp_path / place, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sections": "impression"}, "--sections: expected findings, findings.impression"),
        ({"views": "lateral"}, "--views: expected all, frontal, first"),
        ({"labels": "chexbert"}, "--labels: expected none, chexpert, negbio"),
        ({"like": "like.json", "views": "first"}, "leave out --views"),
        ({"like": "like.json", "one_image_per_study": True}, "leave out --views"),
        ({"like": "nowhere.json"}, "annotation to follow not found"),
    ],
)
def test_bad_options_are_named(original, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepare(original, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_source_is_never_overwritten(files, tmp_path):
    for out in (files.jpg, files.jpg / "files", files.jpg / "files" / "p10", files.jpg / "out"):
        with pytest.raises(UserError, match="name another folder"):
            prepare(files, out)
    files.write_reports()
    for out in (files.reports_tree, files.reports_tree / "files" / "p10"):
        with pytest.raises(UserError, match="name another folder"):
            prepare_mimic_cxr(files.jpg, files.reports_tree, out)
    path = prepare(files, tmp_path / "out")
    for name in (path.name, "source.json"):
        with pytest.raises(UserError, match=f"{name} would be overwritten"):
            prepare(files, tmp_path / "out", like=path.with_name(name))
    with pytest.raises(UserError, match="has no folder files/"):
        prepare_mimic_cxr(files.jpg / "files", files.reports_zip, tmp_path / "out")


def test_a_copy_holds_the_selected_images_only(original, tmp_path):
    path = prepare(original, tmp_path / "out", views="first", copy=True)
    copied = {p.stem for p in (path.parent / "images").rglob("*.jpg")}
    assert copied == {study.id for study in all_samples(path)} and not (path.parent / "images").is_symlink()
    before = tree_bytes_of_files(path.parent)
    with pytest.raises(UserError, match="--copy"):
        prepare(original, tmp_path / "out")
    assert tree_bytes_of_files(path.parent) == before


@pytest.mark.parametrize("copy", [False, True])
def test_the_only_originals_are_never_replaced_by_a_selection(original, files, tmp_path, copy):
    """`jpg/files` may be a link to the very place where the result's images go."""
    place = tmp_path / "out/images"
    shutil.copytree(original.jpg / "files", place)
    (files.jpg / "files").unlink()
    (files.jpg / "files").symlink_to(place)
    with pytest.raises(UserError, match="out/images is the source of the images itself"):
        prepare(files, tmp_path / "out", views="first", copy=copy)
    assert len(list(place.rglob("*.jpg"))) == len(files.images)


@pytest.mark.parametrize("copy", [False, True])
def test_a_failed_rerun_leaves_the_images_of_the_old_annotation(original, files, tmp_path, copy):
    path = prepare(original, tmp_path / "out")
    before = tree_bytes(path.parent)
    replace(files, reports=files.reports | {list(files.reports)[-1]: b"\xff"}).write_reports()
    with pytest.raises(UserError, match="not UTF-8"):
        prepare(files, tmp_path / "out", copy=copy)
    assert tree_bytes(path.parent) == before


def tree_bytes_of_files(out):
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


def test_a_killed_run_leaves_no_annotation_and_the_next_one_the_same_bytes(original, tmp_path, monkeypatch):
    """The process ends at once at a report of either pass, and before and after every rename."""
    reference = tree_bytes(prepare(original, tmp_path / "reference", labels="chexpert").parent)
    out = tmp_path / "out"
    prepare(original, out, views="first")  # an older set of another selection
    older = tree_bytes(out)
    reads, renames = 2 * len(original.findings), 4
    places = [(mimic_output, "extract_sections", n, 0) for n in (1, reads // 2, reads * 3 // 4, reads - 8)]
    places += [(os, "replace", n, after) for n in range(1, renames + 1) for after in (0, 1)]
    for module, name, count, after in places:
        if (child := os.fork()) == 0:
            calls, function = iter(range(1, 1000)), getattr(module, name)

            def dying(*args, calls=calls, function=function, count=count, after=after):
                last = next(calls) == count
                if last and not after:
                    os._exit(9)
                result = function(*args)
                return os._exit(9) if last else result

            monkeypatch.setattr(module, name, dying)
            prepare(original, out, labels="chexpert")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        left = {k: v for k, v in tree_bytes(out).items() if not k.startswith(".")}
        assert "annotation.json" not in left or left in (older, reference)
        prepare(original, out, labels="chexpert")
        assert tree_bytes(out) == reference
        prepare(original, out, views="first")
        assert tree_bytes(out) == older


def test_memory_does_not_grow_with_the_number_of_texts(files, tmp_path):
    """Making every report long needs no more than making one long."""
    long = "FINAL REPORT\nFINDINGS:\n" + "The lungs are clear.\n" * 1000
    peaks = []
    for reports in ({list(files.reports)[0]: long}, dict.fromkeys(files.reports, long)):
        replace(files, reports=files.reports | reports).write_reports()
        tracemalloc.start()
        written = prepare(files, tmp_path / "out").stat().st_size
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < written / 10


def test_of_a_partial_download_the_images_that_are_there_can_be_taken(original, tmp_path):
    """Said with both ways out; with `missing="drop"` the rest is prepared, and the manifest names what is not there."""
    part = tmp_path / "jpg"
    shutil.copytree(original.jpg, part)
    gone = {image[0] for image in original.images[::3]}
    for path in part.rglob("*.jpg"):
        if path.stem in gone:
            path.unlink()
    with pytest.raises(UserError, match="images are missing: .*--like ANNOTATION.*--missing drop"):
        prepare_mimic_cxr(part, original.reports_zip, tmp_path / "out")
    path = prepare_mimic_cxr(part, original.reports_zip, tmp_path / "out", missing="drop")
    with_text = {i[0] for i in original.images if original.findings[i[1]]}
    assert {study.id for study in all_samples(path)} == with_text - gone
    assert {row["dicom_id"] for row in manifest(path) if row["selected"] == "no image file"} == gone


def test_reports_that_are_sought_among_the_images(original, tmp_path):
    """MIMIC-CXR-JPG has none: the message says where they come from."""
    with pytest.raises(UserError, match="this is MIMIC-CXR-JPG.*mimic-cxr-reports.zip of MIMIC-CXR"):
        prepare_mimic_cxr(original.jpg, original.jpg, tmp_path / "out")


@pytest.mark.parametrize("said", ["None.", "See Imp.", "___", "Same.", "N/A", "Dictated separately."])
def test_findings_that_say_nothing_make_no_sample(files, tmp_path, capsys, said):
    """Of the raw report; an annotation that is followed cannot bring them back either."""
    dicom, study, subject = files.images[0][:3]
    name = f"p{subject[:2]}/p{subject}/s{study}.txt"
    files.reports[name] = f"FINAL REPORT\nHISTORY: Cough.\n\nFINDINGS:  {said}\n\nIMPRESSION:  Good.\n"
    files.write_reports()
    path = prepare(files, tmp_path / "out")
    assert study not in {s.study_id for s in all_samples(path)}
    assert {r["selected"] for r in manifest(path) if r["study_id"] == study} == {"no findings"}
    write_like(files, tmp_path / "like.json", lambda s: s["test"].append({"id": dicom, "report": said}))
    path = prepare(files, tmp_path / "like", like=tmp_path / "like.json")
    assert dicom not in {s.id for s in all_samples(path)}
    assert "left out, no findings: 1 images" in capsys.readouterr().out
