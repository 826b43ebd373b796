"""What a grid shows besides its scores: alignment, retrieval, positives of each category, advanced metrics.

Each view is a record for `summary.json` with rows and pairs in the form of the scores, so that its tables are printed
by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from revtaf.ablation.collect import Pair, RowResult, compare_rows, make_row
from revtaf.ablation.grid import Grid, Run
from revtaf.ablation.tested import result_folder
from revtaf.errors import UserError
from revtaf.eval import alignment, retrieval, statistics
from revtaf.eval.metric import Metric
from revtaf.files import read_json
from revtaf.labels import CHEXPERT_CATEGORIES, HEAD_CATEGORIES
from revtaf.system.analyses import (
    ALIGNMENT,
    EMBEDDINGS,
    MEAN_BOX,
    MODEL_ROW,
    ORACLE_ROW,
    RETRIEVAL,
    SCORES,
    UNIFORM,
)

# Supplement, Table 4: positive samples among the 3,858 of the MIMIC-CXR test set, in the order of the categories.
PAPER_SAMPLES = 3858
PAPER_POSITIVES = (730, 1271, 1392, 199, 563, 176, 165, 841, 75, 1056, 122, 148, 1345, 323)
HEAD_SHARE = 0.10

ALIGNED = tuple(
    f"{source} {score}" for source in ("local", "global") for score in ("pointing", "macro_pointing", "iou", "mass")
) + ("agreement",)
JUDGED = (
    *("distance@1", f"distance@{retrieval.DEPTH}", "nearest@1", "overlap@1", f"nDCG@{retrieval.DEPTH}"),
    *("example_f1", "micro_f1", "head_f1", "tail_f1"),
)


def alignment_view(grid: Grid, runs: Sequence[Run], ids: Sequence[str]) -> dict[str, Any]:
    """Pointing, IoU and mass of every row's maps, the two constant maps beside them, each finding, and the pairs.

    ids: of the tested samples. Raises UserError where the maps are of others."""
    files, codes = _files(grid, runs, ALIGNMENT, ids)
    parts: dict[str, dict[int, dict[str, Metric]]] = {}
    labels = {row.name: row.label for row in grid.rows} | {UNIFORM: UNIFORM, MEAN_BOX: MEAN_BOX}
    shown_once = _first(grid, files)
    for (row, seed), content in files.items():
        parts.setdefault(row, {})[seed] = _aligned(content, MODEL_ROW)
        if row == shown_once:
            for constant in (UNIFORM, MEAN_BOX):
                parts.setdefault(constant, {})[seed] = _aligned(content, constant)
    names = list(dict.fromkeys(name for seeds in parts.values() for found in seeds.values() for name in found))
    rows = {row: make_row(labels[row], seeds, names) for row, seeds in parts.items()}
    first = next(iter(files.values()))
    shown = [name for name in ALIGNED if name in names]
    against_uniform = [(row.name, UNIFORM) for row in grid.rows]
    pairs = compare_rows(grid, rows, codes, shown, against_uniform)
    return {
        "grid": first["grid"],
        "maps": {part: float(np.sum(first[part][MODEL_ROW]["counts"])) for part in ("local", "global")},
        **plain(rows, pairs),
    }


def _aligned(content: Mapping, row: str) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for source in ("local", "global"):
        found |= alignment.metrics(content[source][row], f"{source} ")
    if row in content["agreement"]:
        found["agreement"] = alignment.metrics(content["agreement"][row])["iou"]
    return found


def retrieval_view(grid: Grid, runs: Sequence[Run], ids: Sequence[str]) -> dict[str, Any]:
    """Neighbours of the test images: by raw scores or embeddings, in each row's learned space, random, oracle."""
    files, codes = _files(grid, runs, RETRIEVAL, ids)
    parts: dict[str, dict[int, dict[str, Metric]]] = {}
    labels: dict[str, str] = {}
    shared: dict[tuple[str, str], list] = {}
    shown_once = _first(grid, files)
    owner: dict[str, str] = {}  # of a row that learns nothing, which is the same for every model that has it
    for row, seed in sorted(files, key=lambda run: run[0] != shown_once):
        for name in files[row, seed]["rows"]:
            owner.setdefault(name, row)
    for (row, seed), content in files.items():
        truth = np.array([list(map(int, line)) for line in content["statuses"]])
        own = grid.row(row).label
        for name, found in content["rows"].items():
            learned = name.startswith("learned")
            if not learned and row != owner[name]:
                continue
            key = f"{row}: {name}" if learned else name
            if re.fullmatch(r"learned \((\w+)\), \1", name):  # searched by the distance it was learned with
                key = row
            labels[key] = f"{own}, {name.split(', ')[1]}" if learned else name
            parts.setdefault(key, {})[seed] = retrieval.metrics(found, truth)
        for pair, values in content["shared neighbours"].items():
            if pair.count("learned") == 2:
                shared.setdefault((own, pair), []).append(values)
    order = [key for key in ("random", *sorted(k for k in parts if k.startswith((SCORES, EMBEDDINGS)))) if key in parts]
    order += [key for key in parts if key not in order and key != ORACLE_ROW] + [k for k in (ORACLE_ROW,) if k in parts]
    rows = {key: make_row(labels[key], parts[key], JUDGED) for key in order}
    raw = f"{EMBEDDINGS}, cosine"
    against_raw = [(row.name, raw) for row in grid.rows] + [(f"{SCORES}, {d}", raw) for d in ("cosine", "euclidean")]
    balls = [
        {"row": grid.row(row).label, "seed": seed, **content["ball"]}
        for (row, seed), content in files.items()
        if "ball" in content
    ]
    return {
        "ball": balls,
        "shared neighbours": [
            {
                "row": own,
                "distances": [name.split(", ")[-1] for name in pair.split(" | ")],
                **{key: float(np.mean([v[key] for v in values])) for key in values[0]},
            }
            for (own, pair), values in shared.items()
        ],
        **plain(rows, compare_rows(grid, rows, codes, JUDGED, against_raw)),
    }


