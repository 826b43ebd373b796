"""Every script runs: its imports are there, it says how it is called, and at toy size it gets to its end."""

import ast
import importlib
import json
import multiprocessing.pool
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import ROOT

from revtaf.cli import _parser

SOURCES = sorted((ROOT / "scripts").rglob("*.py"))
SCRIPTS = [path for path in SOURCES if "__main__" in path.read_text(encoding="utf-8")]  # the others are their parts
TOYS = {  # arguments at toy size
    "backbones.py": ["--cases", "resnet18:64", "--batch", "2"],
    "fcc.py": ["--case", "soft", "--batch", "2", "--sentences", "2", "--entities", "3"],
    "frozen_features.py": ["--config", "CONFIG", "--positives", "2", "data.max_samples=16"],
    "generate.py": ["--checkpoint", "RUN", "IMAGE"],
    "image_warnings.py": ["IMAGES", "--every", "20"],
    "kill_and_resume.py": ["--out", "PLACE", "--kills", "1"],
    "labeler.py": ["--data", "CODED"],
    "language_model.py": ["--layers", "1", "--width", "64", "--words", "60", "--batch", "1"],
    "resampling.py": ["--coverage", "1", "--population", "300"],
    "retrieval.py": ["--case", "index", "--rows", "40", "--queries", "2", "-k", "3"],
    "scoring.py": ["--samples", "4", "--words", "8"],
    "search.py": ["--rows", "60", "--width", "8", "--engines", "exact"],
    "step.py": [
        "--config",
        "SHIPPED",
        "--words",
        "300",
        "--tokens",
        "9",
        "--sentences",
        "2",
        "--repeats",
        "1",
        "--device",
        "cpu",
    ],
    "store.py": ["--rows", "60", "--width", "8"],
}
ELSEWHERE = {  # whole trainings in processes of their own: the tests that run their parts
    "same_numbers.py": "test_same_numbers.py",
    "hostile.py": "test_hostile_files.py",
    "install.py": "test_reliability.py",
    "interrupt.py": "test_reliability.py",
    "long_run.py": "test_reliability.py",
    "processes.py": "test_reliability.py",
}


def named(script):
    return str(script.relative_to(ROOT / "scripts"))


