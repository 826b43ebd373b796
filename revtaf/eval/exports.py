"""Predictions in the formats of two other evaluations, so that anybody can score them a second time there.

Both are written with raw texts, in the order of the samples. Our reference is the findings section; an evaluation that
takes findings and impression together must be given both by whoever has the impression.
"""

from __future__ import annotations

import csv
from pathlib import Path

from revtaf.eval.records import Samples
from revtaf.files import atomic_write, write_json

GROUND_TRUTH, PREDICTED = "gt_reports.csv", "predicted_reports.csv"


def rexrank(samples: Samples, path: str | Path) -> None:
    """ReXrank's prediction file: one JSON object, id -> {model_prediction, section_findings, section_impression, ..}.

    The names are those of its example files (github.com/rajpurkarlab/ReXrank, example_files and data). Assumptions:
    the key is our id, so that several images of one study stay apart, while ReXrank scores studies: keep one sample a
    study first (`revtaf.eval.diagnostics.study_rows`). The impression is empty, as our references are findings.
    `study_id` and `subject_id` are ours; its script ignores them.
    """
    content = {}
    for i, sample in enumerate(samples.ids):
        findings = samples.references[i]
        content[sample] = {
            "section_findings": findings,
            "section_impression": "",
            "reports": f"Findings: {findings} Impression: ",
            "model_prediction": samples.predictions[i],
        }
        if samples.studies is not None:
            content[sample]["study_id"] = samples.studies[i]
        if samples.subjects is not None:
            content[sample]["subject_id"] = samples.subjects[i]
    write_json(path, content)


def cxr_report_metric(samples: Samples, folder: str | Path) -> None:
    """CXR-Report-Metric's two tables in `folder`, columns study_id and report, rows in the same order.

    `study_id` must be unique there, so it holds our id. A text without a word is written as ".": an empty cell would be
    read as a missing value.
    """
    for name, texts in ((GROUND_TRUTH, samples.references), (PREDICTED, samples.predictions)):
        with atomic_write(Path(folder) / name) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("study_id", "report"))
            rows.writerows((i, text if text.strip() else ".") for i, text in zip(samples.ids, texts, strict=True))
