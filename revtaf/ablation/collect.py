"""From the runs of a grid to its numbers: means and spread over seeds, intervals, paired tests, the paper's figures.

Different questions, different numbers. *Spread* (standard deviation over seeds) says how much another training would
differ. The *interval* and *p* of a difference come from resampling patients, all seeds together: would other patients
show the same order of these trained models? *p over seeds*, a paired t-test of the seeds' differences: would other
trainings? Two trainings that differ in nothing but their initial weights differ clearly over patients, so that the
first p alone proves nothing about a setting. A difference is called shown only where both are below .05 (the first by
Holm, over the metrics of the pair) and every seed has its sign; with one seed nothing is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from revtaf.ablation.grid import Grid, GridRow, Run
from revtaf.ablation.scoring import Scored, Scorer, mean_of
from revtaf.ablation.tables import MAIN, SAID
from revtaf.ablation.tested import result_folder
from revtaf.config import RunSettings
from revtaf.engine.metrics import epoch_curves, rise
from revtaf.errors import UserError, nearest
from revtaf.eval import clinical, floors, nlg, published, statistics
from revtaf.eval.evaluate import SELECTED_HERE, labeler_note
from revtaf.eval.metric import Metric, share_levels
from revtaf.eval.protocol import PROTOCOL
from revtaf.files import read_json
from revtaf.labels import CHEXPERT_CATEGORIES, POSITIVE

TESTED = (
    *("BLEU_4", "METEOR", "ROUGE_L", "CIDEr", "example_f1", "micro_f1", "macro_f1"),
    *("head_f1", "tail_f1", "tail_minus_head", "average"),
)
SCORES = tuple(dict.fromkeys((*nlg.METRICS, "example_precision", "example_recall", *TESTED)))
OF_REPORTS = ("classes", "counts", "advanced", "examples")  # views that need a row with reports
CLASSES = tuple(f"f1/{category}" for category in CHEXPERT_CATEGORIES)
# The paper's names of what we measure.
PRINTED = {"example_precision": "precision", "example_recall": "recall", "example_f1": "f1", "average": "avg"}
RESAMPLES = 10_000
LEVEL = 0.05
WORDS = "lm"  # the loss of the words, as the systems that write name it
ROUNDING = 1e-12  # differences below are none
ONE_MEDFUSE = (
    "Rows with MedFuse-CLIP have one trained model of it for all seeds, which has seen the training images: seeds do "
    "not show how much another one would differ."
)


@dataclass
class RowResult:
    """Numbers of one row. metrics: seed means as metrics of their own; per_seed: seed -> metric -> value."""

    label: str
    seeds: tuple[int, ...]
    metrics: dict[str, Metric]
    per_seed: dict[int, dict[str, float]]
    parts: dict[int, dict[str, Metric]]  # of each seed, for comparisons on shared seeds
    interval: dict[str, statistics.Interval] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  # what a reader must know beside the numbers

    def mean(self, metric: str) -> float | None:
        """Over the seeds that have the metric; None where none has."""
        values = [found[metric] for found in self.per_seed.values() if metric in found]
        return float(np.mean(values)) if values else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over seeds; None for a single one."""
        values = [found[metric] for found in self.per_seed.values() if metric in found]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass
class Pair:
    """Row a minus row b. each: metric -> the difference of each of `seeds`. lower: metrics of which less is better."""

    a: str
    b: str
    seeds: tuple[int, ...]
    found: dict[str, statistics.Comparison]
    each: dict[str, list[float]]
    lower: frozenset[str] = frozenset()

    def agree(self, metric: str) -> int:
        """In how many seeds the difference has the sign of the mean."""
        return int(sum(np.sign(d) == np.sign(self.found[metric].difference) for d in self.each[metric]))

    def p_seeds(self, metric: str) -> float | None:
        """Two-sided paired t-test over seeds; None for one seed. Without any spread: 1 at no difference, else 0."""
        each = np.array(self.each[metric])
        if len(each) < 2:
            return None
        if np.ptp(each) <= ROUNDING:
            return float(abs(each[0]) <= ROUNDING)
        return float(stats.ttest_1samp(each, 0).pvalue)

    def verdict(self, metric: str) -> str:
        """ "better", "worse" or "not shown", by LEVEL, patients and seeds, in the metric's own direction."""
        found, over_seeds = self.found[metric], self.p_seeds(metric)
        agreed = self.agree(metric) == len(self.seeds)
        if over_seeds is None or not (found.p_holm < LEVEL and over_seeds < LEVEL and agreed):
            return "not shown"
        return "better" if (found.difference > 0) != (metric in self.lower) else "worse"


