"""Any data set by its own columns: the presets' layouts with invented rows, and what is refused."""

import csv
import gzip
import json
import sys
import types

import pytest
from languages import GERMAN

from revtaf.cli import main
from revtaf.data.annotations import load_annotations
from revtaf.data.sources.table.prepare import prepare_table
from revtaf.data.sources.table.rows import join_rows
from revtaf.data.sources.views import FRONTAL, LATERAL, UNKNOWN, view_of
from revtaf.errors import UserError
from revtaf.labels import CHEXPERT_CATEGORIES

CLEAR, HEART = "The lungs are clear.", "The heart is enlarged."


def write_csv(path, rows, delimiter=",", encoding="utf-8"):
    with open(path, "w", encoding=encoding, newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return path


def make_images(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"pixels of " + name.encode())
    return folder


def own_rows(count=12):
    """A researcher's own table: one image a row, its patient and its report."""
    return [{"file": f"{n}.png", "text": CLEAR if n % 2 else HEART, "person": f"p{n // 2}"} for n in range(count)]


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "pictures", [f"{n}.png" for n in range(12)])


def prepare(table, images, out, **options):
    tables = table if isinstance(table, list) else [table]
    return load_annotations(prepare_table(tables, images, out, **{"image": ["file"], "report": ["text"]} | options))


def by_id(annotations):
    return {study.id: (split, study) for split, studies in annotations.items() for study in studies}


def manifest(out):
    with gzip.open(out / "manifest.csv.gz", "rt", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_a_researchers_own_set_is_one_command(images, tmp_path, capsys):
    table = write_csv(tmp_path / "mine.csv", own_rows())
    out = tmp_path / "out"
    command = ["prepare", "table", "--csv", str(table), "--image", "file", "--report", "text", "--patient", "person"]
    assert main([*command, "--images", str(images), "--out", str(out), "--seed", "0"]) == 0, capsys.readouterr().err
    studies = by_id(load_annotations(out / "annotation.json"))
    assert studies["3"][1].report == CLEAR and studies["3"][1].image_path == ("3.png",)
    assert {split for split, _ in studies.values()} == {"train", "val", "test"}
    assert all(studies[str(n)][0] == studies[str(n + 1)][0] for n in range(0, 12, 2))  # a patient is in one split
    assert (out / "images" / "3.png").is_file()
    before = (out / "annotation.json").read_bytes(), (out / "manifest.csv.gz").read_bytes()
    assert main([*command, "--images", str(images), "--out", str(out), "--seed", "0"]) == 0
    assert before == ((out / "annotation.json").read_bytes(), (out / "manifest.csv.gz").read_bytes())


@pytest.mark.parametrize("name", ["source.json", "manifest.csv.gz", "annotation.json", "images/table.csv"])
@pytest.mark.parametrize("role", ["csv", "join"])
def test_no_input_is_written_over(images, tmp_path, name, role):
    """A table that is called as a result is: it stays, and nothing is written."""
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"the user's only copy")
    table = write_csv(tmp_path / "mine.csv", own_rows())
    given = {"table": out / name} if role == "csv" else {"table": table, "join": out / name, "on": "file"}
    with pytest.raises(UserError, match=f"{name} would be overwritten; name another folder"):
        prepare(**given, images=images, out=out)
    assert (out / name).read_bytes() == b"the user's only copy"


