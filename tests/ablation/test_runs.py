"""A grid from the command line: what is done, done again, resumed and reported. Trains tiny models."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import ROOT

from revtaf.ablation.runs import jobs_of, run_all
from revtaf.errors import UserError

ROWS = {
    "baseline": {"set": {"lre.enabled": False, "fvtaf.enabled": False}},
    "full": None,
    "oracle": {"test": {"generation.statuses": "oracle", "generation.retrieved": "oracle"}},
    "copy": {"take": "retrieved report"},
}
VIEWS = ["scores", "classes", "counts", "alignment", "retrieval", "advanced", "examples"]


def ablate(grid, folder, *given: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "revtaf", "ablate", "--config", str(grid.path), "data=phantom", "device=cpu"]
    # METEOR starts slowly and is tested elsewhere: a PATH without Java.
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    environment |= {"OMP_NUM_THREADS": "1", "PATH": str(Path(sys.executable).parent)}
    return subprocess.Popen(
        [*command, f"runs={folder}/runs", f"out={folder}/tables", *given],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def grid(write_grid):
    return write_grid(rows=ROWS, reference="full", seeds=[0], views=VIEWS, paper=None)


@pytest.fixture(scope="module")
def done(grid, tmp_path_factory):
    """The grid, run once, two rows at a time."""
    folder = tmp_path_factory.mktemp("ablate")
    return folder, finish(ablate(grid, folder, "jobs=2"))


def stamps(folder: Path) -> dict[str, float]:
    """When each run's checkpoint was written."""
    return {p.parent.parent.parent.parent.name: p.stat().st_mtime for p in folder.rglob("best/model.safetensors")}


def test_equal_trainings_are_one_and_every_row_is_in_the_table(done):
    """Four rows are two trainings; the tables hold all rows, every view, and no training state is left behind."""
    folder, output = done
    assert "4 rows, 2 trainings" in output
    assert "4 as their test kept them, 0 computed here" in output  # neither METEOR nor a labeler ran for the table
    runs = sorted(p.name for p in (folder / "runs/phantom").iterdir() if p.is_dir())
    assert runs == ["base", "fvtaf.enabled=false,lre.enabled=false"]
    tested = sorted(p.name for p in (folder / "runs/phantom/base/seed0").iterdir() if p.name.startswith("phantom-"))
    assert tested == ["phantom-test", "phantom-test-oracle-oracle_retrieved"]
    assert [p.name for p in (folder / "runs/phantom/base/seed0/checkpoints/last").iterdir()] == ["progress.json"]
    content = json.loads((folder / "tables/phantom/grid/summary.json").read_text())
    assert list(content["rows"]) == list(ROWS)
    assert set(content["alignment"]["rows"]) == {"full", "uniform map", "mean box of the training set"}
    assert {"random", "full"} <= set(content["retrieval"]["rows"])
    analysed = folder / "runs/phantom/base/seed0/phantom-test"
    recipe, *made_of = (
        json.loads((analysed / name).read_text())[entry]
        for name, entry in (("report.json", "recipe"), ("retrieval.json", "made of"), ("alignment.json", "made of"))
    )
    assert made_of == [{"model": recipe["model"], "annotation": recipe["data"]["annotation"]}] * 2
    page = (folder / "runs/phantom/grid.html").read_text()
    assert page.count("<article>") >= 3 and "Not a medical device" in page


def test_the_oracle_row_is_another_test_of_the_same_model(done):
    """Statuses and retrieved reports of the oracle row are the true ones."""
    folder, _ = done
    run = folder / "runs/phantom/base/seed0"
    plain, oracle = (
        [json.loads(line) for line in (run / name / "predictions.jsonl").read_text().splitlines()]
        for name in ("phantom-test", "phantom-test-oracle-oracle_retrieved")
    )
    assert [p["statuses"] for p in plain] != [p["statuses"] for p in oracle]
    found = [sum(p["retrieval_distance"] for p in side) for side in (plain, oracle)]
    assert all(p["retrieval_distance"] == int(p["retrieval_distance"]) for p in oracle) and found[0] != found[1]