@dataclass
class Summary:
    """A grid's numbers on one data set; `write` in `revtaf.ablation.output` puts them into files."""

    grid: Grid
    data: str
    split: str
    trained_on: str
    ids: list[str]  # of the samples
    units: str
    signature: str
    rows: dict[str, RowResult]
    pairs: list[Pair]
    support: dict[str, int]  # positive references of each category
    of_the_paper: str | None  # the set whose printed figures are of these very samples
    sources: dict[str, str]
    notes: list[str]
    references: dict[str, Any] = field(default_factory=dict)  # what they allow, and what always "no finding" scores
    metrics: tuple[str, ...] = ()  # what the tables show; none: the paper's columns
    lower: tuple[str, ...] = ()  # those of `metrics` of which less is better
    headings: dict[str, str] = field(default_factory=dict)  # of `metrics`, where their system has a name for them


class _Names(NamedTuple):
    """Metrics: with means and intervals in the summary; tested; columns of the tables, none for the paper's."""

    kept: tuple[str, ...]
    tested: tuple[str, ...]
    columns: tuple[str, ...]


def collect(grid: Grid, runs: Sequence[Run], scorer: Scorer) -> Summary:
    """Score the runs of a grid, which are all there. Raises UserError where they are not on the same samples."""
    scored = {(run.row.name, run.seed): scorer.score(run) for run in runs}
    written = [found for found in scored.values() if found.written]
    first = next(iter(written or scored.values()))
    for (row, seed), found in scored.items():
        other_texts = found.written and found.samples.references != first.samples.references
        if found.samples.ids != first.samples.ids or other_texts:
            raise UserError(f"{grid.name}: row '{row}', seed {seed}, was tested on other samples than the first row")
        if found.written and found.labeler != first.labeler:
            raise UserError(
                f"{grid.path}: row '{row}' is labelled by {found.labeler}, the first row with reports by "
                f"{first.labeler}: two labelers never meet in one table"
            )
    if not written and (view := next((v for v in grid.views if v in OF_REPORTS), None)):
        raise UserError(f"{grid.path}: views: '{view}' is about written reports, and no row writes any")
    codes, units = statistics.clusters(first.samples.ids, first.samples.studies, first.samples.subjects)
    names = _names(grid, scored.values())
    kept = tuple(dict.fromkeys((*names.kept, *CLASSES)))
    rows = {
        row.name: make_row(row.label, {s: f.metrics for (name, s), f in scored.items() if name == row.name}, kept)
        for row in grid.rows
        if any(name == row.name for name, _ in scored)
    }
    for name, result in rows.items():
        result.interval = statistics.intervals(_only(result.metrics, names.kept), codes, RESAMPLES)
        own = {seed: found for (row, seed), found in scored.items() if row == name}
        result.extra = _extra(grid.row(name), [run for run in runs if run.row.name == name], own)
    settings = runs[0].tested
    return Summary(
        grid=grid,
        data=settings.data.name,
        split=settings.data.test_split,
        trained_on=settings.training_data.name,
        ids=first.samples.ids,
        units=units,
        signature=_signature(scored, first, units, scorer),
        rows=rows,
        pairs=compare_rows(grid, rows, codes, names.tested),
        support={c: int((first.statuses[:, i] == POSITIVE).sum()) for i, c in enumerate(CHEXPERT_CATEGORIES)}
        if written
        else {},
        of_the_paper=published.printed_on(settings.data),
        sources=_sources(runs),
        notes=_notes(grid, settings, runs, first, scorer),
        references=_references(first) if written else {},
        metrics=names.columns,
        lower=tuple(name for name in names.columns if any(_is_lower(row, name) for row in rows.values())),
        headings={key: text for s in scored.values() for key, text in s.headings.items() if key in names.kept},
    )


def _names(grid: Grid, scored: Collection[Scored]) -> _Names:
    """What the grid names; else the report metrics where a row writes reports, and all that a row of rankings has.
    Raises UserError for a name that no row has and no system knows: some metrics are not defined on every set."""
    known = list(dict.fromkeys(name for found in scored for name in (*found.metrics, *found.headings)))
    for_controls = tuple(dict.fromkeys(control.metric for control in grid.controls if control.view == "scores"))
    for what, names in (("metrics", grid.metrics), ("controls", for_controls)):
        for name in names:
            if name not in known:
                raise UserError(f"{grid.path}: {what}: no row has '{name}'; {nearest(name, known)}")
    shown = _shown(grid, scored)
    kept, tested = (tuple(dict.fromkeys((*names, *for_controls))) for names in (shown.kept, shown.tested))
    return _Names(kept, tested, shown.columns)


