"""A model that travels: the exported folder alone writes the same reports, and says nothing of where it was made."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from tiny import ROOT

from revtaf.cli import main
from revtaf.commands import export
from revtaf.commands.export import _moved_note
from revtaf.comparators.medfuse.splits import split_by_patient
from revtaf.config_file import parse_settings, save_settings
from revtaf.data.annotations import load_annotations
from revtaf.engine.folder import BEST, FORMAT, model_files, read_manifest
from revtaf.engine.runtime import read_jsonl, write_jsonl
from revtaf.files import sha256, write_json


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """The world's run, exported whole."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", str(world[1]), str(folder)]) == 0
    return folder


def test_the_folder_alone_writes_the_same_reports(exported, world, tmp_path):
    """In a fresh process, in another folder, with run and data renamed away: byte for byte what `test` wrote."""
    data, run, _ = world
    names = [study.image_path[0] for study in load_annotations(data / "annotation.json")["test"]][:3]
    shutil.copytree(exported, tmp_path / "travelled")
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / name, tmp_path / "images" / name)
    expected = [record["prediction"] for record in read_jsonl(run / "phantom-test/predictions.jsonl")][:3]
    away = [(place, place.with_name(place.name + "-away")) for place in (data, run)]
    for place, hidden in away:
        place.rename(hidden)
    try:
        call = [sys.executable, "-m", "revtaf", "generate", "--checkpoint", "travelled", "--json", "--device", "cpu"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run(
            [*call, *(f"images/{name}" for name in names)],
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300},
        )
    finally:
        for place, hidden in away:
            hidden.rename(place)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line)["report"] for line in done.stdout.splitlines()] == expected


def test_no_place_of_this_machine_is_left(exported, world):
    """Nor of its data; the settings are still whole."""
    home = str(world[0].parent).encode()
    for path in exported.rglob("*"):
        assert not path.is_file() or home not in path.read_bytes(), path
    settings = yaml.safe_load((exported / "config.yaml").read_text())
    assert settings["data"]["annotation"] == "annotation.json" and settings["run"] == "run"


def test_places_are_found_in_notes_and_nothing_else_is_touched():
    """Of a path its last name stays; fractions, addresses, units, marks and single strokes are no paths."""
    assert _moved_note("weights from /home/me/checkpoints/clip.pt (CLIP)") == "weights from clip.pt (CLIP)"
    assert _moved_note("/data of mine/annotation.json") == "annotation.json"
    for same in (
        "yes/no/maybe",
        "https://physionet.org/content/x",
        "checkpoints/a/b.pth",
        "2 / 3",
        "a /b",
        "<Img></Img></s>",
    ):
        assert _moved_note(same) == same


def test_settings_that_are_no_paths_are_exported_as_they_are(tmp_path):
    """Templates and prefixes, word for word. Of paths, and of texts that are one as a whole, the last name stays."""
    template = "</a></b> see /yes/no\nHuman: <Img><image></Img></s> x"
    settings = {
        "system": "trrg",
        "stage1": "/stage1",
        "data": {"images": "/data of mine/images", "features": "made/here"},
        "prompt": {"template": template, "predictions": ["/a/val.jsonl", "/b/test.jsonl"]},
        "clue": {"prefix": "/Clue: "},
        "eval": {"java": "/opt/my java/bin/java"},
    }
    run, out = made_model(tmp_path / "run", settings, []), tmp_path / "out"
    write_json(run / "meta.json", {"epoch": 1, "sources": {"encoders": f"of {tmp_path}/stage1 </s>"}})
    content = {"_name_or_path": str(tmp_path / "mistral"), "bos_token": "<Img></Img></s>"}
    (run / "language").mkdir()
    write_json(run / "language/config.json", content)
    manifest = json.loads((run / "model.json").read_text())
    write_json(run / "model.json", manifest | {"files": {name: sha256(run / name) for name in model_files(run)}})
    assert main(["export", str(run), str(out)]) == 0
    found = yaml.safe_load((out / "config.yaml").read_text())
    assert found["prompt"] == {"template": template, "statuses": "none", "predictions": ["val.jsonl", "test.jsonl"]}
    assert found["clue"]["prefix"] == "/Clue: " and found["stage1"] == "stage1" and found["eval"]["java"] == "java"
    assert found["data"]["images"] == "images" and found["data"]["features"] == "made/here"
    assert json.loads((out / "language/config.json").read_text()) == content | {"_name_or_path": "mistral"}
    assert json.loads((out / "meta.json").read_text())["sources"] == {"encoders": "of stage1 </s>"}


def test_the_card_is_one_that_a_hub_reads(exported, world):
    """Front matter, figures of the test, terms, and how it is opened; hashed, but free to be edited."""
    card = (exported / "README.md").read_text(encoding="utf-8")
    front, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front)["library_name"] == "revtaf" and "revtaf" in yaml.safe_load(front)["tags"]
    table = (world[1] / "phantom-test/table.md").read_text()
    assert "Not a medical device" in text and table.strip() in text and "### phantom-test" in text
    assert "This folder holds the training reports" in text and "No patient is in it" in text
    assert 'revtaf.load("FOLDER")' in text
    manifest = json.loads((exported / "model.json").read_text())
    named = manifest["files"] | manifest["documents"]
    there = {p.relative_to(exported).as_posix(): p for p in exported.rglob("*") if p.is_file()}
    assert named.keys() == there.keys() - {"model.json"}
    assert all(hashlib.sha256(there[name].read_bytes()).hexdigest() == digest for name, digest in named.items())


