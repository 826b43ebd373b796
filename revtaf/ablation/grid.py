"""A grid: which runs a table or a figure is made of. Read from `configs/ablations/*.yaml`, and checked.

    title: Table 3, which module brings what
    system: revtaf                             # whose rows they are; the data set's base has to name the same
    paper: {source: paper, table: Table 3}     # where the printed figures are, in revtaf/eval/published.yaml
    seeds: [0, 1, 2]
    reference: baseline                        # the row that the others are tested against
    views: [scores, classes]                   # what is made of the runs
    metrics: [mrr, recall_at_1]                # what the tables show and test, where it is not the paper's columns
    compare: [[full, lre]]                     # further pairs to be tested
    only: [phantom]                            # the data sets that it is for, where it is not for all
    refuse: {iu_xray: it has no boxes}         # why it is not for one of the others
    controls:                                  # does a path work at all? (docs/evaluation.md#controls)
      - {name: GRP, rows: [own, random], metric: BLEU_4, least: 0.2}
    rows:
      baseline: {label: baseline, set: {lre.enabled: false, fvtaf.enabled: false}, paper: its row in that table}
      oracle:   {label: true prompts, test: {generation.statuses: oracle}}
      copy:     {label: retrieval only, take: retrieved report}
      other:    {label: TRRG, system: trrg}    # of another system: its base is data/trrg_<data>.yaml

A control passes where its first row is better than its second by `least` or more, or, with one row, where that row
reaches `least`; `view: retrieval` takes rows and metric from that view. No claim that names a control is published
without it (`revtaf.ablation.claims`).

`set` changes training, `test` only how a trained model is tested, `take` names another row of the test's own table (the
rows without an image, the retrieved report; of a system that ranks, what its declaration says stands beside it). The
data set is chosen on the command line: `data=phantom` takes `data/phantom.yaml` beside the grid as the base of every
row. Rows that come to the same training settings share one run, within a grid and between grids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from revtaf import systems
from revtaf.config import RunSettings
from revtaf.config_file import changed_settings, differences, of_training, read_config
from revtaf.errors import UserError, nearest
from revtaf.eval import floors
from revtaf.eval.published import SOURCES
from revtaf.files import digest, read_yaml, windows_refuses

VIEWS = ("scores", "classes", "counts", "curve", "alignment", "retrieval", "advanced", "examples")
TAKEN = (floors.RETRIEVED, floors.MOST_FREQUENT, floors.MEDOID, floors.RANDOM, floors.NEAREST)
NEEDED = tuple(  # files, folders
    f"knowledge.{name}" for name in ("clip", "medfuse", "chexbert", "medklip", "bio_clinicalbert")
)
SYSTEM = "revtaf"  # of a grid that names none
BASE = "base"  # the folder of the run that changes nothing
LONGEST_NAME = 150  # characters of a folder's name; a longer one ends in a digest

_KEYS = (
    *("title", "system", "paper", "seeds", "reference", "views", "metrics", "compare", "controls", "axis"),
    *("only", "refuse", "rows"),
)
_CONTROL_KEYS = ("name", "rows", "metric", "least", "view")
_CONTROL_VIEWS = ("scores", "alignment", "retrieval")  # those whose rows have metrics
_ROW_KEYS = ("label", "set", "test", "take", "paper", "seeds", "needs", "x", "system")


@dataclass(frozen=True)
class GridRow:
    """One row of the table. `x`: where it stands on the axis of a curve; `needs`: a settings key that names a file;
    `system`: whose row it is, where it is not the grid's."""

    name: str
    label: str
    train: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    take: str | None = None
    paper: str | None = None
    seeds: tuple[int, ...] = ()
    needs: str | None = None
    x: float | None = None
    system: str | None = None


@dataclass(frozen=True)
class GridControl:
    """What shows that a path works. rows: one, which has to reach `least`, or two, of which the first has to be better
    by `least`. metric: one of which more is better; view: where rows and metric are found."""

    name: str
    rows: tuple[str, ...]
    metric: str
    least: float
    view: str = "scores"


@dataclass(frozen=True)
class Run:
    """A row with one seed: what is trained, and how it is tested."""

    row: GridRow
    seed: int
    settings: RunSettings  # of the training; its `run` is the folder
    tested: RunSettings  # of the row's test
    plain: RunSettings  # of a test on the same samples without the row's own test settings: what is analysed


