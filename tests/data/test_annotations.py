"""The annotation file: what is read, and the errors that name the place."""

import json
import os

import pytest

from revtaf.data import annotations, text
from revtaf.data.annotations import Box, Study, load_annotations, save_annotations
from revtaf.data.text import clean_report
from revtaf.errors import UserError

ENTRY = {"id": "a", "image_path": ["a.png"], "report": "Lungs are clear."}


def write(tmp_path, content):
    path = tmp_path / "annotation.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def load_one(tmp_path, **changes) -> Study:
    return load_annotations(write(tmp_path, {"train": [{**ENTRY, **changes}]}))["train"][0]


def test_the_field_s_own_files_load_as_they_are(tmp_path):
    """R2Gen's fields: extra ones are ignored, a number is an id, one path may stand alone."""
    study = load_one(tmp_path, id=17, subject_id=10, study_id=50, image_path="a.png", split="train", extra={})
    assert (study.id, study.subject_id, study.study_id) == ("17", "10", "50")
    assert study.image_path == ("a.png",) and study.labels == () and study.patient == "10"


def test_a_flat_list_is_sorted_by_split_and_test_is_the_default(tmp_path):
    entries = [{**ENTRY, "id": "1", "split": "train"}, {**ENTRY, "id": "2"}, {**ENTRY, "id": "3", "split": "val"}]
    annotations = load_annotations(write(tmp_path, entries))
    assert {k: [s.id for s in v] for k, v in annotations.items()} == {"train": ["1"], "val": ["3"], "test": ["2"]}


def test_a_file_is_parsed_once_until_it_changes(tmp_path, monkeypatch):
    """Who changes a list that was handed out changes nobody else's; of many files the last two are remembered."""
    read, parsed = annotations.read_json, []
    monkeypatch.setattr(annotations, "read_json", lambda path, what: parsed.append(path.name) or read(path, what))
    path = write(tmp_path, {"train": [ENTRY]})
    load_annotations(path)["train"].clear()
    assert [s.id for s in load_annotations(str(path))["train"]] == ["a"] and parsed == ["annotation.json"]
    before = path.stat()
    path.write_text(json.dumps({"train": [{**ENTRY, "id": "b"}]}), encoding="utf-8")  # as long as before
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert [s.id for s in load_annotations(path)["train"]] == ["b"]
    save_annotations(path, {"train": [Study("c", ("a.png",), "Heart.")]})
    assert [s.id for s in load_annotations(path)["train"]] == ["c"] and len(parsed) == 3
    others = [tmp_path / name for name in ("one.json", "two.json")]
    for other in others:
        save_annotations(other, {"test": [Study("d", ("a.png",), "Lungs.")]})
    for each in (*others, *others, path):
        load_annotations(each)
    assert parsed[3:] == ["one.json", "two.json", "annotation.json"]
    path.unlink()
    with pytest.raises(UserError, match="annotation file not found"):
        load_annotations(path)


def test_save_and_load_give_the_same_studies(tmp_path):
    box = Box("edema", (0.1, 0.2, 0.5, 0.75), side="left", zone="lower")
    studies = {
        "train": [Study("ä", ("a.png", "b.png"), "Lungs.\nÜ", (0,) * 18, "s", "t", "cough", (box, box))],
        "val": [Study("b", ("c.png",), "Heart.")],
    }
    path = tmp_path / "deep" / "annotation.json"
    save_annotations(path, studies)
    assert load_annotations(path) == studies
    assert [p.name for p in path.parent.iterdir()] == ["annotation.json"]


@pytest.mark.parametrize("count", [14, 18])
def test_both_label_counts_are_read(tmp_path, count):
    assert load_one(tmp_path, labels=[1] * count).labels == (1,) * count


