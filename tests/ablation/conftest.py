"""A grid on the tiny phantom set, and finished runs that no model made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from revtaf.ablation.grid import Grid, Run, load_grid
from revtaf.ablation.tested import result_folder
from revtaf.config_file import save_settings
from revtaf.data.annotations import load_annotations
from revtaf.eval import floors
from revtaf.eval.evaluate import evaluate
from revtaf.eval.rankings import Rankings, evaluate_rankings, median_ranks, rank_metrics
from revtaf.eval.records import read_samples
from revtaf.files import read_json, write_json
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, STATUSES
from revtaf.pages.report import write_report

ROWS = {
    "plain": {"label": "plain", "set": {"lre.enabled": False, "fvtaf.enabled": False}},
    "full": {"label": "full", "paper": "REVTAF (c)"},
    "copy": {"label": "retrieval only", "take": "retrieved report"},
    "medoid": {"label": "medoid report", "take": "medoid report"},
}


@pytest.fixture(scope="session")
def write_grid(tiny_config, tmp_path_factory):
    """Writes a grid on the tiny settings; returns it. Keys replace those of the default grid."""

    def write(**changes) -> Grid:
        folder = tmp_path_factory.mktemp("grid")
        (folder / "data").mkdir()
        (folder / "data" / "phantom.yaml").write_text(f"base: {tiny_config}\nthreads: 1\n")
        content = {
            "title": "A grid",
            "seeds": [0, 1],
            "reference": "plain",
            "paper": {"source": "paper", "table": "Table 3"},
            "rows": ROWS,
        }
        path = folder / "grid.yaml"
        path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
        return load_grid(path)

    return write


@pytest.fixture
def pretend(phantom: Path):
    """Writes what a tested run leaves: the predictions are the references, or those that `change` makes of them."""

    def pretend(run: Run, change=lambda i, report: report) -> None:
        studies = load_annotations(phantom / "annotation.json")["test"]
        folder = result_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        prompts = RuleLabeler().label([s.report for s in studies])
        records = [
            {
                "statuses": {c: STATUSES[k] for c, k in zip(CATEGORIES, prompts[i], strict=True)},
                "id": s.id,
                "subject_id": s.subject_id,
                "study_id": s.study_id,
                "reference": s.report,
                "prediction": change(i, s.report),
                "retrieved_report": studies[i - 1].report if run.settings.retrieves else None,
            }
            for i, s in enumerate(studies)
        ]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        save_settings(folder / "config.yaml", run.tested)
        report = {"report labeler": "rules-v3", "packages": {"torch": "2"}, "checkpoint_epoch": 2}
        write_json(folder / "report.json", {"run": report, "metrics": {"REVTAF": {"advanced": {}}}, "notes": []})
        checkpoints = Path(run.settings.run) / "checkpoints"
        write_json(checkpoints / "best" / "meta.json", {"epoch": 2})
        write_json(checkpoints / "best" / "model.json", {})
        write_json(checkpoints / "last" / "progress.json", {"finished": True})

    return pretend


@pytest.fixture
def write_tested(phantom: Path, pretend):
    """As `pretend`, with the report that `test` writes: every row is scored, and its statistics are kept."""
    train = [s.report for s in load_annotations(phantom / "annotation.json")["train"]]

    def write(run: Run, change=lambda i, report: report, java: str = "/nowhere/java") -> None:
        pretend(run, change)
        folder = result_folder(run)
        records = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        retrieved = [r["retrieved_report"] for r in records if r["retrieved_report"]]
        evaluation = evaluate(
            read_samples(folder / "predictions.jsonl"),
            RuleLabeler(),
            train,
            copies={floors.RETRIEVED: retrieved} if retrieved else {},
            java=java,
            resamples=0,
            seed=run.seed,
        )
        write_report(folder, evaluation, read_json(folder / "report.json")["run"])

    return write


@pytest.fixture
def write_ranked(phantom: Path, pretend):
    """What the test of a system leaves that ranks and writes nothing. worst: the largest rank of a right answer."""
    studies = load_annotations(phantom / "annotation.json")["test"]

    def write(run: Run, worst: int) -> None:
        pretend(run)
        folder, n = result_folder(run), len(studies)
        (folder / "predictions.jsonl").unlink()
        ranks = {"a retriever": 1 + np.arange(n) % worst, "random order": 1 + np.arange(n)}
        medians = median_ranks(ranks)
        rows = {row: rank_metrics(values, (1, 3)) | {"median_rank": medians[row]} for row, values in ranks.items()}
        ids, subjects = [s.id for s in studies], [s.subject_id for s in studies]
        evaluation = evaluate_rankings(Rankings(ids, rows, f"image-to-report,{n}", subjects), resamples=0)
        write_report(folder, evaluation, read_json(folder / "report.json")["run"])

    return write
