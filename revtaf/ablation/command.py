"""`revtaf ablate`: run the rows of one or several grids, then make their tables and figures."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from revtaf.ablation.collect import collect, paper_figures
from revtaf.ablation.examples import write_examples, write_maps
from revtaf.ablation.grid import Grid, Run, check_apart, load_grid
from revtaf.ablation.output import write
from revtaf.ablation.runs import jobs_of, run_all
from revtaf.ablation.scoring import Scorer
from revtaf.ablation.tables import SUMMARY, read_summary
from revtaf.ablation.tested import ranks, result_folder
from revtaf.check import require
from revtaf.engine.checkpoint import earlier_progress
from revtaf.errors import UserError, nearest
from revtaf.eval import floors
from revtaf.eval import kept as kept_statistics

ANALYSED = ("alignment", "retrieval")  # views that need `revtaf analyse`
_REMEDY = "delete it, or give this one other places with runs=FOLDER out=FOLDER"  # for a run of other settings
log = logging.getLogger("revtaf")


@dataclass
class GridRequest:
    """What the command line asks for. `key=value` without a dot belongs to the grid, the others are settings of all
    rows."""

    data: str = "phantom"
    jobs: int = 1
    seeds: tuple[int, ...] = ()
    rows: tuple[str, ...] = ()
    runs: Path = Path("results/runs")
    out: Path = Path("results/tables")
    overrides: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, given: Sequence[str]) -> GridRequest:
        """Raises UserError for a key that is none of these and no setting, and for a value that does not fit."""
        request = cls()
        for item in given:
            key, sign, value = item.partition("=")
            if not sign or not value:
                raise UserError(f"{item!r}: expected key=value, such as data=phantom or train.epochs=2")
            if "." in key or key in ("device", "threads", "missing", "stage1"):
                request.overrides.append(item)
            elif key == "data":
                request.data = value
            elif key in ("runs", "out"):
                setattr(request, key, Path(value))
            elif key == "rows":
                request.rows = tuple(value.split(","))
            elif key in ("jobs", "seeds"):
                numbers = [part for part in value.split(",") if re.fullmatch(r"[0-9]{1,9}", part)]
                whole = len(numbers) == value.count(",") + 1 == len(set(numbers))
                if not whole or (key == "jobs" and (len(numbers) > 1 or int(value) < 1)):
                    raise UserError(f"{item}: expected a number" + (" or several, 0,1,2" if key == "seeds" else ""))
                setattr(request, key, int(value) if key == "jobs" else tuple(map(int, numbers)))
            else:
                known = ("data", "jobs", "seeds", "rows", "runs", "out")
                if key == "run":
                    raise UserError(f"{item}: every row has a run folder of its own; name a place for all: runs=FOLDER")
                raise UserError(f"{item}: unknown key '{key}' (a setting has a dot); {nearest(key, known)}")
        return request

    def folder(self, grid: Grid) -> Path:
        """Where the tables of a grid go."""
        return self.out / self.data / grid.name

    def command(self, grid: Grid) -> str:
        """What makes this grid again."""
        seeds = ",".join(map(str, self.seeds))
        chosen = [("data", self.data), ("seeds", seeds), ("rows", ",".join(self.rows))]
        given = [f"{key}={value}" for key, value in chosen if value]
        return " ".join(["python -m revtaf ablate --config", str(grid.path), *given, *self.overrides])


def ablate(configs: Sequence[Path], given: Sequence[str]) -> list[Path]:
    """Run and tabulate; returns the folders with the tables. What is finished is not done again.

    Raises UserError before anything is started for whatever can be known then. Where runs fail, the tables of the grids
    that are complete are written first.
    """
    request = GridRequest.parse(given)
    wanted: list[tuple[Grid, list[Run]]] = []
    for grid in [load_grid(path) for path in configs]:
        if len(configs) > 1 and (reason := grid.refuses(request.data)):
            log.info("%s is left out: it %s", grid.name, reason)
        elif runs := _runs(grid, request):
            wanted.append((grid, runs))
    if not wanted:
        raise UserError(f"nothing to run: no row of {', '.join(map(str, configs))} can run here")
    for grid, runs in wanted:
        _check(grid, runs, request)
    everything = [run for _, runs in wanted for run in runs]
    check_apart("these grids", everything)
    for_analysis = [runs for grid, runs in wanted if set(grid.views) & set(ANALYSED)]
    analysed = {str(run.settings.run) for runs in for_analysis for run in runs if not run.row.take}
    jobs = jobs_of(everything, analysed)
    for job in jobs:
        if not job.done:
            earlier_progress(job.folder, job.runs[0].settings, _REMEDY)
    log.info("%d rows, %d trainings", len(everything), len(jobs))
    failures: list[UserError] = []
    try:
        run_all(jobs, request.jobs)
    except UserError as error:
        failures.append(error)
    left = [str(job.folder) for job in jobs if not job.done]
    if left and not failures:
        failures.append(
            UserError(
                f"the runs ended, but not all results are those asked for, as if another process tests there: {left}"
            )
        )
    folders = []
    for grid, runs in wanted:
        if not any(str(run.settings.run) in left for run in runs):
            try:
                folders.append(_tabulate(grid, runs, request))
            except UserError as error:  # the other grids have tables all the same
                failures.append(error)
    if failures:
        raise UserError("; ".join(map(str, failures)))
    return folders


def _tabulate(grid: Grid, everything: Sequence[Run], request: GridRequest) -> Path:
    with Scorer(everything[0].tested.eval.java) as scorer:  # one for each grid: what it tells is of its rows
        runs = _there(grid, everything)
        content = {"command": request.command(grid), "overrides": request.overrides}
        folder = write(collect(grid, runs, scorer), runs, request.folder(grid), content)
        if "alignment" in grid.views:
            log.info("maps: %s", write_maps(grid, runs, request.runs / request.data / f"{grid.name}.png"))
        if "examples" in grid.views:
            page = request.runs / request.data / f"{grid.name}.html"
            log.info("examples: %s", write_examples(grid, runs, scorer, page))
        log.info("scores: %d as their test kept them, %d computed here", scorer.read, scorer.anew)
    return folder


def _there(grid: Grid, runs: Sequence[Run]) -> list[Run]:
    """Those whose row the test has; what stands beside a system may need files that are not there, and is left out."""
    kept = []
    for run in runs:
        made = kept_statistics.read(result_folder(run)) if run.row.take and ranks(result_folder(run)) else None
        if made is not None and run.row.take not in made.rows:
            log.warning(
                "%s, row '%s', seed %d, is left out: the test has no such row", grid.name, run.row.name, run.seed
            )
        else:
            kept.append(run)
    return kept


def _check(grid: Grid, runs: Sequence[Run], request: GridRequest) -> None:
    """What would only be noticed after hours of training. Raises UserError."""
    for row in grid.rows:
        paper_figures(grid, row)
    for run in runs:
        if run.row.take == floors.RETRIEVED and not run.settings.retrieves:
            raise UserError(
                f"{grid.path}: row '{run.row.name}' takes the retrieved report of a model that retrieves none"
            )
    kinds = {(run.row.system, run.row.needs): run for run in reversed(runs)}
    for run in kinds.values():  # the first of each system, and of what its rows need
        require(run.settings, training=True)
        require(run.tested, training=False)
    path = request.folder(grid) / SUMMARY
    if path.is_file():
        before = read_summary(path)
        lost = set(before["rows"]) - {run.row.name for run in runs}
        seeds = {seed for row in before["rows"].values() for seed in row["seeds"]} - {run.seed for run in runs}
        if lost & {row.name for row in grid.rows} or seeds or before["overrides"] != request.overrides:
            raise UserError(
                f"{path.parent} holds a table with other rows, seeds or settings, made by '{before['command']}'; "
                "give this one another place with out=FOLDER, or delete that one"
            )


def _runs(grid: Grid, request: GridRequest) -> list[Run]:
    """The rows that are asked for and can run; says which cannot, and why."""
    for name in request.rows:
        if name not in [row.name for row in grid.rows]:
            raise UserError(f"{grid.path}: there is no row '{name}'; rows: {', '.join(r.name for r in grid.rows)}")
    runs = grid.runs(request.data, request.runs, request.overrides, request.seeds)
    kept = []
    for run in runs:
        if request.rows and run.row.name not in (*request.rows, grid.reference):
            continue
        missing = _missing(run)
        if missing is None:
            kept.append(run)
        elif run.seed == runs[0].seed:
            log.warning("%s, row '%s' is left out: %s", grid.name, run.row.name, missing)
    return kept


def _missing(run: Run) -> str | None:
    if run.row.needs is None:
        return None
    path = reduce(getattr, run.row.needs.split("."), run.settings)
    return None if path is not None and Path(path).exists() else f"{run.row.needs}: {path} is not there"
