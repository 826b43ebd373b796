"""From finished runs to numbers: means, spread, pairs, verdicts, tables. No model is trained here."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from revtaf.ablation import tables
from revtaf.ablation.collect import collect, compare_rows, make_row
from revtaf.ablation.output import write
from revtaf.ablation.scoring import Scorer, mean_of
from revtaf.ablation.tested import is_tested, result_folder
from revtaf.errors import UserError
from revtaf.eval import statistics
from revtaf.eval.evaluate import evaluate
from revtaf.eval.metric import Metric, mean_metric
from revtaf.eval.records import read_samples
from revtaf.knowledge.rules import RuleLabeler

NORMAL = "The lungs are clear. The heart size is normal. There is no pleural effusion or pneumothorax."


def worse(i: int, report: str) -> str:
    """A system that gives up on two of three images."""
    return report if i % 3 == 0 else NORMAL


def worst(i: int, report: str) -> str:
    return NORMAL


@pytest.fixture
def finished(write_grid, pretend, tmp_path):
    """plain always says normal (seed 1: not quite), full is right (seed 1: on a third)."""
    grid = write_grid()
    runs = grid.runs("phantom", tmp_path / "runs", [])
    for run in runs:
        change = worst if run.row.name == "plain" else (lambda i, r: r) if run.seed == 0 else worse
        pretend(run, change)
    return grid, runs


@pytest.fixture(scope="module")
def scorer():
    with Scorer(java="/nowhere/java") as scorer:  # METEOR is tested elsewhere, and starts slowly
        yield scorer


def test_a_mean_over_seeds_is_the_mean_of_the_corpora():
    """BLEU is no mean over samples: seeds are averaged as corpus scores, not as one large corpus."""
    square = Metric("x", np.array([[1.0], [2.0], [3.0]]), lambda sums: sums[..., 0] ** 2)
    other = Metric("x", np.array([[0.0], [1.0], [1.0]]), lambda sums: sums[..., 0] ** 2)
    assert mean_of("x", [square, other]).corpus == (36 + 4) / 2
    assert np.allclose(mean_of("x", [square, other]).per_sample, [0.5, 2.5, 5])


def test_one_seed_scores_as_the_test_command_does(finished, scorer):
    """Every metric of a row with one seed equals `evaluate` on the same file."""
    _, runs = finished
    run = next(r for r in runs if r.row.name == "full" and r.seed == 1)
    samples = read_samples(result_folder(run) / "predictions.jsonl")
    row = evaluate(samples, RuleLabeler(), floors=False, resamples=0, java="/nowhere/java").model
    found = scorer.score(run).metrics
    for name in ("BLEU_1", "BLEU_4", "ROUGE_L", "CIDEr"):
        assert found[name].corpus == pytest.approx(row["nlg"][name], abs=1e-12)
    for name in ("example_f1", "micro_f1", "macro_f1", "head_f1", "tail_f1"):
        assert found[name].corpus == pytest.approx(row["clinical"][name], abs=1e-12)
    apart = found["tail_f1"].corpus - found["head_f1"].corpus
    assert found["tail_minus_head"].corpus == pytest.approx(apart, abs=1e-12)


def test_a_training_that_broke_is_named(finished, scorer):
    """Of two of the four trainings the loss rises, of one of them for ever; one wavers as sound ones do."""
    grid, runs = finished
    courses = {("plain", 0): [5, 3, 2, 2.005], ("plain", 1): [5, 3, 3.1, 2.5], ("full", 1): [5, 3, 2.9, 6]}
    for run in [run for run in runs if (run.row.name, run.seed) in courses]:  # another row is one of their tests
        records = [
            {"step": step, "epoch": epoch + 1, "losses": {"lm": loss + 0.4 * half}}
            for epoch, loss in enumerate(courses[run.row.name, run.seed])
            for step, half in ((2 * epoch, 1), (2 * epoch + 1, -1))
        ]
        (Path(run.settings.run) / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    found = [note for note in collect(grid, runs, scorer).notes if "not trained soundly" in note]
    assert len(found) == 2
    labels = {run.row.name: run.row.label for run in runs}
    (rose,) = (note for note in found if f"'{labels['plain']}', seed 1" in note)
    assert "rose from 3.00 in epoch 2 to 3.10 in epoch 3, and ended at 2.50" in rose
    assert any(f"'{labels['full']}', seed 1" in note and "2.90 in epoch 3 to 6.00" in note for note in found)


def test_mean_spread_and_agreement(finished, scorer):
    """The table's mean and deviation are those of the seeds, and all seeds agree that full is better than plain."""
    grid, runs = finished
    summary = collect(grid, runs, scorer)
    full = summary.rows["full"]
    values = [full.per_seed[seed]["BLEU_4"] for seed in (0, 1)]
    assert values[0] > values[1] + 0.1
    assert full.mean("BLEU_4") == pytest.approx(np.mean(values))
    assert full.spread("BLEU_4") == pytest.approx(np.std(values, ddof=1))
    pair = next(p for p in summary.pairs if (p.a, p.b) == ("full", "plain"))
    assert pair.found["BLEU_4"].difference == pytest.approx(full.mean("BLEU_4") - summary.rows["plain"].mean("BLEU_4"))
    assert pair.agree("BLEU_4") == 2 and pair.seeds == (0, 1)


