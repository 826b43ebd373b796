"""Reports that no labeler reads: refused where one is asked to, trained on, tested and scored where none is."""

import pytest
import yaml
from languages import CHINESE, GERMAN, write_set
from tiny import TINY
from trrg_tiny import FIRST, SECOND

from revtaf.check import inspect
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.config_file import load_settings, parse_settings
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.eval.floors import NEAREST
from revtaf.files import read_json
from revtaf.settings import EncoderSettings
from revtaf.system.requirements import needed


@pytest.fixture
def config(tmp_path):
    """Write a set of the given reports; the path of a configuration on it."""

    def config(reports, labelled=False, **changed):
        annotation = write_set(tmp_path / "set", reports, labelled)
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


def test_a_german_set_without_labels_is_trained_tested_and_written_for(config, tmp_path, called):
    """No statuses, no classifier, no clinical scores; a copied report scores 1; the folder is a model."""
    settings = load_settings(config(GERMAN, labeler="none"), ["eval.resamples=20", "train.epochs=1"])
    train(settings)
    folder = run_test(settings)
    found = read_json(folder / "report.json")
    assert found["metrics"]["REVTAF"]["classified"] == {}
    perfect_and_unlabelled(folder)
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert "CIDEr" in metrics and "_f1" not in metrics and "status_accuracy" not in metrics
    record = read_jsonl(folder / "predictions.jsonl")[0]
    assert record["statuses"] == {} and record["positive"] == {} and record["retrieved_id"] is None

    write = ("generate", "--checkpoint", tmp_path / "run", tmp_path / "set/images/0.png")
    called(*write, "--out", tmp_path / "written")
    assert read_jsonl(tmp_path / "written/reports.jsonl")[0]["statuses"] == []
    assert "trained without labels" in called(*write, "--status", "edema=pos", code=2)
    called("export", tmp_path / "run", tmp_path / "exported")
    called("audit", "--config", tmp_path / "set.yaml")
    assert "knowledge.labeler=none" in called("study", "lre", "--config", tmp_path / "set.yaml", "--out", "o", code=2)


def test_a_chinese_set_with_labels_of_its_own(config, tmp_path, monkeypatch):
    """They train a classifier and stand in the prompt; nobody reads what is written."""
    monkeypatch.setattr("revtaf.eval.nlg.meteor_status", lambda java: "METEOR is n/a here")  # its start takes seconds
    settings = load_settings(config(CHINESE, True, labeler="annotation"), ["eval.resamples=0", "train.epochs=1"])
    assert not (settings.lre.enabled or settings.fvtaf.enabled or settings.classifier.memory)
    train(settings)
    folder = run_test(settings)
    perfect_and_unlabelled(folder)
    record = read_jsonl(folder / "predictions.jsonl")[0]
    assert len(record["statuses"]) == 14 and " " not in record["reference"]
    assert "status_accuracy" in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")


def perfect_and_unlabelled(folder):
    """A row of copied references scores 1 in all that is scored, and nothing clinical is."""
    found = read_json(folder / "report.json")
    copied = found["metrics"][NEAREST]["nlg"]
    assert all(row["clinical"] == {} and row["average"] is None for row in found["metrics"].values())
    assert copied.pop("CIDEr") == pytest.approx(10)
    assert all(value is None or value == pytest.approx(1) for value in copied.values())
    assert found["signature"].startswith("unicode|") and "|ce:none|" in found["signature"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Clinical efficacy by category" not in page and "nobody labels" in page


def test_labels_that_are_asked_for_and_not_there_are_missed_before_training(config):
    lines = inspect(load_settings(config(GERMAN, labeler="annotation")))
    assert [line for line in lines if line.level == "error" and "knowledge.labeler=annotation" in str(line)]


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
    "generation.statuses=oracle", "generation.statuses=calibrated", "generation.agreement=0.1",
    "generation.retrieved=random", "train.statuses=mixed", "controls.local=report", "controls.memory=report",
    "controls.scores=report", "knowledge.imported=elsewhere",
])  # fmt: skip
def test_what_is_asked_for_by_name_and_needs_labels_is_refused(asked, config):
    with pytest.raises(UserError, match=asked.split("=")[0].replace(".", r"\.")) as told:
        load_settings(config(GERMAN, labeler="none"), [asked])
    assert "knowledge.labeler=none" in str(told.value)


def test_agreement_needs_somebody_who_reads(config):
    """A choice among candidates does not."""
    annotated = config(GERMAN, True, labeler="annotation")
    with pytest.raises(UserError, match="generation.agreement=0.1: not with knowledge.labeler=annotation"):
        load_settings(annotated, ["generation.candidates=2", "generation.agreement=0.1"])
    assert load_settings(annotated, ["generation.candidates=2"]).generation.candidates == 2


@pytest.mark.parametrize("reports", [GERMAN, CHINESE], ids=["German", "Chinese"])
@pytest.mark.parametrize("labeler", ["rules", "chexbert"])
def test_a_labeler_is_refused_before_anything_is_written(reports, labeler, config, tmp_path, called):
    """By `train`, in the words of `check`: what share it knows, an example, and the ways out."""
    path = config(reports, labeler=labeler)
    told = called("train", "--config", path, code=2)
    assert "60%" in told and "knowledge.labeler=none" in told and "knowledge.labeler=annotation" in told
    assert any(report[:20] in told for report in reports)
    assert not (tmp_path / "run").exists() and not (tmp_path / "set/features").exists()


def test_reports_that_are_cut_are_counted(config):
    lines = inspect(load_settings(config(CHINESE, labeler="none"), ["data.max_words=20"]))
    assert [line for line in lines if line.level == "note" and "of 16 reports exceed data.max_words=20" in str(line)]


def test_english_rules_of_cleaning_are_refused_for_other_texts(config):
    path = config(CHINESE, labeler="none")
    lines = inspect(load_settings(path, ["data.language=en"]))
    assert [line for line in lines if line.level == "error" and "data.language=other" in str(line)]


@pytest.mark.parametrize("stage", [FIRST, SECOND], ids=["stage1", "stage2"])
@pytest.mark.parametrize(("section", "key", "value"), [("knowledge", "labeler", "none"), ("data", "language", "other")])
def test_trrg_which_chooses_english_clues_by_labels_refuses_by_key(stage, section, key, value):
    with pytest.raises(UserError, match=f"{section}.{key}={value}: TRRG"):
        parse_settings({**stage, section: {key: value}}, "FILE")
