"""What is exported holds the same texts, read as the other evaluations read it."""

import csv
import json

import pytest

from revtaf.eval.exports import cxr_report_metric, rexrank
from revtaf.eval.records import Samples

SAMPLES = Samples(
    ids=["a", "7", "c"],
    references=['Heart is large, "globular". No edema.', "Clear lungs.", "Effusion ≤ 5 µl."],
    predictions=["heart is normal.", "", "NA"],
    subjects=["p", "p", "q"],
    studies=["s1", "s1", "s2"],
)


def test_rexrank_holds_the_keys_of_its_script_in_order(tmp_path):
    rexrank(SAMPLES, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert list(content) == SAMPLES.ids
    assert [entry["model_prediction"] for entry in content.values()] == SAMPLES.predictions
    assert [entry["section_findings"] for entry in content.values()] == SAMPLES.references
    assert [entry["section_impression"] for entry in content.values()] == [""] * 3
    assert content["c"]["reports"] == "Findings: Effusion ≤ 5 µl. Impression: "
    assert [entry["study_id"] for entry in content.values()] == SAMPLES.studies


def test_cxr_report_metric_round_trip(tmp_path):
    cxr_report_metric(SAMPLES, tmp_path / "out")
    for name, texts in (("gt_reports.csv", SAMPLES.references), ("predicted_reports.csv", SAMPLES.predictions)):
        with open(tmp_path / "out" / name, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["study_id", "report"]
        assert rows == [[i, text or "."] for i, text in zip(SAMPLES.ids, texts, strict=True)]


def test_no_empty_report_becomes_a_missing_value(tmp_path):
    """An empty cell would come back as a number that no scorer takes."""
    pandas = pytest.importorskip("pandas")  # what reads the table there
    cxr_report_metric(SAMPLES, tmp_path)
    reports = pandas.read_csv(tmp_path / "predicted_reports.csv")["report"]
    assert reports[0] == "heart is normal." and reports[1] == "."


@pytest.mark.parametrize("write", [lambda s, p: rexrank(s, p / "x.json"), cxr_report_metric])
def test_other_files_of_the_folder_stay_and_a_second_export_is_the_same(tmp_path, write):
    (tmp_path / "mine.txt").write_text("kept")
    write(SAMPLES, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(SAMPLES, tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert first["mine.txt"] == b"kept"
