"""Systems that rank and write nothing as rows of a grid: read from what their test kept, with metrics of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from trrg_tiny import SECOND

from revtaf.ablation import tables
from revtaf.ablation.collect import TESTED, collect
from revtaf.ablation.command import _there
from revtaf.ablation.output import write
from revtaf.ablation.scoring import Scorer
from revtaf.ablation.tested import is_tested, result_folder
from revtaf.errors import UserError
from revtaf.eval import kept
from revtaf.eval.metric import median_metric

OFF = {"lre.enabled": False, "fvtaf.enabled": False}
ROWS = {"good": None, "bad": {"set": OFF}}
RANKED = ["mrr", "recall_at_1", "recall_at_3", "median_rank"]


@pytest.fixture
def scorer():
    with Scorer(java="/nowhere/java") as scorer:
        yield scorer


@pytest.fixture
def ranked(write_grid, write_ranked, tmp_path):
    """Makes a grid of two retrievers and its finished runs."""

    def make(**changes):
        grid = write_grid(**{"rows": ROWS, "reference": "bad", "paper": None} | changes)
        runs = grid.runs("phantom", tmp_path / "runs", [])
        for run in runs:
            write_ranked(run, 2 if run.row.name == "good" else 6)
        return grid, runs

    return make


@pytest.fixture
def mixed(write_grid, write_tested, write_ranked, tmp_path):
    """A system that writes, and one that ranks, on the same samples."""
    grid = write_grid(rows={"writes": None, "ranks": {"set": OFF}}, reference="writes", seeds=[0], paper=None)
    runs = grid.runs("phantom", tmp_path / "runs", [])
    write_tested(runs[0])
    write_ranked(runs[1], 3)
    return grid, runs


def table(summary, runs, folder) -> tuple[dict, str, str]:
    """summary.json, table.md and table.tex."""
    write(summary, runs, folder, {"command": "ablate", "overrides": []})
    return (
        json.loads((folder / "summary.json").read_text()),
        (folder / "table.md").read_text(),
        (folder / "table.tex").read_text(),
    )


def test_a_grid_of_rankings_shows_their_metrics_and_tests_them(ranked, scorer, tmp_path):
    """Columns, means, intervals and tests are of what the rows have; less is better where the metric says so."""
    grid, runs = ranked(seeds=[0, 1, 2])
    summary = collect(grid, runs, scorer)
    content, markdown, latex = table(summary, runs, tmp_path / "out")
    assert content["metrics"] == RANKED and content["lower is better"] == ["median_rank"]
    row = content["rows"]["good"]
    assert list(row["mean"]) == RANKED == list(row["interval"]) and row["distinct reports"] == {}
    n = content["samples"]
    assert row["mean"]["mrr"] == pytest.approx(((n + 1) // 2 + 0.5 * (n // 2)) / n)  # ranks 1, 2, 1, 2, ..
    (pair,) = content["pairs"]
    assert list(pair["metrics"]) == RANKED
    assert pair["metrics"]["mrr"]["difference"] > 0 > pair["metrics"]["median_rank"]["difference"]
    assert summary.pairs[0].lower == {"median_rank"} and pair["metrics"]["mrr"]["agree"] == 3
    for text in ("| mrr | recall at 1 |", "median rank ↓", tables.without_zero(row["mean"]["recall_at_1"])):
        assert text in markdown
    assert "BLEU" not in markdown + latex and r"median rank $\downarrow$" in latex
    assert content["signature"].startswith("rankings|image-to-report,") and "labelled" not in markdown
    assert content["support"] == {}


def test_a_grid_names_what_its_tables_show(ranked, scorer, tmp_path):
    """The named metrics alone, in that order; Holm's correction is over them."""
    grid, runs = ranked(metrics=["recall_at_3", "mrr"])
    content, markdown, _ = table(collect(grid, runs, scorer), runs, tmp_path / "out")
    assert content["metrics"] == ["recall_at_3", "mrr"] == list(content["pairs"][0]["metrics"])
    assert "| recall at 3 | mrr |" in markdown and "recall at 1" not in markdown
    wrong, _ = ranked(metrics=["recall_at_2"])
    with pytest.raises(UserError, match="no row has 'recall_at_2'; did you mean 'recall_at_"):
        collect(wrong, runs, scorer)


