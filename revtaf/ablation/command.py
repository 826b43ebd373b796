"""`revtaf ablate`: run the rows of one or several grids, then make their tables and figures."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from revtaf.ablation.grid import Grid, Run, load_grid
from revtaf.ablation.runs import jobs_of, run_all
from revtaf.errors import UserError

ANALYSED = ("alignment", "retrieval")  # views that need `revtaf analyse`
log = logging.getLogger("revtaf")


@dataclass
class Request:
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
    def parse(cls, given: Sequence[str]) -> Request:
        """Raises UserError for a key that is none of these and no setting, and for a value that does not fit."""
        request = cls()
        for item in given:
            key, sign, value = item.partition("=")
            if not sign or not value:
                raise UserError(f"{item!r}: expected key=value, such as data=phantom or train.epochs=2")
            if "." in key or key == "device":
                request.overrides.append(item)
            elif key == "data":
                request.data = value
            elif key in ("runs", "out"):
                setattr(request, key, Path(value))
            elif key == "rows":
                request.rows = tuple(value.split(","))
            elif key in ("jobs", "seeds"):
                numbers = [part for part in value.split(",") if part.isdigit()]
                if len(numbers) != value.count(",") + 1 or (key == "jobs" and (len(numbers) > 1 or numbers == ["0"])):
                    raise UserError(f"{item}: expected a number" + (" or several, 0,1,2" if key == "seeds" else ""))
                setattr(request, key, int(value) if key == "jobs" else tuple(map(int, numbers)))
            else:
                known = ("data", "jobs", "seeds", "rows", "runs", "out")
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}, and settings with a dot"
                raise UserError(f"{item}: unknown key '{key}'; {hint}")
        return request

    def command(self, grid: Grid) -> str:
        """What makes this grid again."""
        seeds = ",".join(map(str, self.seeds))
        chosen = [("data", self.data), ("seeds", seeds), ("rows", ",".join(self.rows))]
        given = [f"{key}={value}" for key, value in chosen if value]
        return " ".join(["python -m revtaf ablate --config", str(grid.path), *given, *self.overrides])


def ablate(configs: Sequence[Path], given: Sequence[str]) -> list[Path]:
    """Run and tabulate; returns the folders with the tables. What is finished is not done again."""
    request = Request.parse(given)
    grids = [load_grid(path) for path in configs]
    wanted: list[tuple[Grid, list[Run]]] = []
    for grid in grids:
        if len(grids) > 1 and grid.only and request.data not in grid.only:
            log.info("%s is left out: it is for data=%s", grid.name, " or ".join(grid.only))
            continue
        wanted.append((grid, _runs(grid, request)))
    if not any(runs for _, runs in wanted):
        raise UserError("nothing to run: " + "; ".join(f"{grid.name} has no row that can run here" for grid in grids))
    everything = [run for _, runs in wanted for run in runs]
    for_analysis = [runs for grid, runs in wanted if set(grid.views) & set(ANALYSED)]
    analysed = {str(run.settings.run) for runs in for_analysis for run in runs if not run.row.take}
    log.info("%d rows, %d trainings", len(everything), len({run.settings.run for run in everything}))
    run_all(jobs_of(everything, analysed), request.jobs)

    from revtaf.ablation.collect import collect
    from revtaf.ablation.examples import write_examples, write_maps
    from revtaf.ablation.output import write
    from revtaf.ablation.scoring import Scorer

    folders = []
    with Scorer(everything[0].tested.eval.java) as scorer:
        for grid, runs in wanted:
            if not runs:
                continue
            folder = request.out / request.data / grid.name
            folders.append(write(collect(grid, runs, scorer), runs, folder, request.command(grid)))
            if "alignment" in grid.views:
                log.info("maps: %s", write_maps(grid, runs, request.runs / request.data / f"{grid.name}.png"))
            if "examples" in grid.views:
                page = request.runs / request.data / f"{grid.name}.html"
                log.info("examples: %s", write_examples(grid, runs, scorer, page))
    return folders


def _runs(grid: Grid, request: Request) -> list[Run]:
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