def _first(grid: Grid, files: Mapping[tuple[str, int], dict]) -> str:
    """The row whose files give what is the same for all: the reference where it has them, else the first that does."""
    having = [row for row, _ in files]
    return grid.reference if grid.reference in having else having[0]


def _files(
    grid: Grid, runs: Sequence[Run], name: str, ids: Sequence[str]
) -> tuple[dict[tuple[str, int], dict], np.ndarray]:
    """(row, seed) -> the analysis of that run, and whose samples belong together. Rows that have none are left out, and
    rows that only test a model otherwise: its maps and its retriever are the same."""
    files = {}
    for run in runs:
        path = result_folder(run, plain=True) / name
        if not run.row.take and not run.row.test and path.is_file():
            files[run.row.name, run.seed] = read_json(path)
    if not files:
        raise UserError(f"{grid.name}: no run has {name}; it needs boxes and attention maps, or a retriever")
    first = next(iter(files.values()))
    for run in runs:
        if (content := files.get((run.row.name, run.seed))) and content["ids"] != list(ids):
            raise UserError(
                f"{result_folder(run, plain=True) / name} is of other samples than row '{run.row.name}' was tested on; "
                "delete it, and the same command makes it anew"
            )
    return files, statistics.clusters(first["ids"], None, first["subjects"])[0]


def counts_view(support: Mapping[str, int], samples: int) -> dict[str, Any]:
    """Positives of each category here and in the paper, and on which side of 10 % they fall."""
    rows = {}
    for category, printed in zip(CHEXPERT_CATEGORIES, PAPER_POSITIVES, strict=True):
        share = support[category] / samples
        rows[category] = {
            "positives": support[category],
            "share": share,
            "head here": share > HEAD_SHARE,
            "paper": printed,
            "paper share": printed / PAPER_SAMPLES,
            "head in the paper": category in HEAD_CATEGORIES,
        }
    return {"samples": samples, "rows": rows}


def advanced_view(runs: Sequence[Run]) -> dict[str, Any]:
    """RadGraph F1, BERTScore, SembScore, RadCliQ as each run's own report has them; what was missing, in its words.
    A taken row has what the report says of it, which may be nothing: never the model's."""
    rows: dict[str, Any] = {}
    notes: list[str] = []
    for run in runs:
        report = read_json(result_folder(run) / "report.json")
        tested = next(iter(report["metrics"])) if run.row.take is None else run.row.take
        own = report["metrics"].get(tested, {}).get("advanced", {})
        rows.setdefault(run.row.name, {"label": run.row.label, "per_seed": {}})["per_seed"][str(run.seed)] = own
        notes += [note for note in report["notes"] if note not in notes]
    return {"rows": rows, "notes": notes}


def plain(rows: Mapping[str, RowResult], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Rows and pairs as JSON knows them."""
    return {
        "rows": {
            name: {
                "label": row.label,
                "seeds": list(row.seeds),
                "mean": {key: row.mean(key) for key in row.metrics},
                "sd": {key: row.spread(key) for key in row.metrics},
                "interval": {key: [found.low, found.high] for key, found in row.interval.items()},
                "per_seed": {str(seed): found for seed, found in row.per_seed.items()},
                **row.extra,
            }
            for name, row in rows.items()
        },
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "seeds": list(pair.seeds),
                "metrics": {
                    name: {
                        **vars(found),
                        "agree": pair.agree(name),
                        "p_seeds": pair.p_seeds(name),
                        "verdict": pair.verdict(name),
                    }
                    for name, found in pair.found.items()
                },
            }
            for pair in pairs
        ],
    }
