"""What `ablate` does around its runs: faults are told before they start, and no end without a table is silent."""

import pytest

from revtaf.ablation import command
from revtaf.ablation.command import ablate
from revtaf.ablation.runs import Job
from revtaf.errors import UserError


@pytest.fixture
def grids(write_grid, monkeypatch, tmp_path):
    """Two grids and the words of their command; nothing is trained, and what a grid needs is not looked for."""
    monkeypatch.setattr(command, "run_all", lambda *_: None)
    monkeypatch.setattr(command, "_check", lambda *_: None)
    paths = []
    for name in ("one", "two"):
        grid = write_grid(rows={"base": None}, reference="base", paper=None, seeds=[0])
        paths.append(grid.path.rename(grid.path.with_name(f"{name}.yaml")))
    return paths, ["data=phantom", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'tables'}"]


def test_runs_that_end_without_their_results_are_told(grids):
    """As where another process tests the same models in another way."""
    with pytest.raises(UserError, match="not all results are those asked for.*base.*seed0"):
        ablate(*grids)


def test_a_run_of_other_settings_is_told_before_anything_starts(grids, monkeypatch):
    def earlier(folder, settings, remedy):
        raise UserError(f"{folder} holds a run with other settings (train.lr: 1 -> 2); {remedy}")

    monkeypatch.setattr(command, "earlier_progress", earlier)
    monkeypatch.setattr(command, "run_all", lambda *_: pytest.fail("started"))
    with pytest.raises(UserError, match=r"train.lr: 1 -> 2\); delete it, or .* runs=FOLDER out=FOLDER"):
        ablate(*grids)


def test_a_grid_without_a_table_leaves_the_others_theirs(grids, monkeypatch):
    made = []

    def tabulate(grid, runs, request):
        if grid.name == "one":
            raise UserError("one: no row has 'auc'")
        return made.append(grid.name)

    monkeypatch.setattr(Job, "done", True)
    monkeypatch.setattr(command, "_tabulate", tabulate)
    with pytest.raises(UserError, match="one: no row has 'auc'"):
        ablate(*grids)
    assert made == ["two"]
