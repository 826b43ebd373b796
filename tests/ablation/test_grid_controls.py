"""Positive controls of a grid: read or refused, judged by their rule, and printed."""

import json

import pytest

from revtaf.ablation import controls
from revtaf.ablation.collect import collect
from revtaf.ablation.documents import controls as controls_block
from revtaf.ablation.output import write
from revtaf.ablation.scoring import Scorer
from revtaf.errors import UserError

GRP = {"name": "GRP", "rows": ["full", "plain"], "metric": "BLEU_4", "least": 0.2}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("GRP", "expected a list of {name, rows, metric, least}"),
        ([{**GRP, "leest": 1}], "GRP: unknown key 'leest'; did you mean 'least'"),
        ([{**GRP, "name": None}], "one without a name: expected a name and a metric"),
        ([GRP, GRP], "GRP: there are two of that name"),
        ([{**GRP, "rows": []}], "GRP: rows: expected one row, or two"),
        ([{**GRP, "rows": ["ful"]}], "GRP: there is no row 'ful'; did you mean 'full'"),
        ([{**GRP, "least": 0}], "GRP: least: expected a number above 0"),
        ([{**GRP, "view": "retrieval"}], "GRP: view: expected one of the grid's views scores"),
    ],
)
def test_a_control_that_could_not_be_judged_is_refused(write_grid, given, says):
    """With the file and the control, before anything runs."""
    with pytest.raises(UserError) as error:
        write_grid(controls=given)
    assert says in str(error.value) and "grid.yaml: controls" in str(error.value)


def test_a_grid_judges_and_prints_its_controls(write_grid, pretend, tmp_path):
    """full repeats the references, plain does not: the pair is tested though nobody names it, and both rules apply."""
    rows = {"plain": {"set": {"lre.enabled": False, "fvtaf.enabled": False}}, "full": {}}
    level = {"name": "Level", "rows": ["plain"], "metric": "ROUGE_L", "least": 0.99}
    grid = write_grid(rows=rows, paper=None, seeds=[0, 1], controls=[{**GRP, "metric": "macro_f1_x"}, level])
    runs = grid.runs("phantom", tmp_path / "runs", [])
    for run in runs:
        pretend(run, (lambda i, r: r) if run.row.name == "full" else (lambda i, r: "The lungs are clear."))
    with Scorer(java="/nowhere/java") as scorer:
        with pytest.raises(UserError, match="controls: no row has 'macro_f1_x'"):
            collect(grid, runs, scorer)
        grid = write_grid(rows=rows, paper=None, seeds=[0, 1], controls=[GRP, level])
        folder = write(collect(grid, runs, scorer), runs, tmp_path / "out/phantom/c", {"command": "", "overrides": []})
    content = json.loads((folder / "summary.json").read_text())
    grp, plain = controls.judge(content)
    assert (grp.verdict, plain.verdict) == ("passed", "failed")
    assert grp.effect > 0.5 and grp.interval[0] > 0 and plain.effect < 0.99
    table = (folder / "table.md").read_text()
    assert "| GRP | phantom | full, against plain | BLEU-4 +" in table and "| **no** |" in table
    assert "+.200 or more | yes |" in controls_block(tmp_path / "out")
    assert controls.verdicts(tmp_path / "out", "phantom") == {"GRP": "passed", "Level": "failed"}


@pytest.mark.parametrize(
    ("difference", "low", "verdict"),
    [(0.2, 0.1, "passed"), (0.19, 0.1, "failed"), (0.3, -0.01, "failed"), (None, None, "not run")],
)
def test_the_rule_of_a_control(difference, low, verdict):
    """What is needed is reached, and the patients agree."""
    (outcome,) = controls.judge(summary(difference, low))
    assert outcome.verdict == verdict


def summary(difference, low, name="GRP", **more) -> dict:
    """A summary with one control on the rows a and b."""
    found = {"difference": difference, "low": low, "high": difference}
    row = {"label": "", "mean": {}, "interval": {}, "seeds": [0, 1]}
    return {
        "data": "phantom",
        "views": ["scores"],
        "rows": {"a": row, "b": row},
        "pairs": [{"a": "a", "b": "b", "seeds": [0, 1], "metrics": {"BLEU_4": found}}],
        "controls": [{"name": name, "rows": ["a", "b"], "metric": "BLEU_4", "least": 0.2, "view": "scores"}],
    } | more


def test_a_pair_that_was_tested_the_other_way_round_is_turned():
    """b against a is minus a against b."""
    content = summary(-0.3, -0.4)
    content["pairs"][0] |= {"a": "b", "b": "a"}
    (outcome,) = controls.judge(content)
    assert outcome.effect == 0.3 and outcome.interval == (0.3, 0.4) and outcome.verdict == "passed"