@pytest.mark.parametrize("name", ["annotation.json", "source.json"])
def test_what_no_prepare_wrote_is_never_replaced(images, tmp_path, name):
    """An annotation made by hand has no record beside it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"train": []}')
    with pytest.raises(UserError, match=f"out/{name} was not written by revtaf prepare.*move it away"):
        prepare(write_csv(tmp_path / "mine.csv", own_rows()), images, out)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, '{"train": []}')]


def test_ids_are_whole_names_without_the_ending(tmp_path):
    """Two images that differ behind a dot are two samples, each with its own file."""
    names = ["study1.1", "study1.2", "1.2.7.png"]
    pictures = make_images(tmp_path / "pictures", ["study1.1.png", "study1.2.png", "study1.png", "1.2.7.png"])
    table = write_csv(tmp_path / "mine.csv", [{"file": name, "text": CLEAR} for name in names])
    found = by_id(prepare(table, pictures, tmp_path / "out", split="whole"))
    assert {name: study.image_path for name, (_, study) in found.items()} == {
        "study1.1": ("study1.1.png",),
        "study1.2": ("study1.2.png",),
        "1.2.7": ("1.2.7.png",),
    }


def test_a_seed_that_leaves_a_split_empty_is_refused_with_one_that_does_not(images, tmp_path):
    table = write_csv(tmp_path / "mine.csv", own_rows())
    for seed in range(40):
        try:
            prepare(table, images, tmp_path / "out", patient="person", seed=seed)
        except UserError as error:
            other = int(str(error).split("--seed ")[2].split()[0])
            break
    assert set(prepare(table, images, tmp_path / "out", patient="person", seed=other)) == {"train", "val", "test"}
    with pytest.raises(UserError, match="2 patients.*give more patients"):
        prepare(write_csv(tmp_path / "few.csv", own_rows(4)), images, tmp_path / "out", patient="person")
    assert list(prepare(table, images, tmp_path / "out", split="whole")) == ["test"]


def test_chexpert_plus(tmp_path):
    """One row an image; PNG where the path says JPEG; the impression is kept apart; splits are train and valid."""
    names = ["patient1/study1/view1_frontal", "patient1/study1/view2_lateral", "patient2/study1/view1_frontal"]
    images = make_images(tmp_path / "PNG", [f"train/{name}.png" for name in names])
    said = {"section_findings": CLEAR, "section_impression": "Normal.", "section_clinical_history": "Cough."}
    common = {"report": "whole", "ap_pa": "", **said}
    rows = [
        {"path_to_image": f"train/{name}.jpg", "frontal_lateral": view, "deid_patient_id": patient,
         "patient_report_date_order": 1, "split": split, **common}
        for name, view, patient, split in zip(
            (names[1], names[0], names[2]), ("Lateral", "Frontal", "Frontal"), ("p1", "p1", "p2"),
            ("train", "train", "valid"), strict=True,
        )
    ]  # fmt: skip
    rows.append({**rows[2], "deid_patient_id": "p3", "section_findings": ""})
    table = write_csv(tmp_path / "df_chexpert_plus_240401.csv", rows)
    out = tmp_path / "out"
    studies = by_id(load_annotations(prepare_table([table], images, out, preset="chexpert_plus")))
    assert {name: split for name, (split, _) in studies.items()} == {"p1_1": "train", "p2_1": "val"}
    first = studies["p1_1"][1]
    assert first.image_path == tuple(f"train/{name}.png" for name in names[:2])  # the frontal image comes first
    assert (first.report, first.impression, first.indication) == (CLEAR, "Normal.", "Cough.")
    assert manifest(out)["p3_1"]["selected"] == "without section_findings"
    assert json.loads((out / "source.json").read_text())["dropped"] == {"without section_findings": 1}


def test_padchest(tmp_path, capsys):
    """Folders named by a number, or none; the language is told; rows of one study are one sample."""
    images = make_images(tmp_path / "padchest", ["0/a.png", "b.png", "54/c.png"])
    rows = [
        {"ImageID": f"{name}.png", "ImageDir": folder, "StudyID": study, "PatientID": study, "Projection": view,
         "Report": "sin hallazg", "Labels": "['normal']"}
        for name, folder, study, view in (("a", 0, 11, "L"), ("b", 3, 11, "AP_horizontal"), ("c", 54, 12, "COSTAL"))
    ]  # fmt: skip
    table = write_csv(tmp_path / "PADCHEST.csv", rows)
    packed = tmp_path / "PADCHEST.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    options = {"preset": "padchest", "split": "whole"}
    studies = by_id(load_annotations(prepare_table([packed], images, tmp_path / "out", **options)))
    assert studies["11"][1].image_path == ("b.png", "0/a.png") and studies["12"][1].image_path == ("54/c.png",)
    told = capsys.readouterr().out
    assert "Spanish" in told and "knowledge.labeler=none" in told and "knowledge.labeler=annotation" in told
    studies = by_id(load_annotations(prepare_table([packed], images, tmp_path / "o2", views="frontal", **options)))
    assert list(studies) == ["11"] and studies["11"][1].image_path == ("b.png",)


def test_rows_without_a_key_are_nobodys_partners(tmp_path):
    """Two rows that lack an accession number are not of one study."""
    rows = [("a:2", {"acc": "1", "report": "x"}), ("a:3", {"acc": "", "report": "y"}), ("a:4", {"acc": None})]
    other = write_csv(tmp_path / "images.csv", [{"acc": "1", "file": "1.png"}, {"acc": "", "file": "2.png"}])
    joined, without = join_rows(rows, other, "acc", "utf-8")
    assert [row["file"] for _, row in joined] == ["1.png"] and without == 2


def test_a_patient_is_one_however_a_data_frame_wrote_the_number(tmp_path):
    """A column of whole numbers with one gap is written as 7.0."""
    make_images(tmp_path / "images", ["a.png", "b.png"])
    rows = [{"image": "a.png", "report": CLEAR, "who": "7"}, {"image": "b.png", "report": HEART, "who": "7.0"}]
    table = write_csv(tmp_path / "t.csv", rows)
    columns = {"image": ["image"], "report": ["report"], "patient": "who"}
    annotation = prepare_table([table], tmp_path / "images", tmp_path / "out", split="whole", **columns)
    assert {study.subject_id for study in load_annotations(annotation)["test"]} == {"7"}
    assert json.loads((tmp_path / "out/source.json").read_text())["dealt_studies"] == 0


def test_kaggles_indiana_is_joined(tmp_path, capsys):
    reports = [
        {"uid": n, "MeSH": "normal", "image": "Xray", "indication": "Cough.", "comparison": "None.",
         "findings": text, "impression": "Normal."}
        for n, text in ((1, CLEAR), (2, "XXXX"), (3, HEART))
    ]  # fmt: skip
    shown = [(1, "1_IM-2.dcm.png", "Lateral"), (1, "1_IM-1.dcm.png", "Frontal"), (2, "2_IM-1.dcm.png", "Frontal")]
    rows = [dict(zip(("uid", "filename", "projection"), row, strict=True)) for row in shown]
    table, join = write_csv(tmp_path / "indiana_reports.csv", reports), write_csv(tmp_path / "projections.csv", rows)
    images = make_images(tmp_path / "normalized", [name for _, name, _ in shown])
    options = {"preset": "indiana", "split": "whole"}
    studies = by_id(load_annotations(prepare_table([table], images, tmp_path / "out", join=join, **options)))
    assert list(studies) == ["1"] and studies["1"][1].image_path == ("1_IM-1.dcm.png", "1_IM-2.dcm.png")
    assert "left out 1 rows without a partner in --join" in capsys.readouterr().out
    with pytest.raises(UserError, match="--join indiana_projections.csv"):
        prepare_table([table], images, tmp_path / "out", **options)


def test_rexgradient(tmp_path):
    """Objects by study, lists of images and views, a split a file, and a prefix that leaves the folder."""
    images = make_images(tmp_path / "deid_png", ["P/1/a.png", "P/1/b.png", "Q/1/a.png"])
    record = {"PatientID": "P", "Findings": CLEAR, "Impression": "Normal.", "Indication": "Cough."}
    train = {"P_1": {"ImagePath": ["../deid_png/P/1/a.png", "../deid_png/P/1/b.png"],
                     "ImageViewPosition": ["LATERAL", "POSTERO_ANTERIOR"], **record}}  # fmt: skip
    valid = {"Q_1": {"ImagePath": ["../deid_png/Q/1/a.png"], "ImageViewPosition": ["AP"], **record, "PatientID": "Q"}}
    tables = [tmp_path / f"{name}_metadata_view_position.json" for name in ("train", "valid")]
    for path, content in zip(tables, (train, valid), strict=True):
        path.write_text(json.dumps(content))
    studies = by_id(load_annotations(prepare_table(tables, images, tmp_path / "out", preset="rexgradient")))
    assert {name: split for name, (split, _) in studies.items()} == {"P_1": "train", "Q_1": "val"}
    assert studies["P_1"][1].image_path == ("P/1/b.png", "P/1/a.png")
    del record["Findings"]
    tables[0].write_text(json.dumps({"P_1": {"ImagePath": [], "ImageViewPosition": [], "findings": "x", **record}}))
    with pytest.raises(UserError, match="column 'Findings' .preset rexgradient. is missing; it has: .*findings.*--rep"):
        prepare_table(tables[:1], images, tmp_path / "out", preset="rexgradient")


def test_reports_that_say_nothing_are_dropped_and_counted(images, tmp_path, capsys):
    rows = own_rows()
    for row, said in zip(rows, ("None.", "See Imp.", "#REF!", "…", "NaN", "n.a.", "same"), strict=False):
        row["text"] = said
    found = prepare(write_csv(tmp_path / "mine.csv", rows), images, tmp_path / "out", split="whole")
    assert len(found["test"]) == 5 and "dropped 7 studies without text" in capsys.readouterr().out


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), (";", "cp1252")])
def test_tables_of_spreadsheets_are_read(images, tmp_path, delimiter, encoding):
    """Semicolons, tabs, a byte-order mark; another encoding when it is named, and said when it is not."""
    rows = own_rows()
    rows[0]["text"] = "Größe normal; Herz, Lunge."
    table = write_csv(tmp_path / "mine.csv", rows, delimiter, encoding)
    named = {"encoding": encoding} if encoding == "cp1252" else {}
    found = by_id(prepare(table, images, tmp_path / "out", split="whole", **named))
    assert found["0"][1].report == rows[0]["text"]
    if encoding == "cp1252":
        with pytest.raises(UserError, match="line 2: not UTF-8 text .*as cp1252 .Windows. it reads '\"?Größe'"):
            prepare(table, images, tmp_path / "out", split="whole")


def test_json_lines_and_parquet(images, tmp_path, monkeypatch):
    rows = own_rows()
    table = tmp_path / "mine.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    lines = prepare(table, images, tmp_path / "out", split="whole")
    arrow, parquet = types.ModuleType("pyarrow"), types.ModuleType("pyarrow.parquet")
    arrow.parquet, arrow.ArrowException = parquet, ValueError
    parquet.read_table = lambda path: types.SimpleNamespace(to_pylist=lambda: rows)
    monkeypatch.setitem(sys.modules, "pyarrow", arrow)
    (tmp_path / "mine.parquet").touch()
    assert prepare(tmp_path / "mine.parquet", images, tmp_path / "o2", split="whole") == lines
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs pyarrow"):
        prepare(tmp_path / "mine.parquet", images, tmp_path / "o2", split="whole")


def test_statuses_in_the_table_are_the_annotations(images, tmp_path):
    rows = own_rows()
    for row in rows:
        row.update(dict.fromkeys(map(str.title, CHEXPERT_CATEGORIES), ""), **{"Cardiomegaly": "-1.0", "Edema": "0"})
    found = by_id(prepare(write_csv(tmp_path / "mine.csv", rows), images, tmp_path / "out", labels="chexpert"))
    assert found["0"][1].labels == (0, 3, 0, 0, 2, *[0] * 9)
    listed = [{**row, "labels": str([1] * 18)} for row in own_rows()]
    found = by_id(prepare(write_csv(tmp_path / "list.csv", listed), images, tmp_path / "out", labels="ours"))
    assert found["0"][1].labels == (1,) * 18


def test_statuses_of_a_studys_rows_are_put_together(images, tmp_path):
    """A blank gives way to what another row says, whichever comes first; two rows that differ are named."""
    blank = dict.fromkeys(CHEXPERT_CATEGORIES, "")
    told = [{}, {"edema": "1"}, {"edema": "1", "cardiomegaly": "0"}]
    rows = [{"file": f"{n}.png", "text": CLEAR, "study": "s1", **blank, **statuses} for n, statuses in enumerate(told)]
    options = {"images": images, "study": ["study"], "labels": "chexpert", "split": "whole"}
    found = by_id(prepare(write_csv(tmp_path / "m.csv", rows), out=tmp_path / "out", **options))
    assert found["s1"][1].labels == (0, 2, 0, 0, 1, *[0] * 9)
    rows.append({**rows[0], "file": "3.png", "edema": "-1"})
    with pytest.raises(UserError, match=r"line 5.*'s1' has edema uncertain here, and positive in .*line 3; keep one"):
        prepare(write_csv(tmp_path / "m.csv", rows), out=tmp_path / "other", **options)


def test_a_rows_split_is_kept_and_other_rows_of_the_patient_follow(images, tmp_path):
    rows = [{**row, "part": "Validation" if n == 0 else ""} for n, row in enumerate(own_rows())]
    found = by_id(prepare(write_csv(tmp_path / "m.csv", rows), images, tmp_path / "o", split="part", patient="person"))
    assert found["0"][0] == found["1"][0] == "val"
    rows[3]["part"] = "held out"
    with pytest.raises(UserError, match="line 5: column 'part': expected train, .* got 'held out'"):
        prepare(write_csv(tmp_path / "m.csv", rows), images, tmp_path / "o", split="part")


def test_missing_images_are_listed_or_left_out(images, tmp_path, capsys):
    (images / "3.png").unlink()
    (images / "4.png").write_bytes(b"")
    table = write_csv(tmp_path / "mine.csv", own_rows())
    with pytest.raises(UserError, match="2 of 12 images are missing: 3.png, 4.png .empty.; .*--missing drop"):
        prepare(table, images, tmp_path / "out", split="whole")
    assert not (tmp_path / "out").exists()
    found = prepare(table, images, tmp_path / "out", split="whole", missing="drop")
    assert len(found["test"]) == 10 and manifest(tmp_path / "out")["3"]["selected"] == "without an image file"
    assert "dropped 2 studies without an image file" in capsys.readouterr().out


def refused(images, tmp_path, rows, match, **options):
    with pytest.raises(UserError, match=match):
        prepare(write_csv(tmp_path / "bad.csv", rows), images, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_meant_is_refused(images, tmp_path):
    rows = own_rows()
    refused(images, tmp_path, rows, "the column 'who' is missing; it has: file, person, text.*--patient", patient="who")
    refused(images, tmp_path, rows, "the id 'p0' is that of .*line 2 too; .*--study", id="person")
    refused(images, tmp_path, rows, "line 3: the study 'p0'.*another report", study=["person"])
    refused(images, tmp_path, rows, "--preset chexpert: expected one of chexpert_plus", preset="chexpert")
    refused(images, tmp_path, [{**rows[0], "file": "../secret.png"}], "line 2: the image .* is not below.*--strip")
    refused(images, tmp_path, rows, "--views frontal needs --view", views="frontal")
    two = [{**rows[0], "study": 1}, {**rows[0], "study": 1, "person": "p9"}]
    refused(images, tmp_path, two, "another patient here.*--study PATIENT", study=["study"], patient="person")
    with pytest.raises(UserError, match="--on"):
        prepare(tmp_path / "bad.csv", images, tmp_path / "out", join=tmp_path / "bad.csv")


def test_views_by_the_names_that_tables_use():
    for name in ("PA", "ap", "AP AXIAL", "AP_horizontal", "Frontal", "ANTERO_POSTERIOR", "Posteroanterior"):
        assert view_of(name) == FRONTAL, name
    for name in ("L", "LL", "LATERAL", "Left Lateral", "lat"):
        assert view_of(name) == LATERAL, name
    for name in ("COSTAL", "", "LAO", "XTABLE LATERAL", "EXCLUDE", "PAX"):
        assert view_of(name) == UNKNOWN, name


def test_a_table_in_another_language_is_told_what_to_train_with(tmp_path, capsys):
    images = make_images(tmp_path / "images", [f"{i}.png" for i in range(len(GERMAN))])
    rows = [{"file": f"{i}.png", "text": text} for i, text in enumerate(GERMAN)]
    table = write_csv(tmp_path / "mine.csv", rows)
    prepare_table([table], images, tmp_path / "out", split="whole", image=["file"], report=["text"])
    assert "know 12% of the words" in (told := capsys.readouterr().out) and "knowledge.labeler=none" in told
    assert json.loads((tmp_path / "out" / "source.json").read_text())["words_known_to_labelers"] < 0.2