@pytest.mark.parametrize("metrics", ["mrr", [], ["mrr", "mrr"], [1]])
def test_metrics_of_a_grid_are_a_list_of_names(write_grid, metrics):
    with pytest.raises(UserError, match="metrics: expected different names"):
        write_grid(metrics=metrics)


def test_a_grid_of_reports_may_name_metrics_too(write_grid, write_tested, scorer, tmp_path):
    """One that the standard table leaves out, here macro precision."""
    grid = write_grid(rows=ROWS, reference="bad", seeds=[0], paper=None, metrics=["macro_precision", "BLEU_4"])
    runs = grid.runs("phantom", tmp_path / "runs", [])
    for run in runs:
        write_tested(run)
    content, markdown, _ = table(collect(grid, runs, scorer), runs, tmp_path / "out")
    assert "| macro precision | BLEU-4 |" in markdown and "METEOR |" not in markdown
    assert set(content["rows"]["good"]["interval"]) == {"macro_precision", "BLEU_4", *tables.SAID} - {"auc"}


def test_systems_that_write_and_systems_that_rank_share_a_table(mixed, scorer, tmp_path):
    """Each has its columns, and n/a in the others'; nothing is compared that only one of them has."""
    grid, runs = mixed
    content, markdown, _ = table(collect(grid, runs, scorer), runs, tmp_path / "out")
    assert content["metrics"] == [*tables.MAIN, *RANKED]
    written, ranking = content["rows"]["writes"]["mean"], content["rows"]["ranks"]["mean"]
    assert written["BLEU_4"] > 0.5 and "mrr" not in written
    assert list(ranking) == RANKED
    assert [list(pair["metrics"]) for pair in content["pairs"]] == [[]]
    line = next(line for line in markdown.splitlines() if line.startswith("| ranks |"))
    assert line.count("n/a") == len(tables.MAIN)
    assert " + rankings|" in content["signature"] and "|ce:rules-v3" in content["signature"]
    assert sum(content["support"].values()) > 0


def test_a_grid_of_reports_is_what_it_was(write_grid, write_tested, scorer, tmp_path):
    """No key of the summary says what its columns are: they are the paper's."""
    grid = write_grid(rows=ROWS, reference="bad", seeds=[0], paper=None)
    runs = grid.runs("phantom", tmp_path / "runs", [])
    for run in runs:
        write_tested(run)
    content, markdown, _ = table(collect(grid, runs, scorer), runs, tmp_path / "out")
    assert not {"metrics", "lower is better"} & set(content)
    assert set(content["pairs"][0]["metrics"]) == set(TESTED) - {"METEOR", "average"}
    assert "| BLEU-1 | BLEU-2 |" in markdown


@pytest.mark.parametrize("spoil", ["missing", "damaged"])
def test_rankings_whose_statistics_are_gone_are_tested_again(ranked, scorer, spoil):
    """There is nothing to score anew: such a run is not tested, and a table says so."""
    grid, runs = ranked(seeds=[0])
    path = result_folder(runs[0]) / kept.FILE
    assert all(is_tested(run) for run in runs)
    if spoil == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not is_tested(runs[0]) and is_tested(runs[1])
    with pytest.raises(UserError, match="missing or damaged; delete .*report.json and test again"):
        collect(grid, runs, scorer)


def test_reports_whose_statistics_are_gone_are_tested_still(mixed):
    """Their texts are there and can be scored."""
    _, (writes, ranks) = mixed
    (result_folder(writes) / kept.FILE).unlink()
    assert is_tested(writes) and is_tested(ranks)


@pytest.mark.parametrize("view", ["classes", "counts", "examples", "advanced"])
def test_a_view_of_reports_is_refused_where_no_row_writes_any(ranked, scorer, view):
    grid, runs = ranked(seeds=[0], views=["scores", view])
    with pytest.raises(UserError, match=f"'{view}' is about written reports"):
        collect(grid, runs, scorer)


