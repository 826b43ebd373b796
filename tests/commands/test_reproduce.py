"""A test is run again from its report.json alone: the same bits, or what differs; what is missing is named."""

import json
import shutil
from types import SimpleNamespace

import pytest

from revtaf.cli import main
from revtaf.commands import recipe
from revtaf.commands import reproduce as module
from revtaf.commands.reproduce import ReproduceRequest, reproduce, told
from revtaf.engine.train import Interrupted
from revtaf.errors import UserError
from revtaf.files import sha256
from revtaf.process import INTERRUPTED, USER_ERROR


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


def test_a_stopped_repetition_goes_on_in_its_folder(report, tmp_path, monkeypatch, capsys):
    """Exit code 130 and the message; the same command continues, and another one does not."""
    command = ["reproduce", str(report), "--out", str(tmp_path / "again")]
    tested = tmp_path / "again" / "phantom-test"

    def stopped(settings):
        tested.mkdir()
        raise Interrupted("stopped in epoch 1; the same command continues from here")

    def written(settings):
        shutil.copy(report, tested)
        return tested

    monkeypatch.setattr(module, "train", stopped)
    assert main([*command, "--train"]) == INTERRUPTED
    assert "the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(module, "train", lambda settings: None)
    monkeypatch.setattr(module, "test", written)
    assert main(command) == USER_ERROR and "not begun by this command" in capsys.readouterr().err
    assert main([*command, "--train"]) == 0
    assert main([*command, "--train"]) == USER_ERROR  # it is finished


def test_a_stopped_test_begins_again_in_its_folder(world, report, tmp_path, monkeypatch):
    """Also without training: the model is linked once more, the first run's own folder is not touched."""
    out, before = tmp_path / "again", sorted(world[1].rglob("*"))

    def stopped(settings):
        (out / "phantom-test").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "test", stopped)
    for _ in range(2):
        assert main(["reproduce", str(report), "--out", str(out)]) == INTERRUPTED
    assert (out / "checkpoints/best").resolve() == (world[1] / "checkpoints/best").resolve()
    assert sorted(world[1].rglob("*")) == before


def test_a_test_that_cannot_start_leaves_no_folder(report, tmp_path, monkeypatch):
    """What `revtaf test` would miss is said before the model is linked."""
    monkeypatch.setattr(module, "require", lambda settings, training: (_ for _ in ()).throw(UserError("no CheXbert")))
    with pytest.raises(UserError, match="no CheXbert"):
        reproduce(ReproduceRequest(report, tmp_path / "again"))
    assert not (tmp_path / "again").exists()


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


def test_images_that_the_disk_spells_otherwise_are_compared(tmp_path):
    """a.png in the table, a.PNG on the disk: another file is another mark, not none."""
    image, study = tmp_path / "a.PNG", SimpleNamespace(image_path=("a.png",))
    image.write_bytes(b"1")
    first = recipe._images(tmp_path, [study], sha256)
    image.write_bytes(b"2")
    assert first is not None and recipe._images(tmp_path, [study], sha256) not in (first, None)
