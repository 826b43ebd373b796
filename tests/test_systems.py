"""The seam: systems that the project does not know go the whole way, and the engine knows none of them."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tiny import ROOT

import revtaf
from revtaf.config import RunSettings
from revtaf.errors import UserError
from revtaf.locks import alone
from revtaf.settings import Settings

TOYS = Path(__file__).parent / "toys"
OF_THE_ENGINE = (
    *("errors", "rng", "precision", "files", "locks", "config", "config_file", "systems", "check_line"),
    *("data", "pretrained", "knowledge", "eval", "engine"),
    "generate",  # the type of what single images are answered with
)


def command(*arguments, **options) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "revtaf", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOYS), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, capture_output=True, text=True, timeout=300, env=environment, **options)


def states(run: Path) -> tuple[dict, list[str]]:
    """Weights, and every line of the metrics."""
    return load_file(run / "checkpoints/last/model.safetensors"), (run / "metrics.jsonl").read_text().splitlines()


def test_a_toy_is_trained_killed_continued_tested_and_opened_elsewhere(toy_config, tmp_path):
    """Bit for bit after SIGTERM; scored and shown; opened by a process that sees only its folder."""
    whole = tmp_path / "whole"
    assert command("train", "--config", toy_config, f"run={whole}").returncode == 0
    call = [sys.executable, "-m", "revtaf", "train", "--config", str(toy_config)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOYS), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True, env=environment)
    run = tmp_path / "run"
    while process.poll() is None and not ((run / "metrics.jsonl").exists() and states_count(run) >= 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode in (130, 0)
    if process.returncode == 130:
        assert command("test", "--config", toy_config).returncode in (0, 2)  # a run that goes on is no finished model
    assert command("train", "--config", toy_config).returncode == 0
    (a, lines), (b, others) = states(whole), states(run)
    assert lines == others and a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)

    tested = command("test", "--config", toy_config)
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.splitlines()[2].startswith("toy ")
    report = json.loads((run / "phantom-test/report.json").read_text())
    assert report["run"]["what it is"] == "one constant report"
    assert set(report["curves"]["losses"]) == {"nll"}
    page = (run / "phantom-test/report.html").read_text()
    assert "Not a medical device" in page and "toy" in page
    scored = command("score", run / "phantom-test/predictions.jsonl", "--resamples", "0")
    assert scored.returncode == 0, scored.stderr

    text = json.loads((run / "phantom-test/predictions.jsonl").read_text().splitlines()[0])["prediction"]
    alone = tmp_path / "alone"
    shutil.copytree(run / "checkpoints/best", alone)
    shutil.rmtree(run)
    shutil.rmtree(whole)
    code = f"import revtaf; print(revtaf.load({str(alone)!r}).report('x.png').report)"
    opened = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=alone, env=environment, timeout=120
    )
    assert opened.stdout.strip() == text, opened.stderr


def states_count(run: Path) -> int:
    """Steps logged so far."""
    return sum('"losses"' in line for line in (run / "metrics.jsonl").read_text().splitlines())


def test_a_toy_is_a_row_of_a_grid(toy_config, tmp_path):
    """Two rows of the toy, trained, tested and tabulated by the command that knows REVTAF's grids."""
    (tmp_path / "data").mkdir()
    shutil.copy(toy_config, tmp_path / "data/phantom.yaml")
    grid = {
        "title": "toys",
        "system": "toy",
        "reference": "slow",
        "rows": {"slow": {"label": "slow", "set": {"train.lr": 0.001}}, "fast": {"label": "fast"}},
        "seeds": [0],
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    places = (f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'tables'}")
    done = command("ablate", "--config", tmp_path / "grid.yaml", "data=phantom", *places)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "tables/phantom/grid/summary.json").read_text())
    assert set(summary["rows"]) == {"slow", "fast"}


