"""A grid takes from a test what that scored: no METEOR and no labeler runs again, and no number changes."""

import json
from pathlib import Path

import numpy as np
import pytest

from revtaf.ablation import scoring
from revtaf.ablation.collect import collect
from revtaf.ablation.output import content_of
from revtaf.ablation.scoring import Scorer
from revtaf.ablation.tables import scores_markdown
from revtaf.ablation.tested import result_folder
from revtaf.eval import kept, meteor_score, nlg
from revtaf.eval.meteor import Meteor
from revtaf.files import write_json
from revtaf.knowledge.rules import RuleLabeler
from revtaf.pages.report import plain_json

NORMAL = "The lungs are clear. The heart size is normal. There is no pleural effusion or pneumothorax."
ROWS = {
    "plain": {"set": {"lre.enabled": False, "fvtaf.enabled": False}},
    "full": None,
    "copy": {"take": "retrieved report"},
    "random": {"take": "random training report"},
    "nearest": {"take": "nearest training report (oracle)"},
    "frequent": {"take": "most frequent report"},
    "medoid": {"take": "medoid report"},
}


class Counted:
    """A METEOR and a labeler that count their texts; the scores are invented, and no whole numbers."""

    def __init__(self, monkeypatch):
        self.meteor = self.labels = 0
        self.name = RuleLabeler().name
        monkeypatch.setattr(Meteor, "statistics", self._statistics)
        monkeypatch.setattr("revtaf.eval.nlg.unavailable_reason", lambda java: None)
        for module in ("revtaf.eval.evaluate", "revtaf.ablation.scoring"):
            monkeypatch.setattr(f"{module}.java_version", lambda java: java)
        monkeypatch.setattr(scoring, "make_labeler", lambda settings, device: self)

    def _statistics(self, references, hypotheses):
        self.meteor += len(hypotheses)
        lengths = [[len(h) / 7, len(r[0]) / 3] for r, h in zip(references, hypotheses, strict=True)]
        return np.pad(np.array(lengths), ((0, 0), (0, meteor_score.STATISTICS - 2)), constant_values=0.1)

    def label(self, reports):
        self.labels += len(reports)
        return RuleLabeler().label(reports)


@pytest.fixture
def counted(monkeypatch):
    return Counted(monkeypatch)


@pytest.fixture
def tested(write_grid, write_tested, counted, tmp_path):
    """A grid of seven rows and two seeds whose runs were tested and reported."""
    grid = write_grid(rows=ROWS, paper=None)
    runs = grid.runs("phantom", tmp_path / "runs", [])
    for folder in {result_folder(run): run for run in runs}.values():
        write_tested(folder, lambda i, report: report if i % 3 else NORMAL, java="java17")
    counted.meteor = counted.labels = 0
    return grid, runs


def forget(runs) -> None:
    """Take away what was kept."""
    for run in runs:
        (result_folder(run) / kept.FILE).unlink(missing_ok=True)


def test_a_grid_over_tested_runs_asks_neither_meteor_nor_the_labeler(tested, counted):
    """All rows, all seeds: 0 calls; without the files every row is scored."""
    grid, runs = tested
    with Scorer("java17") as scorer:
        collect(grid, runs, scorer)
    assert (counted.meteor, counted.labels) == (0, 0)
    assert (scorer.read, scorer.anew) == (len(runs), 0)
    forget(runs)
    with Scorer("java17") as scorer:
        collect(grid, runs, scorer)
    n = len(scorer.score(runs[0]).samples)
    assert counted.meteor == len(runs) * n and counted.labels > len(runs)


def test_what_is_read_equals_what_is_scored_to_the_last_bit(tested):
    """Every metric of every row, the statuses, and all of the table: means, intervals, tests."""
    grid, runs = tested
    with Scorer("java17") as reading:
        read = collect(grid, runs, reading)
    forget(runs)
    with Scorer("java17") as scoring_anew:
        scored = collect(grid, runs, scoring_anew)
    for run in runs:
        one, other = reading.score(run), scoring_anew.score(run)
        assert {*nlg.METRICS, "macro_supported_f1", "average", "tail_minus_head"} <= set(other.metrics)
        assert set(one.metrics) == set(other.metrics)
        for name, metric in other.metrics.items():
            assert np.array_equal(metric.statistics, one.metrics[name].statistics), (run.row.name, name)
            assert metric.corpus == one.metrics[name].corpus, (run.row.name, name)
            assert np.array_equal(metric.per_sample, one.metrics[name].per_sample, equal_nan=True)
        assert np.array_equal(one.statuses, other.statuses) and one.distinct == other.distinct
    assert json.dumps(plain_json(content_of(read, runs))) == json.dumps(plain_json(content_of(scored, runs)))


def spoil_text(folder: Path, counted) -> None:
    path = folder / "predictions.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"prediction": "No acute findings."})
    path.write_text("\n".join(lines) + "\n")


