"""Predictions read from any system: the three formats agree, bad input is named, and nothing is scored twice."""

import csv
import dataclasses
import gzip
import json

import pytest

from revtaf.data.text import clean_report
from revtaf.errors import UserError
from revtaf.eval.protocol import postprocess
from revtaf.eval.records import join, looks_processed, read_samples, refuse_processed

RECORDS = [
    {"id": "a", "reference": "The heart is large. No edema.", "prediction": "heart is normal. no edema.", "x": 1},
    {"id": "b", "reference": 'Clear, "normal" lungs.', "prediction": "lungs are clear.", "x": 2},
    {"id": "c", "reference": "Small effusion ≤ 5 µl.", "prediction": "no effusion.", "x": 3},
]


def write(path, records):
    """By the ending of the path, and packed where it says so."""
    name = path.name.removesuffix(".gz")
    opened = (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="")
    with opened as file:
        if name.endswith(".jsonl"):
            file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        elif name.endswith(".json"):
            json.dump(records, file)
        else:
            rows = csv.DictWriter(file, list(records[0]))
            rows.writeheader()
            rows.writerows(records)
    return path


def refused(path, *parts):
    with pytest.raises(UserError) as error:
        read_samples(path)
    for part in (str(path), *parts):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def changed(row, **fields):
    return [r | fields if i == row else r for i, r in enumerate(RECORDS)]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.CSV", "p.jsonl.gz", "p.json.gz", "p.csv.gz"])
def test_every_format_gives_the_same_samples(tmp_path, name):
    samples = read_samples(write(tmp_path / name, RECORDS))
    assert samples.ids == ["a", "b", "c"] and len(samples) == 3
    assert samples.references == [r["reference"] for r in RECORDS]
    assert samples.predictions == [r["prediction"] for r in RECORDS]
    assert samples.subjects is None and samples.studies is None and samples.notes == ()


def test_an_object_by_id_is_read_as_the_list_is(tmp_path):
    by_id = {r["id"]: {k: v for k, v in r.items() if k != "id"} for r in RECORDS}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(by_id))
    listed = read_samples(write(tmp_path / "q.json", RECORDS))
    assert dataclasses.replace(read_samples(path), source=listed.source) == listed


def test_the_project_s_own_predictions_are_read_as_they_are(tmp_path):
    """The record that a test run writes, with an unknown subject and with fields that only the page needs."""
    own = {"subject_id": "p1", "study_id": "s1", "prompts": {"edema": "blank"}, "retrieved_id": None}
    records = [{**own, **RECORDS[0]}, {**own, **RECORDS[1]}, {**own, **RECORDS[2], "subject_id": "", "study_id": ""}]
    samples = read_samples(write(tmp_path / "predictions.jsonl", records))
    assert samples.subjects[:2] == ["p1", "p1"] and samples.studies[:2] == ["s1", "s1"]
    assert len(set(samples.subjects)) == 2  # the nameless one is somebody of their own
    assert any("1 of 3 samples have no subject_id" in note for note in samples.notes)


def test_a_sample_without_subject_keeps_to_its_study(tmp_path):
    """Two images of one study show the same person, named or not; two nameless studies are two persons."""
    records = [
        {**RECORDS[0], "study_id": 7, "subject_id": ""},
        {**RECORDS[1], "study_id": 7, "subject_id": ""},
        {**RECORDS[2], "study_id": 8, "subject_id": ""},
        {**RECORDS[2], "id": "d", "study_id": 9, "subject_id": "p"},
    ]
    subjects = read_samples(write(tmp_path / "p.jsonl", records)).subjects
    assert subjects[0] == subjects[1] and len(set(subjects)) == 3


@pytest.mark.parametrize("missing", ["id", "reference", "prediction"])
@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_a_missing_column_is_named_with_line_and_what_there_is(tmp_path, missing, name):
    records = [{k: v for k, v in r.items() if k != missing} for r in RECORDS]
    refused(write(tmp_path / name, records), f"line {1 + (name == 'p.csv')}: the column '{missing}' is missing", "x")