def test_only_what_is_missing_is_done_again(done, grid):
    """Without a row's folder that row alone is trained again; the table comes out the same."""
    folder, _ = done
    table = folder / "tables/phantom/grid/table.md"
    before, times = table.read_text(), stamps(folder)
    for path in sorted((folder / "runs/phantom/fvtaf.enabled=false,lre.enabled=false").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    output = finish(ablate(grid, folder))
    assert "1 of 2 runs are there already" in output
    after = stamps(folder)
    assert after["base"] == times["base"]
    assert after["fvtaf.enabled=false,lre.enabled=false"] > times["fvtaf.enabled=false,lre.enabled=false"]
    assert table.read_text() == before


@pytest.mark.parametrize("given", [["rows=baseline"], ["train.epochs=1"], ["seeds=1"]])
def test_a_trial_does_not_replace_a_fuller_table(done, grid, given):
    """Fewer rows, other seeds or other settings are refused before anything runs, with the way out."""
    folder, _ = done
    table = folder / "tables/phantom/grid/table.md"
    before = table.read_text()
    process = ablate(grid, folder, *given)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "out=FOLDER" in output and "Traceback" not in output
    assert table.read_text() == before


def test_what_a_row_needs_is_looked_into_before_anything_is_trained(write_grid, tmp_path):
    """A folder that is there and no model would be found out about behind the rows before it."""
    rows = {"plain": None, "other": {"needs": "knowledge.medfuse", "set": {"lre.features": "medfuse"}}}
    grid = write_grid(rows=rows, seeds=[0], paper=None)
    (tmp_path / "medfuse").mkdir()
    process = ablate(grid, tmp_path, f"knowledge.medfuse={tmp_path / 'medfuse'}")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "knowledge.medfuse" in output and "Traceback" not in output
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_an_interrupted_grid_stops_its_run_and_continues(write_grid, tmp_path):
    """SIGTERM to the command alone: the training saves its state and ends; the same command goes on from there."""
    grid = write_grid(rows={"baseline": ROWS["baseline"]}, reference="baseline", seeds=[0], paper=None)
    process = ablate(grid, tmp_path, "train.epochs=12", "train.validate_every=12")
    folder = tmp_path / "runs/phantom"
    deadline = time.monotonic() + 120
    while not (found := list(folder.rglob("metrics.jsonl"))) or len(found[0].read_text().splitlines()) < 4:
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()[-2000:]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command continues" in output
    (last,) = folder.rglob("last/progress.json")
    stopped = json.loads(last.read_text())
    assert not stopped["finished"] and stopped["step"] >= 4
    lines = found[0].read_text().splitlines()
    time.sleep(0.5)
    assert found[0].read_text().splitlines() == lines  # nobody trains on unseen
    finish(ablate(grid, tmp_path, "train.epochs=12", "train.validate_every=12"))
    log = next(folder.rglob("log.txt")).read_text()
    assert "resuming after" in log
    assert json.loads(last.read_text())["finished"]


def test_a_failed_row_is_named_with_its_log_after_the_others(write_grid, tmp_path):
    """A row without data fails with its log's path; it is no traceback of the grid."""
    rows = {"broken": {"set": {"data.annotation": str(tmp_path / "none.json")}}}
    grid = write_grid(rows=rows, reference="broken", seeds=[0], paper=None)
    runs = grid.runs("phantom", tmp_path / "runs", [])
    with pytest.raises(UserError, match=r"1 of 1 runs failed; see .*ablate.log"):
        run_all(jobs_of(runs, set()), 2)
    (log,) = (tmp_path / "runs").rglob("ablate.log")
    assert "none.json" in log.read_text()


def test_rows_that_need_a_file_are_left_out_with_the_reason(write_grid, tmp_path):
    """Without CLIP's checkpoint nothing of supplement, Table 1 can run: the message says which file."""
    rows = {"clip": {"needs": "knowledge.clip", "set": {"knowledge.memory": "clip"}}}
    grid = write_grid(rows=rows, reference="clip", seeds=[0], paper=None)
    process = ablate(grid, tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "nothing to run" in output
    assert "knowledge.clip: checkpoints/clip" in output and "Traceback" not in output