@dataclass(frozen=True)
class Grid:
    """A grid's file, read and checked.

    reference: the row that the others are tested against; compare: further pairs. seeds: of rows that name none.
    paper: "source" and "table", one or several, of the printed figures, or empty. axis: what `x` of the rows is, for a
    curve. only: the data sets that the grid is for; empty for any of its system. refuse: why it is not for others.
    """

    name: str
    title: str
    rows: tuple[GridRow, ...]
    reference: str
    views: tuple[str, ...]
    seeds: tuple[int, ...]
    paper: dict[str, Any]
    compare: tuple[tuple[str, str], ...]
    axis: str | None
    only: tuple[str, ...]
    path: Path
    metrics: tuple[str, ...] = ()  # of the tables; none: those that the rows have
    controls: tuple[GridControl, ...] = ()
    system: str = SYSTEM
    refuse: dict[str, str] = field(default_factory=dict)

    def refuses(self, data: str) -> str | None:
        """Why this grid is not for a data set, as the end of a sentence about it; None where it is. UserError for a
        data set that is not there."""
        if data in self.refuse:
            return f"is not for data={data}: {self.refuse[data]}"
        if self.only and data not in self.only:
            return f"is for data={' or '.join(self.only)} only"
        its = _settings_of(self.data_file(data))().system
        return None if its == self.system else f"has rows of system={self.system}, data={data} is of system={its}"

    def _base(
        self, system: str | None, data: str
    ) -> tuple[str, Callable[..., RunSettings], Callable[..., RunSettings]]:
        """What the rows of a system (None: the grid's) start from: the name of the set that they are trained on, the
        settings of the training, those of the test."""
        name = data if system is None else f"{system}_{data}"
        tested = _settings_of(self.data_file(name))
        plain = tested()
        if plain.system != (system or self.system):
            raise UserError(f"{self.data_file(name)}: expected system: {system}, it is of {plain.system}")
        other = plain.trained_on  # a set that names another tests that one's model
        source = name if other is None else other.name if system is None else f"{system}_{other.name}"
        return source, _settings_of(self.data_file(source)), tested

    def row(self, name: str) -> GridRow:
        """The row of that name; one that the grid has, as `load_grid` checks names in the file."""
        return next(row for row in self.rows if row.name == name)

    def data_file(self, data: str) -> Path:
        """The base configuration of a data set. UserError naming those that there are."""
        folder = self.path.parent / "data"
        path = folder / f"{data}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in folder.glob("*.yaml"))
            raise UserError(f"data={data}: there is no {path}; known: {', '.join(known) or 'none'}")
        return path

    def runs(self, data: str, root: Path, overrides: list[str], seeds: tuple[int, ...] = ()) -> list[Run]:
        """Every (row, seed) with its settings. root: where the run folders go. overrides: for all rows."""
        if reason := self.refuses(data):
            raise UserError(f"{self.path} {reason}")
        bases = {system: self._base(system, data) for system in dict.fromkeys(row.system for row in self.rows)}
        runs: list[Run] = []
        for row in self.rows:
            source, trained, tested = bases[row.system]
            unchanged = trained()
            in_training = overrides if tested().trained_on is None else of_training(overrides)
            for seed in seeds or row.seeds or self.seeds:
                changed = [*as_overrides(row.train), f"seed={seed}"]
                try:
                    folder = root / source / _folder(trained(*in_training, *changed), unchanged) / f"seed{seed}"
                    fixed = [*changed, f"run={folder}", f"name={source}, {folder.parent.name}"]
                    plain = tested(*overrides, *fixed)
                    own = tested(*overrides, *fixed, *as_overrides(row.test))
                    runs.append(Run(row, seed, trained(*in_training, *fixed), own, plain))
                except UserError as error:
                    raise UserError(f"{self.path}: row '{row.name}': {error}") from None
        check_apart(str(self.path), runs)
        _check_labelled(self.path, runs)
        return runs