def _shown(grid: Grid, scored: Collection[Scored]) -> _Names:
    """The same without what controls ask for."""
    said = SAID if any(found.written for found in scored) else ()
    if grid.metrics:
        return _Names(tuple(dict.fromkeys((*grid.metrics, *said))), grid.metrics, grid.metrics)
    ranked = tuple(dict.fromkeys(name for found in scored if not found.written for name in found.metrics))
    if not any(found.written for found in scored):
        return _Names(ranked, ranked, ranked)
    ranked = tuple(name for name in ranked if name not in SCORES)
    return _Names((*SCORES, *said, *ranked), (*TESTED, *ranked), (*MAIN, *ranked) if ranked else ())


def _references(first: Scored) -> dict[str, Any]:
    """What the references allow: how often they say "no finding", the most that CE-F1 can be, and what always saying it
    scores."""
    always = floors.clinical_floors(first.statuses)[floors.ALWAYS_NO_FINDING]
    found = clinical.compute(first.statuses, always)
    return {
        **found["references"],
        "distinct": len(set(map(PROTOCOL.reference, first.samples.references))),
        "always no finding": {key: found[key] for key in ("example_f1", "micro_f1", "macro_f1", *SAID) if key in found},
    }


def _is_lower(row: RowResult, name: str) -> bool:
    return name in row.metrics and not row.metrics[name].higher_is_better


def _signature(scored: Mapping[tuple[str, int], Scored], first: Scored, units: str, scorer: Scorer) -> str:
    """Of the texts, and of each kind of ranking."""
    found = [s.signature for s in scored.values() if not s.written]
    if first.written:
        clusters = units.split(" (")[0].replace(" ", "")
        found.insert(0, PROTOCOL.signature(len(first.samples), first.labeler, scorer.java_name, clusters=clusters))
    return " + ".join(dict.fromkeys(found))


def make_row(label: str, parts: Mapping[int, Mapping[str, Metric]], names: Sequence[str]) -> RowResult:
    """parts: seed -> metrics. A metric that one seed lacks is left out."""
    shared = [name for name in names if all(name in found for found in parts.values())]
    return RowResult(
        label,
        tuple(parts),
        {name: mean_of(name, [found[name] for found in parts.values()]) for name in shared},
        {seed: {name: found[name].corpus for name in names if name in found} for seed, found in parts.items()},
        {seed: dict(found) for seed, found in parts.items()},
    )


def compare_rows(
    grid: Grid,
    rows: Mapping[str, RowResult],
    codes: np.ndarray,
    names: Sequence[str],
    further: Sequence[tuple[str, str]] = (),
) -> list[Pair]:
    """Every row against the reference row, and the further pairs that the grid and the caller name, on the seeds that
    both have. A pair is tested once, whichever way round it is named."""
    wanted: list[tuple[str, str]] = []
    for pair in [*((name, grid.reference) for name in rows), *grid.compare, *further]:
        if pair[0] != pair[1] and pair not in wanted and pair[::-1] not in wanted:
            wanted.append(pair)
    pairs = []
    for a, b in wanted:
        if a not in rows or b not in rows:
            continue
        seeds = tuple(seed for seed in rows[a].seeds if seed in rows[b].seeds)
        if not seeds:
            continue
        parts = {s: share_levels(rows[a].parts[s], rows[b].parts[s]) for s in seeds}
        one, other = (make_row("", {s: found[i] for s, found in parts.items()}, names) for i in (0, 1))
        shared = [name for name in names if name in one.metrics and name in other.metrics]
        found = statistics.compare(_only(one.metrics, shared), _only(other.metrics, shared), codes, RESAMPLES)
        each = {name: [one.per_seed[s][name] - other.per_seed[s][name] for s in seeds] for name in shared}
        lower = frozenset(name for name in shared if not one.metrics[name].higher_is_better)
        pairs.append(Pair(a, b, seeds, found, each, lower))
    return pairs


