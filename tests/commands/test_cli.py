"""As a user calls it: exit codes, one message, nothing left behind; the shell scripts; several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import ROOT

from revtaf.cli import main
from revtaf.config_file import load_settings
from revtaf.engine.runtime import make_accelerator


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "2"} | variables
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)


def flat(settings: dict, prefix: str = "") -> list[str]:
    """Nested settings as key=value overrides."""
    result = []
    for key, value in settings.items():
        if isinstance(value, dict):
            result += flat(value, f"{prefix}{key}.")
        else:
            result.append(f"{prefix}{key}={'null' if value is None else value}")
    return result


def test_the_three_shell_scripts_run_on_the_phantom_set(tiny_config, tmp_path):
    """train_mimic_cxr.sh, test_mimic_cxr.sh and test_iu_xray.sh are the whole path, given a data set."""
    content = yaml.safe_load(tiny_config.read_text())
    content |= {"run": str(tmp_path / "run")}
    content.pop("name")
    overrides = [*flat(content), "train.epochs=1", "loss.beta=0.25", "missing=stand-in"]
    trained = run("bash", "train_mimic_cxr.sh", *overrides)
    assert trained.returncode == 0, trained.stderr[-2000:]
    tested = run("bash", "test_mimic_cxr.sh", *overrides)
    assert tested.returncode == 0, tested.stderr[-2000:]
    assert "REVTAF" in tested.stdout and "medoid report" in tested.stdout
    memory = flat({"memory": content["data"]})  # an earlier name of trained_on, which is still read
    # The second set is the same images under another name: what matters is that it is not the memory's own.
    other = ["data.name=other", f"data.features={tmp_path / 'other'}", "data.test_split=val+test"]
    elsewhere = run("bash", "test_iu_xray.sh", *overrides, *memory, *other)
    assert elsewhere.returncode == 0, elsewhere.stderr[-2000:]
    assert (tmp_path / "run" / "other-val-test" / "report.html").is_file()


def test_training_without_data_lists_every_missing_file(tmp_path):
    """bash train_mimic_cxr.sh on a fresh clone: what is missing, and the page that says how to get it."""
    missing = tmp_path / "none"
    result = run(
        "bash", "train_mimic_cxr.sh", f"run={tmp_path / 'run'}",
        f"data.annotation={missing / 'annotation.json'}", f"data.images={missing / 'images'}",
    )  # fmt: skip
    assert result.returncode == 2
    assert "annotation.json" in result.stderr and "images" in result.stderr and "docs/data.md" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_one_process_in_place_of_several_is_said(tiny_config, monkeypatch, caplog):
    """accelerate's launcher sets this variable and no rank where there is no GPU."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")
    make_accelerator(load_settings(tiny_config))
    assert "torchrun --standalone --nproc_per_node N" in caplog.text


def test_two_processes_train_one_model(tiny_config, tmp_path):
    """torchrun with two CPU processes: one run folder, half the steps each, every val report once."""
    result = run(
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "revtaf", "train",
        "--config", str(tiny_config), f"run={tmp_path / 'run'}", "train.epochs=1",
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "losses" in r] == [1, 2, 3, 4]
    assert 0 <= records[-1]["validation"]["example_f1"] <= 1
    assert (tmp_path / "run" / "checkpoints" / "best" / "model.safetensors").is_file()


@pytest.fixture
def broken(tiny_config, phantom, tmp_path):
    """A copy of the tiny configuration whose annotation a test may damage."""
    annotation = json.loads((phantom / "annotation.json").read_text())

    def damage(change):
        change(annotation)
        path = tmp_path / "annotation.json"
        path.write_text(json.dumps(annotation))
        return [f"data.annotation={path}", f"run={tmp_path / 'run'}"]

    return damage


def fails(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err + captured.out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a["train"][0].update(report=" "), "'report' is empty"),
        (lambda a: a["train"][0].update(labels=[7] * 18), "unknown status 7"),
        (lambda a: a["train"][1].update(id=a["train"][0]["id"]), "duplicate id"),
        (lambda a: a["train"][0].update(image_path=["nowhere.png"]), "nowhere.png"),
        (lambda a: a["train"][0].update(report=5), "'report'"),
        (lambda a: a.update(val=[]), "no study in split 'val'"),
    ],
)
def test_bad_annotations_end_with_one_message(tiny_config, broken, capsys, tmp_path, change, says):
    """Exit code 2, what and where, and no run folder."""
    message = fails(capsys, "train", "--config", str(tiny_config), *broken(change))
    assert says in message
    assert not (tmp_path / "run").exists()


def test_a_truncated_image_ends_with_its_name(tiny_config, phantom, tmp_path, capsys):
    """Found while features are extracted, before training; no half-made features stay behind."""
    images = tmp_path / "images"
    images.mkdir()
    for path in (phantom / "images").iterdir():
        (images / path.name).symlink_to(path)
    names = [s["image_path"][0] for s in json.loads((phantom / "annotation.json").read_text())["train"]]
    victim = images / names[1]
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(content[:300])
    features = tmp_path / "features"
    message = fails(
        capsys, "train", "--config", str(tiny_config), f"data.images={images}", f"data.features={features}",
        f"run={tmp_path / 'run'}", "seed=7",
    )  # fmt: skip
    assert names[1] in message
    assert not features.exists() or not list(features.iterdir())


def test_check_reports_each_file(tiny_config, capsys):
    """Zero when everything needed is there, two with a line of advice when not."""
    assert main(["check", "--config", str(tiny_config)]) == 0
    assert "everything that is needed is there" in capsys.readouterr().out
    message = fails(capsys, "check", "--config", str(tiny_config), "data.images=/nonexistent", "eval.java=/no/java")
    assert "image folder not found" in message and "/no/java" in message and "->" in message


def test_a_device_that_is_not_there_is_refused(tiny_config, tmp_path, capsys):
    """Neither a GPU that does not exist nor a word that is no device falls back silently."""
    run = f"run={tmp_path / 'run'}"
    assert "CUDA device" in fails(capsys, "train", "--config", str(tiny_config), run, "device=cuda:99")
    assert "expected auto" in fails(capsys, "train", "--config", str(tiny_config), run, "device=gpu")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--config", "configs/nothing.yaml"], "configuration not found"),
        (["train", "--config", "configs/phantom.yaml", "train.epocs=1"], "train.epochs"),
        (["prepare", "iu_xray", "--source", "/nonexistent", "--out", "x"], "not found"),
    ],
)
def test_wrong_calls_name_the_fix(capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(ROOT)
    message = fails(capsys, *arguments)
    assert says in message
    assert not Path(ROOT / "x").exists()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(1 << 50),
        lambda: np.empty(1 << 50),
        lambda: bytearray(1 << 50),
        lambda: (_ for _ in ()).throw(ImportError("x.so: failed to map segment from shared object")),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nGPU 0")),
    ],
    ids=["torch", "numpy", "python", "library", "gpu"],
)
def test_memory_that_runs_out_is_one_message(capsys, monkeypatch, ask):
    """Of each library in its own words, with what to set; any other error of a library keeps its traceback."""
    monkeypatch.setattr("revtaf.cli._report", lambda options: ask())
    assert main(["report"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: memory ran out") and "train.accumulation" in said and said.count("\n") == 1
    monkeypatch.setattr("revtaf.cli._report", lambda options: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        main(["report"])