def test_rankings_of_other_samples_are_refused(mixed, scorer, phantom):
    """A table is of one set of samples, whoever writes and whoever ranks."""
    grid, runs = mixed
    path = result_folder(runs[0]) / "predictions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="tested on other samples"):
        collect(grid, runs, scorer)


def test_a_row_that_the_test_has_not_is_refused_by_name(write_grid, write_ranked, scorer, tmp_path):
    grid = write_grid(rows={"copy": {"take": "retrieved report"}}, reference="copy", seeds=[0], paper=None)
    (run,) = grid.runs("phantom", tmp_path / "runs", [])
    write_ranked(run, 2)
    with pytest.raises(UserError, match="no row 'retrieved report'; its test has a retriever, random order"):
        scorer.score(run)


def test_medians_of_other_runs_are_compared_over_the_levels_of_both(ranked, scorer):
    """Each test knows its own ranks alone; with a level that only one run has, values stay what they were."""
    grid, runs = ranked(seeds=[0])
    good, bad = (scorer.score(run) for run in runs)
    for found, worst in ((good, 2), (bad, 6)):
        ranks = 1 + np.arange(len(found.samples)) % worst
        found.metrics["median_rank"] = median_metric("median_rank", ranks, higher_is_better=False)
    assert good.metrics["median_rank"].statistics.shape != bad.metrics["median_rank"].statistics.shape
    summary = collect(grid, runs, scorer)
    (pair,) = summary.pairs
    means = [row.mean("median_rank") for row in summary.rows.values()]
    assert pair.found["median_rank"].difference == pytest.approx(means[0] - means[1])


def test_a_row_that_may_be_absent_is_left_out(write_grid, write_ranked, scorer, tmp_path, caplog):
    """What stands beside a system is taken where its test has it."""
    rows = {"own": None, "chance": {"take": "medoid report"}}
    grid = write_grid(rows=rows, reference="own", seeds=[0], paper=None)
    runs = grid.runs("phantom", tmp_path / "runs", [])
    write_ranked(runs[0], 2)
    assert [run.row.name for run in _there(grid, runs)] == ["own"]
    assert "row 'chance', seed 0, is left out" in caplog.text
    assert list(collect(grid, _there(grid, runs), scorer).rows) == ["own"]


def test_a_system_s_own_names_are_the_headings(ranked, scorer, tmp_path):
    """As its pages have them; a metric that it knows and has not on this set is a column of n/a."""
    grid, runs = ranked(seeds=[0], metrics=["mrr", "rare"])
    for run in runs:
        scorer.score(run).headings = {"mrr": "MRR i→r", "rare": "AUROC of it"}
    content, markdown, _ = table(collect(grid, runs, scorer), runs, tmp_path / "out")
    assert content["headings"] == {"mrr": "MRR i→r", "rare": "AUROC of it"}
    assert "| MRR i→r | AUROC of it |" in markdown and "| n/a |" in markdown


def test_rows_of_two_systems_stand_in_one_table(write_grid, write_tested, scorer, tmp_path):
    """The same images, the same scores, tested against each other; the table says which row is whose."""
    rows = {"plain": None, "other": {"label": "TRRG", "system": "trrg"}}
    grid = write_grid(rows=rows, seeds=[0], paper=None)
    base = yaml.safe_load((grid.path.parent / "data/phantom.yaml").read_text())["base"]
    data = yaml.safe_load(Path(base).read_text())["data"]
    (grid.path.parent / "data/trrg_phantom.yaml").write_text(yaml.safe_dump(SECOND | {"data": data}))
    runs = grid.runs("phantom", tmp_path / "runs", [])
    write_tested(runs[0], lambda i, report: "the heart is enlarged")
    write_tested(runs[1])
    content, markdown, _ = table(collect(grid, runs, scorer), runs, tmp_path / "out")
    assert content["rows"]["other"]["settings"] == {"system": "trrg"}
    assert content["rows"]["other"]["mean"]["ROUGE_L"] > 0.7 > 0.2 > content["rows"]["plain"]["mean"]["ROUGE_L"]
    (pair,) = content["pairs"]
    assert pair["metrics"]["BLEU_4"]["difference"] > 0.5 and "| TRRG |" in markdown