def spoil_labeler(folder: Path, counted) -> None:
    counted.name = "rules-v0"


def spoil_missing(folder: Path, counted) -> None:
    (folder / kept.FILE).unlink()


def spoil_damaged(folder: Path, counted) -> None:
    content = bytearray((folder / kept.FILE).read_bytes())
    content[-3] ^= 4
    (folder / kept.FILE).write_bytes(content)


def spoil_report(folder: Path, counted) -> None:
    """A test that was killed between the statistics and the report."""
    report = json.loads((folder / kept.REPORT).read_text())
    write_json(folder / kept.REPORT, report | {kept.ENTRY: "0" * 64})


@pytest.mark.parametrize("spoil", [spoil_text, spoil_labeler, spoil_missing, spoil_damaged, spoil_report])
def test_what_does_not_fit_is_scored_anew(tested, counted, spoil):
    """A changed prediction, another labeler, a file that is missing, damaged or of another report."""
    grid, runs = tested
    run = next(r for r in runs if r.row.name == "full")
    spoil(result_folder(run), counted)
    with Scorer("java17") as scorer:
        found = scorer.score(run)
    assert counted.meteor == len(found.samples) and counted.labels > 0
    forget(runs)
    with Scorer("java17") as fresh:
        again = fresh.score(run)
    assert {k: m.corpus for k, m in found.metrics.items()} == {k: m.corpus for k, m in again.metrics.items()}


def test_a_changed_text_of_the_system_leaves_the_other_rows(tested, counted):
    """What the retriever found is still what was scored."""
    _, runs = tested
    spoil_text(result_folder(next(r for r in runs if r.row.name == "full")), counted)
    with Scorer("java17") as scorer:
        scorer.score(next(r for r in runs if r.row.name == "copy"))
    assert (counted.meteor, counted.labels) == (0, 0)


def test_a_row_of_another_seed_is_scored_as_before(tested, counted):
    """The reports of another draw are no reports that the test has scored."""
    grid, runs = tested
    run = next(r for r in runs if r.row.name == "random" and r.seed == 0)
    own, other = result_folder(run), result_folder(next(r for r in runs if r.row.name == "random" and r.seed == 1))
    for name in (kept.FILE, kept.REPORT):
        (own / name).write_bytes((other / name).read_bytes())
    with Scorer("java17") as scorer:
        found = scorer.score(run)
    assert counted.meteor == len(found.samples) and counted.labels > 0


def test_another_java_runs_meteor_and_nothing_else(tested, counted):
    _, runs = tested
    run = next(r for r in runs if r.row.name == "full")
    with Scorer("java21") as scorer:
        found = scorer.score(run)
    assert counted.meteor == len(found.samples) and counted.labels == 0 and "METEOR" in found.metrics


def test_a_grid_without_java_shows_no_meteor(tested, counted, monkeypatch):
    """The table says that METEOR was skipped; a number in it would be of another machine."""
    _, runs = tested
    monkeypatch.setattr("revtaf.eval.nlg.unavailable_reason", lambda java: "METEOR skipped: no java found")
    with Scorer() as scorer:
        found = scorer.score(runs[0])
    assert "METEOR" not in found.metrics and "average" not in found.metrics
    assert (counted.meteor, counted.labels) == (0, 0)


def test_a_grid_says_what_its_texts_are(write_grid, pretend, tmp_path):
    """Two forms beside each other, answers that say nothing, and one reference for all: in the notes, n/a in the table;
    from statistics that were kept no less than from texts."""
    grid = write_grid(rows={"plain": ROWS["plain"], "full": None}, seeds=[0], paper=None)
    runs = grid.runs("phantom", tmp_path / "runs", [])
    for run in runs:
        cased = run.row.name == "full"
        pretend(run, lambda i, report, cased=cased: report if cased else ("nan", "lungs clear. no edema.")[i % 2])
    with Scorer("/nowhere/java") as scorer:
        summary = collect(grid, runs, scorer)
    notes = " ".join(summary.notes)
    assert "full is written with capitals and punctuation, plain is not" in notes and "full: " in notes
    assert "plain, seed 0: " in notes and "predictions say nothing" in notes
    assert "CIDEr" in summary.rows["full"].metrics and "CIDEr is n/a" not in notes

    for run in runs:
        path = result_folder(run) / "predictions.jsonl"
        records = [json.loads(line) | {"reference": NORMAL} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with Scorer("/nowhere/java") as scorer:
        summary = collect(grid, runs, scorer)
    assert "CIDEr is n/a: it needs two different references." in summary.notes
    assert "CIDEr" not in summary.rows["full"].metrics
    content = json.loads(json.dumps(plain_json(content_of(summary, runs)), allow_nan=False))
    assert "CIDEr" not in content["rows"]["full"]["mean"]
    assert "n/a" in scores_markdown(content)