def load_grid(path: str | Path) -> Grid:
    """Read and check a grid. Raises UserError naming the file, the row and the key."""
    path = Path(path)
    if not path.exists():
        near = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise UserError(f"grid not found: {path}" + (f"; there are {', '.join(near)}" if near else ""))
    content = read_yaml(path, "grid")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, got {type(content).__name__}")
    _check_keys(f"{path}", content, _KEYS)
    rows = content.get("rows")
    if not isinstance(rows, dict) or not rows:
        raise UserError(f"{path}: rows: expected names and what each changes, got {rows!r:.60}")
    if not isinstance(content.get("title"), str):
        raise UserError(f"{path}: title: expected a text, got {content.get('title')!r}")
    system = content.get("system", SYSTEM)
    if not isinstance(system, str):
        raise UserError(f"{path}: system: expected a name, got {system!r}")
    _taken(f"{path}", system)
    found = tuple(_row(f"{path}: row '{name}'", str(name), given, system) for name, given in rows.items())
    names = [row.name for row in found]
    labels = [row.label for row in found]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"{path}: two rows have the label {twice[0]!r}; give each one of its own")
    reference = str(content.get("reference", names[0]))
    compare = content.get("compare") or []
    if not isinstance(compare, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in compare):
        raise UserError(f"{path}: compare: expected pairs of row names, got {compare!r}")
    pairs = [(str(a), str(b)) for a, b in compare]
    for name in (reference, *(name for pair in pairs for name in pair)):
        if name not in names:
            raise UserError(f"{path}: there is no row '{name}'; {nearest(name, names)}")
    only = content.get("only") or []
    if not isinstance(only, list):
        raise UserError(f"{path}: only: expected a list of data sets, got {only!r}")
    refuse = content.get("refuse") or {}
    if not isinstance(refuse, dict) or not all(isinstance(reason, str) for reason in refuse.values()):
        raise UserError(f"{path}: refuse: expected data sets and why, got {refuse!r}")
    views = _names(f"{path}: views", content.get("views", ["scores"]), VIEWS)
    controls = _controls(f"{path}: controls", content.get("controls"), names, views)
    pairs += [control.rows for control in controls if len(control.rows) == 2 and control.rows not in pairs]
    axis = content.get("axis")
    if "curve" in views and (not axis or any(row.x is None for row in found)):
        raise UserError(f"{path}: a curve needs `axis`, and `x` in every row")
    return Grid(
        name=path.stem,
        title=content["title"],
        rows=found,
        reference=reference,
        views=views,
        seeds=_seeds(f"{path}: seeds", content.get("seeds", [0])),
        paper=_paper(f"{path}: paper", content.get("paper")),
        compare=tuple(pairs),
        axis=axis,
        only=tuple(only),
        path=path,
        metrics=_metrics(f"{path}: metrics", content.get("metrics")),
        controls=controls,
        system=system,
        refuse=refuse,
    )


def _settings_of(path: Path) -> Callable[..., RunSettings]:
    """Makes the settings of a file with any overrides, and reads it once."""
    content = read_config(path)
    return lambda *overrides: changed_settings(content, overrides, str(path))


def check_apart(where: str, runs: Sequence[Run]) -> None:
    """UserError for rows, of one grid or several, that test one model in two ways into one folder: the last would be
    taken for all of them."""
    seen: dict[Path, Run] = {}
    for run in runs:
        key = run.tested.output
        other = seen.setdefault(key, run)
        if found := differences(
            run.tested.model_dump(mode="json"), other.tested.model_dump(mode="json"), free_of_tests(run.tested)
        ):
            raise UserError(
                f"{where}: rows '{other.row.name}' and '{run.row.name}' test one model with another "
                f"{found[0][0]} into one folder, {run.tested.output.name}; only statuses, candidates, retrieved, "
                "dimensions, split and max_samples get their own"
            )


def _check_labelled(path: Path, runs: list[Run]) -> None:
    """UserError for rows without a labeler, or with another one than the first: the tables of a grid are of clinical
    scores, too, and scores of two labelers are not compared."""
    for run in runs:
        if not (knowledge := run.tested.knowledge).reads_reports:
            raise UserError(
                f"{path}: row '{run.row.name}' has knowledge.labeler={knowledge.labeler}, and a grid compares clinical "
                "scores, which need a labeler; test each run and compare them with: revtaf score --labeler none "
                "--protocol unicode --against FILE"
            )
        first = runs[0]
        if knowledge.labeler != first.tested.knowledge.labeler:
            raise UserError(
                f"{path}: row '{run.row.name}' has knowledge.labeler={knowledge.labeler}, row '{first.row.name}' "
                f"{first.tested.knowledge.labeler}: two labelers never meet in one table; give all rows one, or write "
                "a grid for each"
            )


def free_of_tests(settings: RunSettings) -> tuple[str, ...]:
    """The keys that the results of a test do not depend on."""
    return tuple(key for key in settings.free if key not in settings.of_the_test)


def _dotted(values: dict, prefix: str = "") -> dict[str, Any]:
    """{"lre": {"enabled": False}} -> {"lre.enabled": False}: a nested section changes what it names, nothing else."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def as_overrides(values: dict[str, Any]) -> list[str]:
    """{"lre.enabled": False} -> ["lre.enabled=false"], as they would be typed."""
    return [f"{key}={text(value)}" for key, value in values.items()]


def text(value: Any) -> str:
    """A value as YAML would read it back."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _folder(changed: RunSettings, plain: RunSettings) -> str:
    """Named by what differs from the base, so that equal runs meet and a folder says what it is."""
    found = differences(changed.model_dump(mode="json"), plain.model_dump(mode="json"), (*plain.free, "seed"))
    changes = sorted(f"{key}={text(value)}" for key, value, _ in found)
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", ",".join(changes))
    if not name:
        return BASE
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}-{digest(changes)}"


def _taken(where: str, system: Any) -> tuple[str, ...]:
    """Which further rows of a system's test a grid may take."""
    try:
        beside = systems.find(system).beside
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return TAKEN if beside is None else beside


