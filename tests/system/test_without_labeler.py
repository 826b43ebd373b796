"""Reports that no labeler reads: refused where one is asked to, trained on, tested and scored where none is."""

import pytest
import yaml
from languages import CHINESE, GERMAN, write_set
from tiny import TINY

from revtaf.check import inspect
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.eval.floors import NEAREST
from revtaf.files import read_json
from revtaf.settings import EncoderSettings
from revtaf.system.requirements import needed


@pytest.fixture
def config(tmp_path):
    """Write a set of the given reports; the path of a configuration on it."""

    def config(reports, **changed):
        annotation = write_set(tmp_path / "set", reports)
        places = {"annotation": annotation, "images": tmp_path / "set/images", "features": tmp_path / "set/features"}
        content = TINY | {
            "run": str(tmp_path / "run"),
            "missing": "stand-in",
            "data": {"name": "set", **{name: str(path) for name, path in places.items()}},
        }
        content["knowledge"] = {**TINY["knowledge"], **changed}
        path = tmp_path / "set.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return config


@pytest.mark.parametrize("reports", [GERMAN, CHINESE], ids=["German", "Chinese"])
def test_a_set_without_labels_is_trained_tested_and_written_for(reports, config, tmp_path, called):
    """No statuses, no classifier, no clinical scores; a copied report scores 1; the folder is a model."""
    settings = load_settings(config(reports, labeler="none"), ["eval.resamples=20", "train.epochs=1"])
    train(settings)
    folder = run_test(settings)
    found = read_json(folder / "report.json")
    row, copied = found["metrics"]["REVTAF"], found["metrics"][NEAREST]["nlg"]
    assert row["clinical"] == {} and row["classified"] == {} and row["average"] is None
    assert copied.pop("CIDEr") == pytest.approx(10)
    assert {name: value for name, value in copied.items() if value is not None} == pytest.approx(
        dict.fromkeys(copied, 1)
    )
    assert found["signature"].startswith("unicode|") and "|ce:none|" in found["signature"]
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert "CIDEr" in metrics and "_f1" not in metrics and "status_accuracy" not in metrics
    record = read_jsonl(folder / "predictions.jsonl")[0]
    assert record["statuses"] == {} and record["positive"] == {} and record["retrieved_id"] is None
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Clinical efficacy by category" not in page and "nobody labels" in page

    image, out = tmp_path / "set/images/0.png", tmp_path / "written"
    write = ("generate", "--checkpoint", tmp_path / "run", image)
    called(*write, "--out", out)
    assert read_jsonl(out / "reports.jsonl")[0]["statuses"] == []
    assert "trained without labels" in called(*write, "--status", "edema=pos", code=2)
    called("export", tmp_path / "run", tmp_path / "exported")


def test_what_needs_labels_is_switched_off_by_name(config, caplog):
    """Of the small configuration for a CPU, too, whose encoder begins as the entity scorer."""
    path = config(GERMAN, labeler="none")
    asked = ("train.schedule=staged", "encoder.weights=scorer", "decoder.image_dropout=0.5", "lre.steps=10")
    settings = load_settings(path, asked)
    assert settings.train.select == "cider" and settings.train.schedule == "joint"
    assert not (settings.lre.enabled or settings.fvtaf.enabled or settings.classifier.memory)
    assert settings.encoder.weights == settings.encoder.inputs == "imagenet" and settings.decoder.image_dropout == 0
    assert settings.data.language == "other"
    for key in ("train.select=cider", "train.schedule=joint", "lre.enabled=false", "encoder.weights=imagenet"):
        assert key in caplog.text
    assert not list(needed(settings.model_copy(update={"encoder": EncoderSettings(weights=None)})))


@pytest.mark.parametrize("asked", [
    "generation.statuses=oracle", "generation.statuses=calibrated", "generation.guidance=2",
    "generation.retrieved=random", "train.statuses=mixed", "controls.local=report", "controls.memory=report",
    "controls.scores=report", "knowledge.imported=elsewhere",
])  # fmt: skip
def test_what_is_asked_for_by_name_and_needs_labels_is_refused(asked, config):
    with pytest.raises(UserError, match=asked.split("=")[0].replace(".", r"\.")) as told:
        load_settings(config(GERMAN, labeler="none"), [asked])
    assert "knowledge.labeler=none" in str(told.value)


@pytest.mark.parametrize("reports", [GERMAN, CHINESE], ids=["German", "Chinese"])
@pytest.mark.parametrize("labeler", ["rules", "chexbert"])
def test_a_labeler_is_refused_before_anything_is_written(reports, labeler, config, tmp_path, called):
    """By `train`, in the words of `check`: what share it knows, an example, and the ways out."""
    path = config(reports, labeler=labeler)
    told = called("train", "--config", path, code=2)
    assert "60%" in told and "knowledge.labeler=none" in told and "knowledge.labeler=annotation" in told
    assert any(report[:20] in told for report in reports)
    assert not (tmp_path / "run").exists() and not (tmp_path / "set/features").exists()


def test_english_rules_of_cleaning_are_refused_for_other_texts(config):
    path = config(CHINESE, labeler="none")
    lines = inspect(load_settings(path, ["data.language=en"]))
    assert [line for line in lines if line.level == "error" and "data.language=other" in str(line)]
