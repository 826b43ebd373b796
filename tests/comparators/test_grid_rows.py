"""MedFuse-CLIP in a grid: rows of its test, of what stands beside it, and of a test with fewer numbers."""

import json

import pytest
import yaml

from revtaf.ablation.collect import collect
from revtaf.ablation.command import _there
from revtaf.ablation.grid import load_grid
from revtaf.ablation.output import write
from revtaf.ablation.scoring import Scorer
from revtaf.ablation.tested import is_tested
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.comparators.medfuse.rows import DUPLICATES, ENTITY_ROW, RANDOM

ROWS = {
    "model": {"label": "MedFuse-CLIP", "x": 16, "paper": "MedFuse-CLIP"},
    "few": {"label": "two numbers", "x": 2, "test": {"ranking.dimensions": 2}},
    "random": {"label": "chance", "x": 0, "take": RANDOM},
    "copies": {"label": "copies", "x": 0, "take": DUPLICATES},
    "entities": {"label": "entities", "x": 0, "take": ENTITY_ROW},
}
COLUMNS = ["i2t_recall_at_10", "i2t_median_rank", "t2i_recall_at_10", "auroc_name", "i2t_own_patient"]


@pytest.fixture
def finished(medfuse_config, tmp_path):
    """A grid of one training, and its runs as `ablate` leaves them."""
    content = {
        "title": "pairs",
        "system": "medfuse",
        "paper": {"source": "medfuse", "table": ["Table II", "Table III"]},
        "seeds": [0],
        "reference": "model",
        "views": ["scores", "curve"],
        "axis": "numbers",
        "metrics": COLUMNS,
        "controls": [{"name": "Few", "rows": ["model", "few"], "metric": "i2t_recall_at_10", "least": 0.01}],
        "rows": ROWS,
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tiny.yaml").write_text(f"base: {medfuse_config}\ndata: {{test_split: train}}\n")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    grid = load_grid(tmp_path / "grid.yaml")
    runs = grid.runs("tiny", tmp_path / "runs", [])
    train(runs[0].settings)
    for run in runs:
        if not is_tested(run):
            run_test(run.tested)
    return grid, runs


def test_a_grid_of_medfuse_has_its_rows_and_the_printed_figures(finished, tmp_path):
    """One training and two tests; medians are compared, absent rows left out, headings are the system's."""
    grid, runs = finished
    assert len({run.settings.run for run in runs}) == 1 and all(is_tested(run) for run in runs)
    with Scorer(java="/nowhere/java") as scorer:
        found = _there(grid, runs)
        folder = write(collect(grid, found, scorer), found, tmp_path / "out", {"command": "c", "overrides": []})
    content = json.loads((folder / "summary.json").read_text())
    assert list(content["rows"]) == ["model", "few", "random", "copies"]
    assert list(content["rows"]["model"]["mean"]) == COLUMNS and "auroc_name" not in content["rows"]["random"]["mean"]
    against = {pair["a"]: pair["metrics"] for pair in content["pairs"]}
    assert set(against["few"]) == set(COLUMNS) and set(against["random"]) == set(COLUMNS[:3])
    assert set(against["copies"]) == {"i2t_recall_at_10", "t2i_recall_at_10"}
    table = (folder / "table.md").read_text()
    for text in ("R@10 i→r", "MedR i→r ↓", "*.837* | *6.000*", "own before the patient's others", "| Few | phantom |"):
        assert text in table, text
    assert "ours − paper" not in table and "svd:2d" in content["signature"] and (folder / "curve.png").is_file()


def test_another_way_of_ranking_is_tested_again(finished):
    """A test setting that training is free of is none that a test is free of."""
    grid, runs = finished
    other = grid.runs("tiny", runs[0].settings.run.parents[2], ["ranking.ties=pessimistic"])
    assert other[0].settings.run == runs[0].settings.run and not is_tested(other[0])