def test_duplicate_ids_are_listed(tmp_path):
    records = [*RECORDS, {**RECORDS[0], "prediction": "other"}, RECORDS[2]]
    refused(write(tmp_path / "p.jsonl", records), "line 4: duplicate ids: a, c;")
    many = [{**RECORDS[0], "id": str(i % 15)} for i in range(30)]
    refused(write(tmp_path / "p.json", many), "and 5 more")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "  ", "line 2: column 'id' is empty"),
        ("id", None, "line 2: column 'id' is empty"),
        ("id", 1.5, "line 2: column 'id': expected a text or a whole number, got 1.5"),
        ("prediction", None, "line 2: column 'prediction': expected a text, got None"),
        ("reference", ["a"], "line 2: column 'reference': expected a text, got ['a']"),
        ("study_id", True, "line 2: column 'study_id': expected a text or a whole number, got True"),
    ],
)
def test_values_that_are_no_text_are_named(tmp_path, field, value, message):
    refused(write(tmp_path / "p.jsonl", changed(1, **{field: value})), message)


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.json"])
def test_mixed_encodings_are_named_with_the_line(tmp_path, name):
    path = write(tmp_path / name, RECORDS)
    content = path.read_bytes()
    place = content.index(b"lungs are clear")
    path.write_bytes(content[:place] + "µ".encode("latin-1") + content[place:])
    refused(path, f"line {content[:place].count(10) + 1}: not UTF-8 text (byte 0xb5)")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write(tmp_path / "p.csv", RECORDS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_samples(path).ids == ["a", "b", "c"]


def test_control_characters_become_blanks_and_are_counted(tmp_path):
    broken = changed(0, prediction="one\ntwo\x00three\u2028four\ud800 ||| é")
    samples = read_samples(write(tmp_path / "p.json", broken))
    assert samples.predictions[0] == "one two three four  ||| é"
    assert samples.notes == ("Line breaks or other control characters in 1 samples were replaced by blanks.",)


def test_line_breaks_in_a_reference_do_not_change_what_is_scored(tmp_path):
    raw = "Heart is normal.\r\nNo edema.\n\nClear lungs."
    read = read_samples(write(tmp_path / "p.csv", changed(0, reference=raw))).references[0]
    assert clean_report(read) == clean_report(raw)


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_empty_and_endless_predictions_are_read_and_noted(tmp_path, name):
    records = changed(0, prediction="")
    records[1] = {**records[1], "prediction": "opacity " * 50_000}
    samples = read_samples(write(tmp_path / name, records))
    assert samples.predictions[0] == "" and len(samples.predictions[1].split()) == 50_000
    assert "1 of 3 predictions are empty" in samples.notes[0]
    assert "(up to 50000): b." in samples.notes[1]
    assert csv.field_size_limit() == 131_072  # the limit of everybody else is as before


def test_references_that_say_nothing_are_counted(tmp_path):
    """They are no statement of a normal film; their words are scored as they are."""
    samples = read_samples(write(tmp_path / "p.jsonl", changed(1, reference="See impression below.")))
    assert samples.notes[0].startswith("1 of 3 references say nothing")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"id": "a"\n', "line 1: not a JSON object"),
        ("p.jsonl", '\n["a"]\n', "line 2: expected an object"),
        ("p.json", '{"id": "a"}\n{"id": "b"}', "name the file .jsonl"),
        ("p.json", '"text"', "expected an object"),
        ("p.json", '{"a": [1]}', "key 'a': expected an object"),
        ("p.json", '{"a": {"reference": "x"}, "a": {"reference": "y"}}', "p.json: the key 'a' appears twice"),
        ("p.jsonl", '{"id": "a", "id": "b"}', "p.jsonl, line 1: the key 'id' appears twice"),
        ("p.json", '{"a": {"id": "b"}}', "p.json, key 'a': the record's own id is 'b'"),
        ("p.csv", "id,reference,prediction\na,b,c,d\n", "line 2: expected 3 values as in the header, got 4"),
        ("p.csv", 'id,reference,prediction\na,b,"c\n', "not a CSV table"),
        ("p.csv", "id,id,reference\n", "line 1: the column 'id' appears twice"),
        ("p.csv", "", "holds no sample"),
        ("p.jsonl", "", "holds no sample"),
        ("p.txt", "", "unknown format '.txt'"),
        ("p.jsonl.gz", "not packed", "damaged, or not packed by gzip"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    refused(path, message)


def test_absent_and_half_written_files_are_named(tmp_path):
    refused(tmp_path / "absent.csv", "not found")
    (tmp_path / "folder.json").mkdir()
    refused(tmp_path / "folder.json", "cannot be read")
    path = write(tmp_path / "p.jsonl.gz", RECORDS)
    path.write_bytes(path.read_bytes()[:-12])
    refused(path, "write it again")


def test_the_line_of_a_row_is_the_one_where_it_begins(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('id,reference,prediction\na,"two\nlines",x\n,y,z\n')
    refused(path, "line 4: column 'id' is empty")


def test_join_is_by_id_and_not_by_position(tmp_path):
    a = read_samples(write(tmp_path / "a.jsonl", RECORDS))
    others = [{**r, "prediction": r["id"] * 2, "study_id": "s" + r["id"]} for r in reversed(RECORDS)]
    b = read_samples(write(tmp_path / "b.jsonl", others))
    left, right = join(a, b)
    assert left.ids == right.ids == a.ids and left.references == right.references
    assert right.predictions == ["aa", "bb", "cc"] and left.predictions == a.predictions
    assert left.studies == right.studies == ["sa", "sb", "sc"]  # from the file that has them
    assert right.source == b.source
    assert join(a, a) == (a, a)


def test_join_lists_what_is_missing_on_either_side(tmp_path):
    a = read_samples(write(tmp_path / "a.jsonl", RECORDS[:2]))
    b = read_samples(write(tmp_path / "b.jsonl", RECORDS[1:]))
    with pytest.raises(UserError, match=r"1 ids of .*a.jsonl are missing in .*b.jsonl: a; 1 ids of .*: c; "):
        join(a, b)


def test_join_refuses_other_references_but_not_other_line_breaks(tmp_path):
    a = read_samples(write(tmp_path / "a.jsonl", RECORDS))
    same = read_samples(write(tmp_path / "b.jsonl", changed(0, reference="The heart is large. \r\nNo edema.")))
    assert join(a, same)[1].references == a.references
    other = read_samples(write(tmp_path / "c.jsonl", changed(1, reference="Clear lungs.")))
    with pytest.raises(UserError, match="different references for 1 ids: b;"):
        join(a, other)


def test_processed_texts_are_refused_with_the_fix(tmp_path):
    samples = read_samples(write(tmp_path / "p.jsonl", RECORDS))
    refuse_processed(samples)
    once = dataclasses.replace(samples, predictions=[postprocess(p) for p in samples.predictions])
    twice = dataclasses.replace(once, predictions=[postprocess(str(p)) for p in once.predictions])
    cleaned = dataclasses.replace(samples, references=[clean_report(r) for r in samples.references])
    for bad, side in ((once, "predictions"), (twice, "predictions"), (cleaned, "references")):
        with pytest.raises(UserError, match=f"p.jsonl: the {side} were already post-processed.*exactly once; give"):
            refuse_processed(bad)


def test_empty_texts_say_nothing_about_processing():
    assert not looks_processed(["", " .", " . "]) and not looks_processed([])
    assert looks_processed(["", "", "", "lungs clear . "])
    assert not looks_processed(["Clear. No effusion .", "Clear.  Normal.", "no 2.5 cm mass"])


def test_raw_iu_reports_do_not_look_processed_and_cleaned_ones_do(shared_data):
    reports = [s["report"] for s in json.loads((shared_data / "iu_xray" / "annotation.json").read_text())["train"]]
    assert not looks_processed(reports)
    assert looks_processed([clean_report(r) for r in reports])
