"""docs/reproduce.md says of every grid how many runs it takes, and whether it has been run."""

import re

import pytest
from tiny import ROOT

from revtaf.ablation.grid import load_grid
from revtaf.errors import UserError

GRIDS = {path.stem: path for path in (ROOT / "configs/ablations").glob("*.yaml")}
TESTED_ONLY = {"table2", "candidates"}  # their rows are other tests of models that are there
DATA = ("mimic_cxr", "phantom", "mimic_to_iu_xray", "medfuse_phantom", "trrg_phantom")  # the first that a grid is for


def rows():
    """Grids, their cell of runs and their cell of data, of each line of a table that names some."""
    for line in (ROOT / "docs/reproduce.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and (names := [n for n in re.findall(r"`(\w+)`", cells[1]) if n in GRIDS]):
            yield names, cells[2], cells[3]


def trainings(name: str) -> set[str]:
    """The run folders of a grid's first seed."""
    grid = load_grid(GRIDS[name])
    for data in DATA:
        try:
            runs = grid.runs(data, ROOT / "runs", [])
        except UserError:  # not for this set
            continue
        return {run.settings.run for run in runs if run.seed == runs[0].seed}
    raise AssertionError(f"{name} is for none of {DATA}")


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: "+".join(row[0]))
def test_a_line_counts_the_runs_and_knows_whether_they_were_made(row):
    names, runs, data = row
    count = 0 if set(names) <= TESTED_ONLY else len(set().union(*map(trainings, names)))
    assert int(re.match(r"\d+", runs)[0]) == count
    made = any(list((ROOT / "results/tables").glob(f"*/{name}/summary.json")) for name in names)
    assert not (made and "not run" in data)


def test_every_grid_is_named():
    assert {name for names, *_ in rows() for name in names} == set(GRIDS)