@pytest.mark.parametrize("nothing", [[], None])
def test_no_labels_yet(tmp_path, nothing):
    assert load_one(tmp_path, labels=nothing).labels == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report": 5}, r"field 'report': expected a text, got int 5"),
        ({"report": " \n"}, "field 'report' is empty"),
        ({"id": 1.5}, r"field 'id': expected a text or a number, got float 1.5"),
        ({"id": True}, "field 'id'"),
        ({"image_path": []}, "field 'image_path': expected a list of file names"),
        ({"image_path": [1]}, "field 'image_path'"),
        ({"subject_id": [1]}, "field 'subject_id'"),
        ({"labels": [0] * 13}, "field 'labels': expected 14 or 18 statuses, got 13"),
        ({"labels": "1"}, "field 'labels': expected 14 or 18 statuses, got str"),
        ({"labels": [0, 4] + [0] * 12}, "unknown status 4 for 'cardiomegaly'"),
        ({"labels": [0, -1] + [0] * 12}, "unknown status -1 for 'cardiomegaly'"),
        ({"labels": [True] + [0] * 13}, "unknown status True"),
        ({"labels": [None] + [0] * 17}, "unknown status None"),
        ({"findings_boxes": [{"category": "edema", "xyxy": [0, 0, 1]}]}, "field 'findings_boxes'"),
        ({"findings_boxes": [{"category": "oedema", "xyxy": [0, 0, 1, 1]}]}, "one of the 18"),
        ({"findings_boxes": [{"category": "edema", "xyxy": [0, 0, 1, float("nan")]}]}, "four fractions from 0 to 1"),
        ({"findings_boxes": [{"category": "edema", "xyxy": [0, 0, 1, 1.01]}]}, "four fractions from 0 to 1"),
        ({"findings_boxes": [{"category": "edema", "xyxy": [-0.1, 0, 1, 1]}]}, "four fractions from 0 to 1"),
        ({"findings_boxes": [{"category": "edema", "xyxy": [0.6, 0, 0.5, 1]}]}, "left, top, right, bottom"),
        ({"findings_boxes": [{"category": "edema", "xyxy": [0, 0, 1, 1], "side": 1}]}, "'side' and 'zone': texts"),
        ({"id": " "}, "field 'id' is empty"),
        ({"image_path": ""}, "field 'image_path': expected a list of file names"),
        ({"image_path": ["a.png", ""]}, "field 'image_path': expected a list of file names"),
    ],
)
def test_a_wrong_field_is_named_with_file_split_index_and_id(tmp_path, changes, message):
    path = write(tmp_path, {"val": [{**ENTRY, "id": "first"}, {**ENTRY, **changes}]})
    with pytest.raises(UserError, match=message) as error:
        load_annotations(path)
    assert str(path) in str(error.value) and "split 'val', entry 1" in str(error.value)


@pytest.mark.parametrize("name", ["id", "image_path", "report"])
def test_a_missing_field_is_named(tmp_path, name):
    entry = {k: v for k, v in ENTRY.items() if k != name}
    with pytest.raises(UserError, match=f"split 'train', entry 0: the field '{name}' is missing"):
        load_annotations(write(tmp_path, {"train": [entry]}))


def test_a_duplicate_id_is_refused_across_splits_and_types(tmp_path):
    path = write(tmp_path, {"train": [{**ENTRY, "id": 7}], "test": [{**ENTRY, "id": "7"}]})
    with pytest.raises(UserError, match="id 7.*duplicate id, first seen in split 'train', entry 0"):
        load_annotations(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train": [\n{"id": "a",}\n]}', "line 2"),
        ("", "line 1"),
        ({"training": []}, "expected an object with the splits"),
        ("3", "expected an object with the splits"),
        ({"train": {}}, "split 'train': expected a list, got dict"),
        ({"train": ["a"]}, "entry 0: expected an object, got str"),
        ([{**ENTRY, "split": "dev"}], "entry 0: split must be one of .* got 'dev'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        load_annotations(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="annotation file not found"):
        load_annotations(tmp_path / "none.json")


def test_reports_are_cleaned_once(monkeypatch):
    """Whoever asks for the cleaned reports of the same studies gets those that are there; other studies are cleaned."""
    studies = [Study(id=str(i), image_path=("x",), report=f"Finding {i}. NO effusion.") for i in range(5)]
    expected = [clean_report(study.report, 3) for study in studies]
    calls = []
    real = text.clean_report
    monkeypatch.setattr(text, "clean_report", lambda report, words: calls.append(report) or real(report, words))
    assert annotations.clean_reports(studies, 3) == annotations.clean_reports(list(studies), 3) == expected
    assert len(calls) == 5
    changed = [*studies[:4], Study(id="4", image_path=("x",), report="Another one.")]
    assert annotations.clean_reports(changed, 3)[:4] == expected[:4]
    assert annotations.clean_reports(changed, 3)[4] == real("Another one.", 3) and len(calls) == 10
    assert annotations.clean_reports(studies, 2) != expected


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-8-sig", None),
        ("utf-16", "UTF-16 text, not utf-8; save the whole file as UTF-8"),
        ("cp1252", "line 1: not UTF-8 text .byte 0xfc.; as cp1252 .Windows. it reads .*M\u00fcller"),
        ("latin-1", "as cp1252"),
        ("utf-32", "UTF-16 text|not UTF-8 text"),
    ],
)
def test_a_file_in_another_encoding_is_read_or_told(tmp_path, encoding, says):
    path = tmp_path / "annotation.json"
    content = json.dumps({"train": [ENTRY | {"report": "Sent by M\u00fcller."}]}, ensure_ascii=False)
    path.write_bytes(content.encode(encoding))
    if says is None:
        assert load_annotations(path)["train"][0].report == "Sent by M\u00fcller."
    else:
        with pytest.raises(UserError, match=f"annotation file: .*annotation.json.*({says})"):
            load_annotations(path)