def _row(where: str, name: str, given: Any, system: str) -> GridRow:
    """system: the grid's."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"{where}: a row's name has letters, digits, - and _ only")
    if why := windows_refuses(PurePath(name)):
        raise UserError(f"{where}: files are named after rows, and on Windows {why}; choose another name")
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise UserError(f"{where}: expected keys and values, got {given!r:.60}")
    _check_keys(where, given, _ROW_KEYS)
    changes = {}
    for key in ("set", "test"):
        if not isinstance(given.get(key) or {}, dict):
            raise UserError(f"{where}: {key}: expected settings such as {{lre.enabled: false}}, got {given[key]!r:.60}")
        changes[key] = _dotted(given.get(key) or {})
    for key in changes["test"]:
        if not str(key).startswith(("generation.", "ranking.", "data.", "eval.")):
            raise UserError(f"{where}: test: {key} is decided in training; put it under `set`")
    x = given.get("x")
    if x is not None and (isinstance(x, bool) or not isinstance(x, int | float)):
        raise UserError(f"{where}: x: expected a number, got {x!r}")
    if given.get("needs") not in (None, *NEEDED):
        raise UserError(f"{where}: needs: expected one of {', '.join(NEEDED)}, got {given['needs']!r}")
    own = given.get("system")
    if own is not None and not isinstance(own, str):
        raise UserError(f"{where}: system: expected a name, got {own!r}")
    taken, take = _taken(where, own or system), given.get("take")
    if take is not None and take not in taken:
        raise UserError(f"{where}: take: expected one of {', '.join(taken) or 'none'}, got {take!r}")
    return GridRow(
        name=name,
        label=str(given.get("label", name)),
        train=changes["set"],
        test=changes["test"],
        take=take,
        paper=given.get("paper"),
        seeds=_seeds(f"{where}: seeds", given["seeds"]) if "seeds" in given else (),
        needs=given.get("needs"),
        x=x,
        system=None if own == system else own,
    )


def _names(where: str, given: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise UserError(f"{where}: expected a list, got {given!r}")
    for name in given:
        if name not in known:
            raise UserError(f"{where}: unknown '{name}'; {nearest(str(name), known)}")
    return tuple(given)


def _metrics(where: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    texts = isinstance(given, list) and all(isinstance(name, str) and name for name in given)
    if not texts or not given or len(set(given)) < len(given):
        raise UserError(f"{where}: expected different names such as [mrr, recall_at_1], got {given!r}")
    return tuple(given)


def _controls(where: str, given: Any, rows: list[str], views: tuple[str, ...]) -> tuple[GridControl, ...]:
    """Each with a name of its own, rows that there are, and a number to reach."""
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(control, dict) for control in given):
        raise UserError(f"{where}: expected a list of {{name, rows, metric, least}}, got {given!r:.60}")
    found: list[GridControl] = []
    for content in given:
        name, metric, least = content.get("name"), content.get("metric"), content.get("least")
        here = f"{where}: {name or 'one without a name'}"
        _check_keys(here, content, _CONTROL_KEYS)
        if not all(isinstance(value, str) and value for value in (name, metric)):
            raise UserError(f"{here}: expected a name and a metric, got {name!r} and {metric!r}")
        if name in [control.name for control in found]:
            raise UserError(f"{here}: there are two of that name")
        its = content.get("rows")
        if not isinstance(its, list) or len(its) not in (1, 2):
            raise UserError(f"{here}: rows: expected one row, or two of which the first is better, got {its!r}")
        for row in its:
            if row not in rows:
                raise UserError(f"{here}: there is no row '{row}'; {nearest(str(row), rows)}")
        if isinstance(least, bool) or not isinstance(least, int | float) or least <= 0:
            raise UserError(f"{here}: least: expected a number above 0, got {least!r}")
        view = content.get("view", "scores")
        if view not in _CONTROL_VIEWS or view not in views:
            usable = [name for name in _CONTROL_VIEWS if name in views]
            raise UserError(f"{here}: view: expected one of the grid's views {', '.join(usable)}, got {view!r}")
        found.append(GridControl(name, tuple(its), metric, float(least), view))
    return tuple(found)


def _seeds(where: str, given: Any) -> tuple[int, ...]:
    whole = isinstance(given, list) and all(type(s) is int and s >= 0 for s in given)
    if not whole or not given or len(set(given)) < len(given):
        raise UserError(f"{where}: expected different numbers such as [0, 1, 2], got {given!r}")
    return tuple(given)


def _paper(where: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or set(given) != {"source", "table"}:
        raise UserError(f"{where}: expected {{source: paper, table: Table 3}}, got {given!r}")
    if given["source"] not in SOURCES:
        raise UserError(f"{where}: source: expected {', '.join(SOURCES)}, got {given['source']!r}")
    return dict(given)


def _check_keys(where: str, content: dict, known: tuple[str, ...]) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'; {nearest(str(key), known)}")