def test_settings_of_a_system_are_its_own(toy_config):
    """A key of REVTAF is unknown to the toy; an unknown system is an error with the nearest name."""
    refused = command("check", "--config", toy_config, "lre.enabled=false")
    assert refused.returncode == 2 and "unknown key 'lre'" in refused.stderr
    refused = command("check", "--config", toy_config, "system=toi")
    assert refused.returncode == 2 and "did you mean 'toy'?" in refused.stderr
    refused = command("analyse", "--config", toy_config)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


def test_a_folder_that_names_a_system_that_is_not_installed_runs_nothing(tmp_path, tiny_config):
    """Systems are found by entry points alone: a module of that name beside the folder is not imported."""
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    (tmp_path / "config.yaml").write_text("system: evil\n")
    (tmp_path / "model.json").write_text('{"format": 2, "system": "evil", "files": {}}')
    with pytest.raises(UserError, match="no 'evil'"):
        revtaf.load(tmp_path)


def names(tree: ast.AST) -> set[str]:
    """Every attribute, name, argument and text constant, documentation aside."""
    documentation = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg | ast.keyword):
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            found |= {node.value, *node.value.split(".")}
    return found


def test_the_engine_knows_no_system():
    """No import of a system's package; no section of its settings, no module, no loss of it by name."""
    from revtaf.model import Losses

    sections = set(Settings.model_fields) - set(RunSettings.model_fields)
    assert {"lre", "fvtaf", "loss", "decoder"} <= sections
    forbidden = (
        (sections - {"loss"}) | set(Losses._fields) | {"hnn", "retrieved", "scores", "statuses", "settings.loss"}
    )
    modules = sorted((ROOT / "revtaf/engine").glob("*.py"))
    assert len(modules) > 5
    for path in modules:
        tree = ast.parse(path.read_text())
        imported = [
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        ]
        own = [name for name in imported if name.startswith("revtaf.")]
        assert all(name.split(".")[1] in OF_THE_ENGINE for name in own), (path.name, own)
        assert not names(tree) & forbidden, (path.name, names(tree) & forbidden)
        assert not any(
            isinstance(node, ast.Attribute) and node.attr == "loss" and isinstance(node.value, ast.Attribute)
            for node in ast.walk(tree)
        ), path.name


def test_a_system_that_only_ranks_is_trained_evaluated_and_a_row(toy_config, tmp_path):
    """No report anywhere: a table of ranks with intervals, a page, no predictions; and a grid of two such rows."""
    content = yaml.safe_load(toy_config.read_text()) | {"system": "toy_ranker", "run": str(tmp_path / "ranked")}
    toy_config.write_text(yaml.safe_dump(content))
    assert command("train", "--config", toy_config).returncode == 0
    done = command("test", "--config", toy_config)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "ranked/phantom-test"
    assert not (folder / "predictions.jsonl").exists()
    report = json.loads((folder / "report.json").read_text())
    assert report["kind"] == "rankings" and list(report["metrics"]) == ["toy ranker", "as they come"]
    assert report["intervals"]["toy ranker"] and "Not a medical device" in (folder / "report.html").read_text()
    (tmp_path / "data").mkdir()
    shutil.copy(toy_config, tmp_path / "data/phantom.yaml")
    rows = {"slow": {"label": "slow", "set": {"train.lr": 0.001}}, "fast": {"label": "fast"}}
    grid = {
        "title": "rankers",
        "system": "toy_ranker",
        "reference": "slow",
        "rows": rows,
        "seeds": [0],
        "metrics": list(METRICS),
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    places = (f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'tables'}")
    done = command("ablate", "--config", tmp_path / "grid.yaml", "data=phantom", *places)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "tables/phantom/grid/summary.json").read_text())
    assert set(summary["rows"]) == {"slow", "fast"} and set(METRICS) <= set(summary["rows"]["fast"]["mean"])


METRICS = ("mrr", "recall_at_1")


def test_two_trainings_in_one_folder_are_refused(toy_config, tmp_path):
    """The second is told that the first is at work, and writes nothing."""
    with alone(tmp_path / "run", "training"):
        refused = command("train", "--config", toy_config)
    assert refused.returncode == 2 and "another process is training in" in refused.stderr
    assert not (tmp_path / "run").exists()