def test_reports_are_left_out_and_attached_again(exported, world, tmp_path, capsys):
    """From the annotation, or the file itself: the folder is the same again. Other reports are refused."""
    data, run, _ = world
    bare, full = tmp_path / "bare", tmp_path / "full"
    assert main(["export", str(run), str(bare), "--without-reports"]) == 0
    reports = {study.report for study in load_annotations(data / "annotation.json")["train"]}
    assert not (bare / "reports.jsonl").exists()
    everything = b"".join(path.read_bytes() for path in bare.rglob("*") if path.is_file())
    assert not any(report.encode() in everything for report in reports if len(report) > 60)
    assert "The training reports are not in this folder" in (bare / "README.md").read_text()
    assert main(["export", str(bare), str(full), "--reports", str(data / "annotation.json")]) == 0
    assert (full / "reports.jsonl").read_bytes() == (exported / "reports.jsonl").read_bytes()
    assert read_manifest(full)["files"] == read_manifest(exported)["files"]
    content = json.loads((data / "annotation.json").read_text())
    content["train"][3]["report"] = "The heart is large."
    (tmp_path / "other.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["export", str(bare), str(tmp_path / "x"), "--reports", str(tmp_path / "other.json")]) == 2
    assert "does not hold the reports that this model was trained on" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def made_model(folder, settings, reports):
    """A folder that is a model of these settings and training reports to all but those who open its weights."""
    folder.mkdir()
    save_settings(folder / "config.yaml", parse_settings(settings, "test"))
    write_json(folder / "meta.json", {"epoch": 1, "sources": {}})
    (folder / "model.safetensors").write_bytes(b"weights")
    write_jsonl(folder / "reports.jsonl", reports)
    files = {name: sha256(folder / name) for name in model_files(folder)}
    write_json(folder / "model.json", {"format": FORMAT, "system": settings["system"], "files": files})
    return folder


@pytest.mark.parametrize("system", ["revtaf", "medfuse", "trrg"])
def test_reports_are_those_of_the_studies_that_were_trained_on(system, tmp_path, capsys):
    """Of a split made anew, and without an image that cannot be read; the first study that an annotation lacks, or of
    which it has another text, is told."""
    studies = [
        {"id": f"s{i}", "image_path": [f"{i}.png"], "report": f"Größe {i} .", "subject_id": f"p{i // 2}"}
        for i in range(40)
    ]
    content = {"train": studies[:24], "val": studies[24:30], "test": studies[30:]}
    write_json(tmp_path / "annotation.json", content)
    annotations = load_annotations(tmp_path / "annotation.json")
    split = split_by_patient(annotations, 0) if system == "medfuse" else annotations
    kept = [study for study in split["train"] if study.id not in ("s4", "s5")]
    assert 10 < len(kept) and [s.id for s in kept] != [s.id for s in annotations["train"]]
    run = made_model(tmp_path / "run", {"system": system}, [{"id": s.id, "report": s.report} for s in kept])
    bare, full, x = tmp_path / "bare", tmp_path / "full", str(tmp_path / "x")
    assert main(["export", str(run), str(bare), "--without-reports"]) == 0
    told = "".join(path.read_text() for path in bare.iterdir())
    assert "Größe" not in told and f'"{kept[0].id}"' not in told
    for place in (run, bare):
        assert main(["export", str(place), str(full), "--reports", str(tmp_path / "annotation.json")]) == 0
        assert (full / "reports.jsonl").read_bytes() == (run / "reports.jsonl").read_bytes()
        assert read_manifest(full)["files"] == read_manifest(bare)["files"]
        shutil.rmtree(full)
    others = {
        f"number 4 of {len(kept)} is missing": [
            study for study in studies if study["id"] not in (kept[3].id, kept[7].id, "s4")
        ],
        f"study '{kept[3].id}' has another text": [
            s | {"report": "Other."} if s["id"] in (kept[3].id, kept[7].id) else s for s in studies
        ],
    }
    for wrong, whole in others.items():
        write_json(tmp_path / "other.json", {"train": whole})
        assert main(["export", str(bare), x, "--reports", str(tmp_path / "other.json")]) == 2
        assert wrong in capsys.readouterr().err


def test_nothing_is_written_over(exported, tmp_path, capsys):
    """A folder with a file in it is refused; an empty one is filled; a run that is not finished is no model."""
    before = (exported / "model.json").read_bytes()
    assert main(["export", str(exported), str(exported)]) == 2
    assert "is there already" in capsys.readouterr().err and (exported / "model.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert main(["export", str(exported), str(tmp_path / "empty")]) == 0
    assert (tmp_path / "empty/model.json").read_bytes() == before
    assert main(["export", str(tmp_path), str(tmp_path / "y")]) == 2
    assert "is no model" in capsys.readouterr().err


def test_tables_of_weights_that_are_gone_are_not_the_model_s(world, tmp_path):
    """A test of an earlier best epoch: its figures do not come onto the card."""
    run = tmp_path / "run"
    shutil.copytree(world[1], run)
    place = run / BEST
    tests = set(export._results(place))
    assert "phantom-test" in tests
    report = run / "phantom-test" / "report.json"
    content = json.loads(report.read_text())
    content["recipe"]["model"]["digest"] = "of other weights"
    report.write_text(json.dumps(content))
    assert set(export._results(place)) == tests - {"phantom-test"}