def test_rows_that_nobody_wrote(finished, scorer):
    """The retrieved report and the medoid are processed like references, and the medoid is the same for all seeds."""
    grid, runs = finished
    summary = collect(grid, runs, scorer)
    assert summary.rows["medoid"].spread("BLEU_4") == 0
    assert summary.rows["medoid"].extra["distinct reports"] == {"0": 1, "1": 1}
    run = next(r for r in runs if r.row.name == "copy" and r.seed == 0)
    texts = scorer.score(run).samples.predictions
    assert all(text == text.lower() and text.endswith(" .") for text in texts)


def test_a_row_against_itself_shows_nothing():
    """Equal systems: p is 1, nothing is shown, whatever the seeds."""
    rng = np.random.default_rng(0)
    parts = {seed: {"x": mean_metric("x", rng.random(40))} for seed in (0, 1)}
    rows = {name: make_row(name, parts, ["x"]) for name in ("a", "b")}
    (pair,) = compare_rows(_Pairs("b"), rows, np.arange(40), ["x"])
    assert pair.found["x"].p == 1 and pair.verdict("x") == "not shown"


@pytest.mark.parametrize(("higher", "verdict"), [(True, "better"), (False, "worse")])
def test_a_verdict_knows_the_direction_of_its_metric(higher, verdict):
    """A larger status distance is worse, a larger F1 better."""
    rng = np.random.default_rng(0)
    base = rng.random(60)
    one, other = (
        {seed: {"x": mean_metric("x", base + shift * (1 + seed / 100), higher)} for seed in (0, 1, 2)}
        for shift in (0.5, 0.0)
    )
    rows = {"a": make_row("a", one, ["x"]), "b": make_row("b", other, ["x"])}
    (pair,) = compare_rows(_Pairs("b"), rows, np.arange(60), ["x"])
    assert pair.verdict("x") == verdict


def test_seeds_that_disagree_are_no_evidence():
    """However small p is: one seed up and one seed down is not shown."""
    base = np.linspace(0, 1, 60)
    rows = {
        "a": make_row("a", {0: {"x": mean_metric("x", base + 1.0)}, 1: {"x": mean_metric("x", base - 0.1)}}, ["x"]),
        "b": make_row("b", {0: {"x": mean_metric("x", base)}, 1: {"x": mean_metric("x", base)}}, ["x"]),
    }
    (pair,) = compare_rows(_Pairs("b"), rows, np.arange(60), ["x"])
    assert pair.found["x"].p_holm < 0.05 and pair.agree("x") == 1 and pair.verdict("x") == "not shown"


@pytest.mark.parametrize(("shifts", "shown"), [((0.3, 0.31, 0.29), True), ((0.02, 0.5, 0.4), False), ((0.3,), False)])
def test_what_other_trainings_would_not_repeat_is_not_shown(shifts, shown):
    """Three seeds up, one of them hardly: over patients p is tiny, over seeds it is not. One seed shows nothing."""
    base = np.linspace(0, 1, 60)
    rows = {
        "a": make_row("a", {s: {"x": mean_metric("x", base + d)} for s, d in enumerate(shifts)}, ["x"]),
        "b": make_row("b", {s: {"x": mean_metric("x", base)} for s in range(len(shifts))}, ["x"]),
    }
    (pair,) = compare_rows(_Pairs("b"), rows, np.arange(60), ["x"])
    assert pair.found["x"].p_holm < 0.05 and pair.agree("x") == len(shifts)
    assert (pair.verdict("x") == "better") == shown


def test_pairs_use_the_seeds_that_both_rows_have():
    base = np.linspace(0, 1, 30)
    metric = {"x": mean_metric("x", base)}
    rows = {"a": make_row("a", {1: metric}, ["x"]), "b": make_row("b", {0: metric, 1: metric}, ["x"])}
    (pair,) = compare_rows(_Pairs("b"), rows, np.arange(30), ["x"])
    assert pair.seeds == (1,)


def test_a_patient_is_resampled_with_all_seeds():
    """Copying a row's seed does not narrow its interval, as it would if seeds were further samples."""
    values = np.random.default_rng(1).random(50)
    one = statistics.intervals({"x": mean_metric("x", values)}, np.arange(50), 500)["x"]
    both = mean_of("x", [mean_metric("x", values)] * 3)
    three = statistics.intervals({"x": both}, np.arange(50), 500)["x"]
    assert three.low == pytest.approx(one.low) and three.high == pytest.approx(one.high)


def test_other_samples_are_refused(finished, scorer, tmp_path):
    """A run that was tested on fewer samples cannot stand in the table."""
    grid, runs = finished
    path = result_folder(runs[-1]) / "predictions.jsonl"
    fresh = Scorer(java="/nowhere/java")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="tested on other samples"):
        collect(grid, runs, fresh)