def paper_figures(grid: Grid, row: GridRow) -> dict[str, Any] | None:
    """What the paper prints for a row: {"on": the data set, "protocol": what is known of it, "figures": by our names};
    None without one."""
    if row.paper is None or not grid.paper:
        return None
    named, source = grid.paper["table"], grid.paper["source"]
    tables, ours = [named] if isinstance(named, str) else named, {theirs: mine for mine, theirs in PRINTED.items()}
    for name in ("mimic_cxr", "iu_xray"):
        printed = [r for table in tables for r in published.rows(name, table, source) if r.system == row.paper]
        if printed:
            figures = {ours.get(key, key): value for r in printed for key, value in r.figures.items()}
            protocol = "; ".join(dict.fromkeys(r.protocol for r in printed))
            return {"on": name, "protocol": protocol, "figures": figures}
    raise UserError(
        f"{grid.path}: row '{row.name}': {' and '.join(tables)} has no row {row.paper!r} in {published.FILE}"
    )


def _only(metrics: Mapping[str, Metric], names: Sequence[str]) -> dict[str, Metric]:
    return {name: metrics[name] for name in names if name in metrics}


def _extra(row: GridRow, runs: Sequence[Run], scored: Mapping[int, Scored]) -> dict[str, Any]:
    return {
        "settings": {
            **({"system": row.system} if row.system else {}),
            **row.train,
            **row.test,
            **({"takes": row.take} if row.take else {}),
        },
        "run": sorted({str(run.settings.run).rsplit("/", 1)[0] for run in runs})[0],
        "distinct reports": {str(s): found.distinct for s, found in scored.items() if found.distinct is not None},
        "checkpoint epochs": {
            str(run.seed): read_json(result_folder(run) / "report.json")["run"].get("checkpoint_epoch") for run in runs
        },
    }


def _sources(runs: Sequence[Run]) -> dict[str, str]:
    """Where the knowledge of these runs came from and what they ran on, by their reports; all values that occur."""
    names = (
        *("report labeler", "entity scores", "text embeddings", "classifier memory", "image encoder", "report decoder"),
        "MedFuse-CLIP",
        *("encoders", "training pairs", "hard negatives", "gallery"),
        *("revtaf", "git", "python", "torch", "cores", "device", "date"),
    )
    found: dict[str, list[str]] = {name: [] for name in names}
    for path in dict.fromkeys(result_folder(run) / "report.json" for run in runs):
        report = read_json(path)["run"]
        report["date"] = date.fromtimestamp(path.stat().st_mtime).isoformat()
        report |= {"torch": report["packages"]["torch"]} if "packages" in report else {}
        for name in names:
            if name in report and str(report[name]) not in found[name]:
                found[name].append(str(report[name]))
    return {name: "; ".join(sorted(values)) for name, values in found.items() if values}


def _unsound(runs: Sequence[Run]) -> list[str]:
    """One note for each training whose loss of the words rose: its row tells of that, and of nothing else."""
    trained = {str(run.settings.run): run for run in reversed(runs)}  # the first of the rows that share a training
    found = [(run, rise(epoch_curves(Path(folder) / "metrics.jsonl"), WORDS)) for folder, run in trained.items()]
    return [
        f"**Row '{run.row.label}', seed {run.seed}, was not trained soundly**: its training loss of the words {what}. "
        "What this table says of the row says nothing of its settings."
        for run, what in found
        if what
    ]


def _notes(grid: Grid, settings: RunSettings, runs: Sequence[Run], first: Scored, scorer: Scorer) -> list[str]:
    notes = scorer.told
    if first.written and (note := labeler_note(first.labeler)):
        notes.append(note)
    if settings.tests_on_validation:
        notes.append(SELECTED_HERE)
    if len({run.seed for run in runs}) == 1:
        notes.append("One seed: how much another training would differ is not known.")
    if any("knowledge.medfuse" in run.settings.other_models for run in runs):
        notes.append(ONE_MEDFUSE)
    notes += _unsound(runs)
    if note := statistics.small_sample_note(len(first.samples)):
        notes.append(note)
    protocols = {p["protocol"] for row in grid.rows if (p := paper_figures(grid, row))}
    notes += [f"The paper's figures: {protocol}." for protocol in sorted(protocols)]
    shown = [("encoder", "backbone"), ("encoder", "image_size"), ("train", "epochs"), ("train", "batch_size")]
    shown += [("generation", "beams"), ("generation", "candidates"), ("generation", "agreement")]
    sizes = []
    for part, key in shown:  # what a system has of these
        values = {
            str(getattr(section, key)) for run in runs if hasattr(section := getattr(run.tested, part, None), key)
        }
        if values - {"0", "0.0"}:  # candidates are seldom asked for
            sizes.append(f"{part}.{key} {' or '.join(sorted(values, key=_natural))}")
    notes += [f"Size: {', '.join(sizes)}."] if sizes else []
    return notes


def _natural(text: str) -> tuple[int, str]:
    return len(text), text