@pytest.mark.parametrize("script", SOURCES, ids=named)
def test_what_a_script_imports_is_there(script):
    """Names too, and within functions: what was renamed is found before somebody runs it."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "revtaf":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def call(script, arguments, patch):
    patch.setattr(sys, "argv", [str(script), *arguments])
    patch.syspath_prepend(str(script.parent))  # as python does with a script's folder
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_script_says_how_it_is_called(script, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(script, ["--help"], monkeypatch)
    assert not stopped.value.code and "usage: " in capsys.readouterr().out


@pytest.fixture
def places(request, tmp_path, monkeypatch):
    """What words in TOYS stand for; made when a script asks for it."""

    def coded():
        """One report each, in the files that human coders left."""
        iu, sample = tmp_path / "iu_xray", tmp_path / "chexpert_labeler"
        for folder in (iu, sample):
            folder.mkdir()
        study = {"id": "CXR1_IM-0001", "report": "Large heart.", "impression": "", "mesh": ["Cardiomegaly/left"]}
        (iu / "annotation.json").write_text(json.dumps({"train": [study]}), encoding="utf-8")
        classes = (
            "Atelectasis Cardiomegaly Effusion Pneumonia Pneumothorax Consolidation Edema Mass Nodule Infiltration"
        )
        names = [*classes.split(), "Pleural_Thickening", "Fibrosis", "normal"]
        rows = [["filename", *names], ["CXR1", *(str(int(name == "Cardiomegaly")) for name in names)]]
        (iu / "negbio_gold.csv").write_text("\n".join(map(",".join, rows)), encoding="utf-8")
        (sample / "labeled_reports.csv").write_text("Reports,Cardiomegaly\nLarge heart.,1.0\n", encoding="utf-8")
        return tmp_path

    def shipped():
        """What the small configurations set and the paper does not."""
        settings = {
            "base": str(request.getfixturevalue("tiny_config")),
            "lre": {"steps": 2},
            "fvtaf": {"text_mass": "presence"},
        }
        file = tmp_path / "shipped.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        return file

    made = {
        "CONFIG": lambda: request.getfixturevalue("tiny_config"),
        "SHIPPED": shipped,
        "IMAGES": lambda: request.getfixturevalue("phantom") / "images",
        "IMAGE": lambda: next((request.getfixturevalue("phantom") / "images").glob("*.png")),
        "RUN": lambda: request.getfixturevalue("world")[1],
        "CODED": coded,
        "PLACE": lambda: tmp_path / "scratch",
    }
    return lambda word: str(made[word]()) if word in made else word


@pytest.fixture
def quick(monkeypatch):
    """No second process and no Java: a script's own work alone."""
    monkeypatch.setattr("revtaf.eval.meteor.find_java", lambda java=None: None)
    threads = SimpleNamespace(Pool=multiprocessing.pool.ThreadPool)
    context = multiprocessing.get_context
    monkeypatch.setattr("multiprocessing.get_context", lambda kind=None: threads if kind == "spawn" else context(kind))
    monkeypatch.setattr("subprocess.Popen", Prepared)
    monkeypatch.setattr("subprocess.run", lambda command, **_: Prepared(command))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Prepared:
    """In the place of a command that a script starts: its options are parsed, and one file is written."""

    returncode = 0

    def __init__(self, command, **_):
        if command[1:3] == ["-m", "revtaf"]:
            options = _parser().parse_args(command[3:])
            out = getattr(options, "out", None) or options.overrides[-1].split("=")[1]
            Path(out).mkdir(parents=True, exist_ok=True)
            (Path(out) / "file").write_text("the same", encoding="utf-8")
        else:
            assert Path(command[1]).is_file()

    def communicate(self, timeout=None):
        return b"", b""


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.name not in ELSEWHERE], ids=named)
def test_a_script_runs_at_toy_size(script, places, request, monkeypatch, capsys):
    arguments = [places(word) for word in TOYS[script.name]]
    request.getfixturevalue("quick")  # what is above may still start processes
    try:
        call(script, arguments, monkeypatch)
    except SystemExit as stopped:
        assert stopped.code in (None, 0, 1)  # 1: the target of the full size is missed
    assert capsys.readouterr().out.strip()


def test_what_runs_elsewhere_does():
    assert all((ROOT / "tests" / name).is_file() for name in ELSEWHERE.values())


@pytest.mark.parametrize(
    "script", sorted([*ROOT.glob("*.sh"), *ROOT.glob("scripts/**/*.sh")]), ids=lambda path: path.name
)
def test_a_shell_script_calls_what_there_is(script, tmp_path):
    """Each in a folder with a blank in its name, with a Python that only notes what it is asked for: the commands of
    ours parse, their configurations are there, and overrides arrive."""
    home = tmp_path / "a b"
    copy = home / script.relative_to(ROOT)
    copy.parent.mkdir(parents=True)
    shutil.copy(script, copy)
    (home / "pyproject.toml").touch()
    python = home / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done >> "{home}/asked"; echo >> "{home}/asked"\n'
    )
    python.chmod(0o755)
    given = [] if script.name == "test.sh" else ["train.epochs=2", "name=a b"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    done = subprocess.run(["bash", str(copy), *given], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    asked = [part.split("\n") for part in (home / "asked").read_text(encoding="utf-8").strip().split("\n\n")]
    ours = [words[2:] for words in asked if words[:2] == ["-m", "revtaf"]]
    assert ours or script.name == "test.sh" and ["-m", "pytest"] in [words[:2] for words in asked]
    for words in ours:
        options = _parser().parse_args(words)
        assert not hasattr(options, "config") or (ROOT / options.config).is_file()
    assert not given or ours[-1][-2:] == given