def test_two_labelers_never_meet_in_one_table(finished, monkeypatch):
    """Also where the settings name one labeler, and it is another for one row."""
    grid, runs = finished
    score = Scorer.score

    def by_another(self, run):
        found = score(self, run)
        return replace(found, labeler=f"another than {found.labeler}") if run.row.name == "full" else found

    monkeypatch.setattr(Scorer, "score", by_another)
    with pytest.raises(UserError, match=r"row 'full' is labelled by another than rules-v\d+.*two labelers never meet"):
        collect(grid, runs, Scorer(java="/nowhere/java"))


def test_a_row_that_takes_what_is_not_there_is_refused(write_grid, pretend, tmp_path):
    """The baseline retrieves nothing: its retrieved report is an error that names the file."""
    rows = {"copy": {"take": "retrieved report", "set": {"lre.enabled": False, "fvtaf.enabled": False}}}
    grid = write_grid(rows=rows, reference="copy", seeds=[0])
    (run,) = grid.runs("phantom", tmp_path, [])
    pretend(run)
    with pytest.raises(UserError, match="predictions.jsonl: row 'copy' takes the retrieved report"):
        collect(grid, [run], Scorer(java="/nowhere/java"))


def test_a_run_is_tested_anew_when_its_test_settings_change(finished, write_grid, tmp_path):
    """Another beam size makes the old results stale; another device does not."""
    grid, runs = finished
    assert all(is_tested(run) for run in runs)
    root = tmp_path / "runs"
    assert all(is_tested(run) for run in grid.runs("phantom", root, ["device=cpu"]))
    wider = write_grid(
        rows={"plain": {"set": {"lre.enabled": False, "fvtaf.enabled": False}, "test": {"generation.beams": 3}}}
    )
    (run, _) = wider.runs("phantom", root, [])
    assert run.settings.run == runs[0].settings.run and not is_tested(run)


@pytest.mark.parametrize("spoil", ["unfinished", "another epoch", "new data"])
def test_results_of_another_training_or_of_other_data_are_stale(finished, phantom, spoil):
    """A training that goes on, a checkpoint that changed, an annotation written since: all are tested again."""
    _, runs = finished
    folder = Path(runs[0].settings.run) / "checkpoints"
    if spoil == "unfinished":
        (folder / "last/progress.json").write_text(json.dumps({"finished": False}))
    elif spoil == "another epoch":
        (folder / "best/meta.json").write_text(json.dumps({"epoch": 1}))
    else:
        report = result_folder(runs[0]) / "report.json"
        os.utime(report, (0, (phantom / "annotation.json").stat().st_mtime - 10))
    assert not is_tested(runs[0])


def test_the_files_of_a_grid(finished, scorer, tmp_path):
    """Numbers in table.md are those of summary.json; the paper's row is beside ours; no report text anywhere."""
    grid, runs = finished
    folder = write(collect(grid, runs, scorer), runs, tmp_path / "out", {"command": "ablate", "overrides": []})
    content = json.loads((folder / "summary.json").read_text())
    table = (folder / "table.md").read_text()
    mean = content["rows"]["full"]["mean"]["BLEU_4"]
    assert tables.without_zero(mean) in table and "*.182*" in table and "paper, MIMIC-CXR" in table
    assert "METEOR" in table and "n/a" in table  # left out without Java, and said so
    assert any("METEOR" in note for note in content["notes"])
    assert r"\toprule" in (folder / "table.tex").read_text()
    words = {"normal", "effusion or", "lungs are"}
    for path in folder.iterdir():
        assert not any(word in path.read_text() for word in words), path


class _Pairs:
    """What `compare_rows` needs of a grid."""

    compare = ()

    def __init__(self, reference: str):
        self.reference = reference


def test_a_grid_says_whether_its_rows_say_more_than_no_finding(finished, scorer, tmp_path):
    """A table of its own: the row that always says it has its share, and no score over the findings."""
    grid, runs = finished
    folder = write(collect(grid, runs, scorer), runs, tmp_path / "out", {"command": "c"})
    content = json.loads((folder / "summary.json").read_text())
    plain, references = content["rows"]["plain"]["mean"], content["references"]
    assert plain["no_finding_share"] == 1 and plain["micro_f1_positive"] == 0
    assert 0 < references["no_finding_share"] < 1 and references["always no finding"]["micro_f1_positive"] == 0
    said = (folder / "table.md").read_text()
    full = content["rows"]["full"]["per_seed"]
    assert full["0"]["repeat_positive"] == full["0"]["repeat_negative"] == 1 > full["1"]["repeat_positive"]
    assert plain["repeat_positive"] == 0 and "repeat_positive" not in content["rows"]["copy"]["mean"]
    assert "| plain | .000 | 1.000 | .000 |" in said and "positives of the prompt repeated" in said
    assert '*always "no finding"*' in said
    assert tables.without_zero(references["example_f1_ceiling"]) + " can be reached" in said
