"""A folder is a model: opened elsewhere, without the set that it was trained on, it writes the same reports."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import ROOT

import revtaf
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.data.annotations import load_annotations
from revtaf.engine.folder import find_model, read_manifest
from revtaf.errors import UserError
from revtaf.knowledge.text_encoder import TfidfEncoder

PLACES = {"annotation": "annotation.json", "images": "images", "features": "features"}


@pytest.fixture
def copy(world, tmp_path) -> Path:
    """A copy of the model's folder."""
    shutil.copytree(world[1] / "checkpoints/best", tmp_path / "model")
    return tmp_path / "model"


def records(run: Path) -> list[dict]:
    """What `test` wrote, line by line."""
    return [json.loads(line) for line in (run / "phantom-test/predictions.jsonl").read_text().splitlines()]


def test_a_copied_folder_writes_the_same_reports_without_anything_else(world, copy, tmp_path):
    """In another process, with run, annotation, features and training images renamed away: byte for byte."""
    data, run, _ = world
    studies = load_annotations(data / "annotation.json")["test"]
    names = [study.image_path[0] for study in studies]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / name, tmp_path / "images" / name)
    expected = records(run)
    away = [(place, place.with_name(place.name + "-away")) for place in (data, run)]
    for place, hidden in away:
        place.rename(hidden)
    try:
        code = (
            "import json, sys, revtaf\nmodel = revtaf.load('model', device='cpu')\n"
            "print(json.dumps([out.record() for out in model.report(sys.argv[1:])]))"
        )
        call = [sys.executable, "-c", code, *(f"images/{name}" for name in names)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    finally:
        for place, hidden in away:
            hidden.rename(place)
    assert done.returncode == 0, done.stderr[-2000:]
    written = json.loads(done.stdout)
    assert [r["image"] for r in written] == [f"images/{name}" for name in names]
    for found, known in zip(written, expected, strict=True):
        assert found["report"] == known["prediction"]
        assert {s["category"]: s["status"] for s in found["statuses"]} == known["statuses"]
        assert {s["category"]: s["probabilities"]["positive"] for s in found["statuses"]} == known["positive"]
        assert [(r["id"], r["report"], round(r["distance"], 4)) for r in found["retrieved"]] == [
            (known["retrieved_id"], known["retrieved_report"], known["retrieval_distance"])
        ]


def test_without_the_reports_the_retrieved_one_is_known_by_id(world, copy):
    """reports.jsonl may be left out, where it may not be shared; nothing else of the answer changes."""
    data, run, _ = world
    (copy / "reports.jsonl").unlink()
    study = load_annotations(data / "annotation.json")["test"][0]
    found = revtaf.load(copy, device="cpu").report(data / "images" / study.image_path[0])
    expected = records(run)[0]
    assert found.retrieved[0].report is None and found.retrieved[0].id == expected["retrieved_id"]
    assert found.report == expected["prediction"]


def test_the_finished_run_is_opened_as_well(world):
    """The run's folder, and its best checkpoint, are the same model."""
    best = world[1] / "checkpoints/best"
    assert find_model(world[1]) == best == find_model(best)
    modes = {path.stat().st_mode for path in best.rglob("*") if path.is_file() and path.name != "model.json"}
    assert modes == {(best / "config.yaml").stat().st_mode}  # a colleague may read all of it, or nothing


@pytest.mark.parametrize("name", ["model.safetensors", "points.safetensors", "knowledge/texts/sentences.npy"])
def test_a_damaged_file_is_named(copy, name):
    """One changed byte in weights, points or tables: nothing is opened."""
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        revtaf.load(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        revtaf.load(copy)


@pytest.mark.parametrize("written", [1, 99])
def test_another_format_is_refused_with_both_versions(copy, written):
    """A model of an earlier or a later format names the version that wrote it, and what to do."""
    manifest = json.loads((copy / "model.json").read_text()) | {"format": written, "revtaf": "9.9"}
    (copy / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"format {written} \(revtaf 9.9\).*reads format 2; train it anew"):
        revtaf.load(copy)


def test_a_folder_that_is_no_model_says_so(tmp_path, world):
    """Nothing there; or a run that is not finished."""
    with pytest.raises(UserError, match="is no model"):
        revtaf.load(tmp_path)
    shutil.copytree(world[1] / "checkpoints/best", tmp_path / "checkpoints/best")
    (tmp_path / "checkpoints/best/model.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        revtaf.load(tmp_path)


def test_moving_files_is_no_other_architecture(world, tmp_path, caplog):
    """The data set elsewhere, weights of the experts elsewhere: the run is the same, finished and tested again."""
    data, run, settings = world
    shutil.copytree(data, tmp_path / "moved")
    update = {key: tmp_path / "moved" / name for key, name in PLACES.items()}
    knowledge = settings.knowledge.model_copy(update={"medklip": tmp_path / "elsewhere.pth"})
    moved = settings.model_copy(update={"data": settings.data.model_copy(update=update), "knowledge": knowledge})
    before = records(run)
    with caplog.at_level("INFO"):
        train(moved)
    assert "already trained" in caplog.text
    run_test(moved)
    assert records(run) == before


def test_what_is_architecture_is_refused_by_load(copy):
    """A width is no place."""
    with pytest.raises(UserError, match="fvtaf.width: 16 -> 32"):
        revtaf.load(copy, ["fvtaf.width=32"])
    assert revtaf.load(copy, ["generation.beams=1"], device="cpu").settings.generation.beams == 1


def test_other_sentences_than_the_model_s_are_refused_before_a_report_is_written(copy):
    """They are known by their number within the shortened report: its page would name others, or none."""
    with pytest.raises(UserError, match="data.max_words=10, but .* first 100 words; set data.max_words=100"):
        revtaf.load(copy, ["data.max_words=10"], device="cpu")


def test_a_training_killed_before_its_end_is_finished_by_the_same_command(world, tmp_path):
    """model.json is the last thing written; without it `train` and `test` write what is missing."""
    _, run, settings = world
    shutil.copytree(run, tmp_path / "run")
    best = tmp_path / "run/checkpoints/best"
    whole = json.loads((best / "model.json").read_text())
    for name in ("model.json", "points.safetensors", "reports.jsonl"):
        (best / name).unlink()
    shutil.rmtree(best / "knowledge")
    train(settings.model_copy(update={"run": tmp_path / "run"}))
    assert json.loads((best / "model.json").read_text())["files"] == whole["files"]
    read_manifest(best)


def test_the_fitted_text_encoder_is_kept_to_the_last_bit(world, tmp_path):
    """Saved and loaded it gives the same vectors, of texts that it was not fitted on too."""
    encoder = TfidfEncoder.load(world[1] / "checkpoints/best/knowledge/tfidf")
    encoder.save(tmp_path)
    texts = ["no effusion", "a large left pneumothorax is new", "zzz"]
    np.testing.assert_array_equal(TfidfEncoder.load(tmp_path).encode(texts), encoder.encode(texts))
    fitted = TfidfEncoder(8).fit(["no effusion", "no pneumothorax", "clear lungs"])
    fitted.save(tmp_path / "small")
    np.testing.assert_array_equal(TfidfEncoder.load(tmp_path / "small").encode(texts), fitted.encode(texts))


def test_strange_files_and_ways_out_are_refused(copy):
    """A table that the manifest does not name, a name that leads out, and a base beside the settings."""
    (copy / "knowledge/extra.npy").write_bytes(b"x")
    with pytest.raises(UserError, match=r"extra.npy does not belong to the model"):
        revtaf.load(copy)
    (copy / "knowledge/extra.npy").unlink()
    (copy / "README.txt").write_text("a note does no harm")
    manifest = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(manifest | {"files": manifest["files"] | {"../x": "0"}}))
    with pytest.raises(UserError, match="names a file outside of the folder"):
        revtaf.load(copy)
    (copy / "model.json").write_text(json.dumps(manifest | {"files": {}}))
    with pytest.raises(UserError, match="does not name config.yaml, meta.json, model.safetensors"):
        revtaf.load(copy)
    (copy / "config.yaml").write_text("base: ../other.yaml\n")
    with pytest.raises(UserError, match="leads out of the folder"):
        revtaf.load(copy)


def test_another_annotation_is_not_already_trained(world, tmp_path):
    """The same file elsewhere is the same run; another content is not."""
    data, _, settings = world
    content = json.loads((data / "annotation.json").read_text())
    content["train"][0]["report"] += " Unchanged."
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    other = settings.data.model_copy(update={"annotation": tmp_path / "annotation.json"})
    with pytest.raises(UserError, match="trained on another annotation"):
        train(settings.model_copy(update={"data": other}))


def test_a_run_of_an_earlier_version_is_finished_only_on_its_features(world, tmp_path):
    """Its identity stood beside the other entries of meta.json; without any it is refused, not guessed."""
    _, run, settings = world
    shutil.copytree(run, tmp_path / "run")
    best = tmp_path / "run/checkpoints/best"
    moved = settings.model_copy(update={"run": tmp_path / "run"})
    meta = json.loads((best / "meta.json").read_text())
    identity = meta.pop("identity")
    for content, refused in ((meta | identity, False), (meta | identity | {"fingerprint": "0"}, True), (meta, True)):
        (best / "model.json").unlink(missing_ok=True)
        (best / "meta.json").write_text(json.dumps(content))
        if refused:
            with pytest.raises(UserError, match="trained on other features"):
                train(moved)
        else:
            train(moved)
            read_manifest(best)
