"""Shared by all tests: a tiny phantom set and settings, development data, one METEOR process, a toy labeler."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from browser import browser, tab  # noqa: F401 (fixtures)
from nothing_skipped import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 (hooks)
from tiny import TINY, make_session

from revtaf.eval.meteor import Meteor, find_java, tried, unavailable_reason
from revtaf.labels import CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))  # as in the processes that tests start

# Files of few tests that take a minute each. Two files run at a time: one of these at the end would run alone.
SLOW = [
    *("commands/test_cli.py", "ablation/test_runs.py", "test_systems.py", "test_raw_to_table.py", "test_model.py"),
    *("commands/test_fetch.py", "features/test_build.py", "commands/test_reproduce.py", "test_documents_walked.py"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow files first; `scripts/test.sh` lets pytest-xdist keep this order."""
    first = {Path(__file__).parent / name for name in SLOW}
    assert all(path.is_file() for path in first), f"not there any more: {[p for p in first if not p.is_file()]}"
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """A phantom set of 60 small images."""
    from revtaf.data.sources.phantom.prepare import prepare_phantom

    out = tmp_path_factory.mktemp("data") / "phantom"
    prepare_phantom(out, images=60, seed=3, size=72, progress=False)
    return out


@pytest.fixture(scope="session")
def tiny_config(phantom: Path, tmp_path_factory) -> Path:
    """A YAML file with the tiny settings on that set; results go beside it."""
    folder = tmp_path_factory.mktemp("config")
    content = TINY | {
        "run": str(folder / "run"),
        "data": {
            "name": "phantom",
            "annotation": str(phantom / "annotation.json"),
            "images": str(phantom / "images"),
            "features": str(phantom / "features"),
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def session(tiny_config: Path):
    """Knowledge fitted on the tiny set, and an untrained model."""
    return make_session(tiny_config)


@pytest.fixture(scope="session")
def world(phantom: Path, tiny_config: Path, tmp_path_factory):
    """A data set of its own and a finished, tested run on it: (data folder, run folder, settings)."""
    from revtaf.commands.test import test as run_test
    from revtaf.commands.train import train
    from revtaf.config_file import load_settings

    home = tmp_path_factory.mktemp("world")
    shutil.copytree(phantom, home / "data", ignore=shutil.ignore_patterns("features"))
    names = {"annotation": "annotation.json", "images": "images", "features": "features"}
    places = [f"data.{key}={home / 'data' / name}" for key, name in names.items()]
    quick = ("train.epochs=1", "eval.resamples=0")
    settings = load_settings(tiny_config, [*places, f"run={home / 'run'}", *quick])
    train(settings)
    run_test(settings)
    return home / "data", home / "run", settings


@pytest.fixture
def toys(monkeypatch):
    """The toys are installed, for this process and those that it starts."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "toys"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "toys"))
    from revtaf import systems

    systems.find.cache_clear()
    yield
    systems.find.cache_clear()


@pytest.fixture
def toy_config(toys, phantom, tmp_path) -> Path:
    """The tiny phantom set for a toy; the run goes beside the file."""
    content = {
        "system": "toy",
        "name": "toy",
        "device": "cpu",
        "run": str(tmp_path / "run"),
        "data": {
            "name": "phantom",
            "annotation": str(phantom / "annotation.json"),
            "images": str(phantom / "images"),
            "features": str(tmp_path / "features"),
        },
        "train": {"epochs": 2, "batch_size": 6, "lr": 0.1, "warmup_steps": 2, "workers": 0, "clip_value": None}
        | {"precision": "no"},  # as all tests of one process
        "eval": {"resamples": 50},
    }
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the IU X-Ray texts and the published scores, which are not part of the project."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("REVTAF_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder} (set REVTAF_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def meteor():
    """One process for all tests: its start takes seconds."""
    if reason := unavailable_reason():
        pytest.skip(reason)
    with Meteor() as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def quick_check():
    """`check` starts METEOR's jar and waits until it has read its 5.3 million paraphrases: up to a minute. Here that is
    left to tests/eval/test_meteor.py, except for a Java that a test has made up."""
    java = find_java()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("revtaf.check.tried", lambda asked, jar: None if asked == java else tried(asked, jar))
        yield


class ToyLabeler:
    """Positive where the category's name occurs, negative behind "no"; counts the texts it was asked for."""

    name = "toy-v1"

    def __init__(self):
        self.labelled: list[str] = []

    def label(self, reports):
        self.labelled += reports
        statuses = np.zeros((len(reports), len(CATEGORIES)), dtype=np.uint8)
        for row, report in zip(statuses, reports, strict=True):
            for i, category in enumerate(CATEGORIES):
                if category in report:
                    row[i] = NEGATIVE if f"no {category}" in report else POSITIVE
            row[NO_FINDING] = POSITIVE * (not (row == POSITIVE).any())
        return statuses


@pytest.fixture
def labeler() -> ToyLabeler:
    return ToyLabeler()


@pytest.fixture
def called(capsys):
    """Run a command; returns what it printed, and its errors where it did not end with 0."""
    from revtaf.cli import main

    def called(*arguments, code=0):
        capsys.readouterr()
        found = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert found == code, output.err
        return output.err if code else output.out

    return called
