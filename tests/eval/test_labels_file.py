"""Statuses made elsewhere: both conventions give the same statuses, and neither is guessed."""

import csv
import json

import numpy as np
import pytest

from revtaf.errors import UserError
from revtaf.eval.labels_file import read_statuses
from revtaf.labels import CATEGORIES, CHEXPERT_CATEGORIES

IDS = ["s1", "s2", "s3"]
CHEXPERT_OF = ("", "1.0", "0.0", "-1.0")  # by our code


@pytest.fixture
def statuses():
    return np.random.default_rng(0).integers(0, 4, (3, 18)).astype(np.uint8)


def write_csv(path, statuses, cell, case=str.title, key="id", ids=IDS):
    names = CATEGORIES[: statuses.shape[1]]
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([key, *map(case, names)])
        rows.writerows([i, *map(cell, row)] for i, row in zip(ids, statuses, strict=True))
    return path


@pytest.mark.parametrize("columns", [14, 18])
@pytest.mark.parametrize("case", [str.title, str.lower, str.upper, lambda c: c.replace(" ", "_")])
def test_both_conventions_give_the_same_statuses(tmp_path, statuses, columns, case):
    expected = statuses[:, :columns]
    chexpert = write_csv(tmp_path / "c.csv", expected, CHEXPERT_OF.__getitem__, case)
    ours = write_csv(tmp_path / "o.csv", expected, str, case)
    for found in (read_statuses(chexpert, IDS), read_statuses(ours, IDS, codes="ours")):
        assert found.dtype == np.uint8 and np.array_equal(found, expected)


def test_json_and_json_lines_by_category_or_as_a_list(tmp_path, statuses):
    numbers = {0: None, 1: 1, 2: 0.0, 3: -1}
    by_category = [
        {"id": i, **{c: numbers[s] for c, s in zip(CATEGORIES, row, strict=True)}}
        for i, row in zip(IDS, statuses.tolist(), strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in by_category))
    (tmp_path / "b.json").write_text(json.dumps({r["id"]: r for r in by_category}))
    listed = {i: {"labels": row} for i, row in zip(IDS, statuses.tolist(), strict=True)}
    (tmp_path / "c.json").write_text(json.dumps(listed))
    assert np.array_equal(read_statuses(tmp_path / "a.jsonl", IDS), statuses)
    assert np.array_equal(read_statuses(tmp_path / "b.json", IDS), statuses)
    assert np.array_equal(read_statuses(tmp_path / "c.json", IDS, codes="ours"), statuses)


def test_nan_of_a_data_frame_is_blank(tmp_path):
    row = {"id": "s1", **dict.fromkeys(CHEXPERT_CATEGORIES, float("nan"))}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert not read_statuses(tmp_path / "a.jsonl", ["s1"]).any()


def test_rows_follow_the_ids_and_other_rows_are_ignored(tmp_path, statuses):
    path = write_csv(tmp_path / "c.csv", statuses, CHEXPERT_OF.__getitem__)
    assert np.array_equal(read_statuses(path, ["s3", "s1"]), statuses[[2, 0]])


def test_labels_of_a_study_serve_all_its_images(tmp_path, statuses):
    path = write_csv(tmp_path / "c.csv", statuses, CHEXPERT_OF.__getitem__, key="study_id")
    assert np.array_equal(read_statuses(path, ["s2", "s2", "s1"], column="study_id"), statuses[[1, 1, 0]])


@pytest.mark.parametrize(
    ("codes", "value", "hint"),
    [
        ("chexpert", "2", "or name the codes 'ours'"),
        ("chexpert", "nan", "expected 1 positive, 0 negative, -1 uncertain, blank not mentioned"),
        ("chexpert", "positive", "unknown code 'positive'"),
        ("ours", "-1", "or name the codes 'chexpert'"),
        ("ours", "", "expected 0 blank, 1 positive, 2 negative, 3 uncertain"),
        ("ours", "1.5", "unknown code '1.5'"),
    ],
)
def test_an_unknown_code_is_named_with_line_and_column(tmp_path, statuses, codes, value, hint):
    cell = str if codes == "ours" else CHEXPERT_OF.__getitem__
    path = write_csv(tmp_path / "c.csv", statuses[:, :14], cell)
    lines = path.read_text().splitlines()
    values = lines[2].split(",")
    values[1 + CHEXPERT_CATEGORIES.index("edema")] = value
    lines[2] = ",".join(values)
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as error:
        read_statuses(path, IDS, codes=codes)
    assert f"{path}, line 3: column 'edema': unknown code" in str(error.value) and hint in str(error.value)


def test_missing_ids_and_columns_are_named(tmp_path, statuses):
    path = write_csv(tmp_path / "c.csv", statuses, CHEXPERT_OF.__getitem__)
    with pytest.raises(UserError, match="1 of 2 ids have no labels: s9"):
        read_statuses(path, ["s1", "s9"])
    with pytest.raises(UserError, match="the column 'study_id' is missing"):
        read_statuses(path, IDS, column="study_id")
    for absent in ("Edema", "Aorta Abnormality"):
        other = tmp_path / "d.csv"
        other.write_text(path.read_text().replace(absent, "Something"))
        with pytest.raises(UserError, match=f"line 2: the column '{absent.lower()}' is missing"):
            read_statuses(other, IDS)


def test_what_is_ambiguous_is_refused(tmp_path, statuses):
    twice = write_csv(tmp_path / "c.csv", statuses, CHEXPERT_OF.__getitem__, ids=["s1", "s2", "s1"])
    with pytest.raises(UserError, match="line 4: the id s1 appears twice"):
        read_statuses(twice, ["s1"])
    same = tmp_path / "d.csv"
    same.write_text(twice.read_text().replace("Edema", "fracture"))
    with pytest.raises(UserError, match="are the same category"):
        read_statuses(same, ["s1"])
    with pytest.raises(UserError, match="unknown label codes 'auto'"):
        read_statuses(twice, IDS, codes="auto")
    (tmp_path / "e.json").write_text(json.dumps({"s1": {"labels": [0] * 14}, "s2": {"labels": [0] * 18}}))
    with pytest.raises(UserError, match="key 's2': 18 categories, but .* has 14"):
        read_statuses(tmp_path / "e.json", ["s1", "s2"])
    (tmp_path / "f.json").write_text(json.dumps({"s1": {"labels": [0] * 13}}))
    with pytest.raises(UserError, match="expected a list of 14 or 18 values, got 13"):
        read_statuses(tmp_path / "f.json", ["s1"])
