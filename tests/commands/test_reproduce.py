"""A test is run again from its report.json alone: the same bits, or what differs; what is missing is named."""

import json
import shutil

import pytest

from revtaf.commands.reproduce import ReproduceRequest, reproduce, told
from revtaf.errors import UserError


@pytest.fixture(scope="module")
def report(world):
    return world[1] / "phantom-test" / "report.json"


def test_the_trained_model_gives_the_same_bits_again(world, report, tmp_path, called):
    """By the command, into a new folder; the first run's folder is as it was."""
    before = report.read_bytes()
    said = called("reproduce", report, "--out", tmp_path / "again")
    assert "figures: as before" in said and "predictions: as before" in said and "data and model: as before" in said
    assert report.read_bytes() == before
    written = (world[1] / "phantom-test" / "predictions.jsonl").read_bytes()
    assert (tmp_path / "again" / "phantom-test" / "predictions.jsonl").read_bytes() == written


def test_training_anew_gives_the_same_bits_again(report, tmp_path):
    """Features, model and figures from the recipe alone: nothing of the first run is read."""
    found = reproduce(ReproduceRequest(report, tmp_path / "again", train=True))
    assert found["figures"] == [] and found["predictions"] == []
    assert (tmp_path / "again" / "data").is_dir()  # its own features


def test_what_differs_is_said_one_by_one(world, report, tmp_path):
    """Versions, data and figures, each with both values, figures with the difference."""
    data = tmp_path / "data"
    shutil.copytree(world[0], data, ignore=shutil.ignore_patterns("features"))
    content = json.loads((data / "annotation.json").read_text())
    for study in content["test"]:
        study["report"] = "Nothing of the kind is seen."
    (data / "annotation.json").write_text(json.dumps(content))
    changed = json.loads(report.read_text())
    changed["run"]["packages"]["torch"] = "0.1"
    (tmp_path / "report.json").write_text(json.dumps(changed))
    places = [f"data.annotation={data / 'annotation.json'}", f"data.features={data / 'features'}"]
    found = reproduce(ReproduceRequest(tmp_path / "report.json", tmp_path / "again", overrides=places))
    assert [one.what for one in found["versions and hardware"]] == ["packages.torch"]
    assert "data.annotation" in [one.what for one in found["data and model"]]
    lines = list(told(found))
    assert any("metrics.REVTAF.nlg.BLEU_1: " in line and line.endswith(")") for line in lines)


@pytest.mark.parametrize("lacking", ["recipe", "settings", "model", "metrics"])
def test_a_report_without_what_is_needed_is_refused_by_name(report, tmp_path, lacking):
    """Nothing is written."""
    content = json.loads(report.read_text())
    del (content if lacking in content else content["recipe"])[lacking]
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{lacking}' is missing"):
        reproduce(ReproduceRequest(tmp_path / "report.json", tmp_path / "again"))
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.annotation=/nowhere/a.json"], "missing: /nowhere/a.json; name its place with data.annotation=PATH"),
        (["run=/nowhere"], "missing: the trained model"),
        (["generation.beams=7"], "would make another run"),
    ],
)
def test_what_is_not_there_is_named(report, tmp_path, overrides, said):
    """Data, the model; and a change that would be another run is no place of a file."""
    with pytest.raises(UserError, match=said):
        reproduce(ReproduceRequest(report, tmp_path / "again", overrides=overrides))
