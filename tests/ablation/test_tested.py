"""Which results a grid takes as those of today: of this test, these data and this model."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from revtaf.ablation import views
from revtaf.ablation.tested import is_analysed, is_tested, result_folder
from revtaf.commands import test as command
from revtaf.commands.recipe import make_recipe
from revtaf.data.annotations import load_annotations
from revtaf.engine.system import Written
from revtaf.errors import UserError
from revtaf.files import read_json, sha256, write_json
from revtaf.system import analyses


@pytest.fixture
def run(write_grid, pretend, tmp_path):
    """A finished run on the tiny phantom set."""
    rows = {"plain": {"set": {"lre.enabled": False, "fvtaf.enabled": False}}}
    (run,) = write_grid(rows=rows, seeds=[0], paper=None).runs("phantom", tmp_path / "runs", [])
    pretend(run)
    return run


def test_a_test_that_stops_leaves_no_earlier_figures_beside_its_settings(run, monkeypatch):
    """Other settings are written, then the process ends before the report: the old figures are not there."""
    settings = run.tested.model_copy(update={"generation": run.tested.generation.model_copy(update={"beams": 3})})
    changed = SimpleNamespace(**vars(run) | {"tested": settings})
    assert is_tested(run) and not is_tested(changed)
    accelerator = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
    system = SimpleNamespace(accelerator=accelerator, evaluate=lambda: Written([{"id": "a"}], None))
    monkeypatch.setattr(command, "open_trained", lambda settings: system)
    monkeypatch.setattr(command, "_report", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        command.test(settings)
    assert not is_tested(changed) and not (result_folder(run) / "report.json").exists()


def keep_recipe(run) -> None:
    """As `test` does, into the pretended report: which model and data it was of."""
    write_json(Path(run.settings.run) / "checkpoints/best/model.json", {"system": "revtaf", "files": {"a": "1"}})
    path = result_folder(run) / "report.json"
    write_json(path, read_json(path) | {"recipe": make_recipe(run.tested)})


def with_data(run, **changes):
    """The run on a data set that lies elsewhere."""
    return replace(run, tested=run.tested.model_copy(update={"data": run.tested.data.model_copy(update=changes)}))


def test_results_are_of_one_annotation_however_old_its_file(run, phantom, tmp_path):
    """The same bytes with a new time are the same data; other bytes with an old time are others."""
    keep_recipe(run)
    copy = tmp_path / "annotation.json"
    copy.write_bytes((phantom / "annotation.json").read_bytes())
    assert is_tested(run) and is_tested(with_data(run, annotation=copy))
    later = result_folder(run).joinpath("report.json").stat().st_mtime + 60
    os.utime(copy, (later, later))
    assert is_tested(with_data(run, annotation=copy))
    copy.write_bytes(copy.read_bytes() + b"\n")
    os.utime(copy, (0, 0))
    assert not is_tested(with_data(run, annotation=copy))


def test_results_are_of_the_images_in_another_folder_only_where_they_are_the_same(run, tmp_path):
    """A copied folder is as good; one with another picture in it is not."""
    keep_recipe(run)
    copy = tmp_path / "images"
    shutil.copytree(run.tested.data.images, copy)
    assert is_tested(with_data(run, images=copy))
    other = tmp_path / "others"
    shutil.copytree(copy, other)
    study = load_annotations(run.tested.data.annotation)["test"][0]
    with open(other / study.image_path[0], "ab") as file:
        file.write(b"\0")
    assert not is_tested(with_data(run, images=other))


def test_results_are_of_one_model_also_where_the_best_epoch_is_the_same(run):
    """Trained anew, the same epoch is the best: the figures are of another model."""
    keep_recipe(run)
    assert is_tested(run)
    write_json(Path(run.settings.run) / "checkpoints/best/model.json", {"system": "revtaf", "files": {"a": "2"}})
    assert not is_tested(run)


def test_results_of_a_model_of_another_training_set_are_not_there(run):
    """Also where the tested set is as it was: `data=phantom_other` of a phantom set that was drawn anew."""
    manifest = Path(run.settings.run) / "checkpoints/best/model.json"
    for annotation, there in ((sha256(run.settings.data.annotation), True), ("0" * 64, False)):
        write_json(manifest, read_json(manifest) | {"annotation": annotation})
        assert is_tested(run) is there


def test_results_of_a_model_that_read_another_medfuse_are_not_there(run, tmp_path):
    """Trained anew in the same folder, it is another; where it is not asked, it does not count."""
    kept, own = Path(run.settings.run) / "checkpoints/best/model.json", tmp_path / "medfuse/checkpoints/best/model.json"
    write_json(own, {"system": "medfuse"})
    hashes = {"knowledge.medfuse": {"model.json": sha256(own)}}
    write_json(kept, read_json(kept) | {"external": hashes} if kept.is_file() else {"files": {}, "external": hashes})
    knowledge = run.settings.knowledge.model_copy(update={"medfuse": tmp_path / "medfuse", "memory": "medfuse"})
    asking = replace(run, settings=run.settings.model_copy(update={"knowledge": knowledge}))
    assert asking.settings.reads_medfuse and is_tested(asking)
    write_json(own, {"system": "medfuse", "anew": True})
    assert is_tested(run) and not is_tested(asking)


def test_analyses_are_of_the_model_and_the_annotation_of_today(run, phantom, tmp_path):
    """One of another model or of an annotation that changed is made anew; one that does not say of which counts."""
    keep_recipe(run)
    run = replace(run, plain=with_data(run, annotation=tmp_path / "annotation.json").tested)
    shutil.copy(phantom / "annotation.json", tmp_path)
    made_of = read_json(result_folder(run) / "report.json")["recipe"]
    made_of = {"model": made_of["model"], "annotation": made_of["data"]["annotation"]}
    path = result_folder(run, plain=True) / analyses.RETRIEVAL
    assert not is_analysed(run)
    write_json(path, {"version": analyses.VERSION, analyses.MADE_OF: made_of})
    assert is_analysed(run)
    write_json(
        path.with_name(analyses.ALIGNMENT), {"version": analyses.VERSION, analyses.MADE_OF: {**made_of, "model": 1}}
    )
    assert not is_analysed(run)
    path.with_name(analyses.ALIGNMENT).unlink()
    with open(run.plain.data.annotation, "a") as file:
        file.write("\n")
    assert not is_analysed(run)
    write_json(path, {"version": analyses.VERSION})
    assert is_analysed(run)


def test_an_analysis_of_other_samples_than_were_tested_is_refused(run):
    """The file is named, and the way out: nothing in it says of which data it is."""
    path = result_folder(run, plain=True) / analyses.RETRIEVAL
    grid = SimpleNamespace(name="grid")
    write_json(path, {"ids": ["a", "b"], "subjects": ["1", "1"]})
    assert views._files(grid, [run], analyses.RETRIEVAL, ["a", "b"])[0].keys() == {("plain", 0)}
    with pytest.raises(UserError, match=r"retrieval.json is of other samples than row 'plain'.*delete it"):
        views._files(grid, [run], analyses.RETRIEVAL, ["a", "c"])
