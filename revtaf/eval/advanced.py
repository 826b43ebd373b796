"""The model-based scores of supplement Table 5: RadGraph F1, BERTScore, SembScore, RadCliQ.

Each comes from a model in a local folder or from a file made where the model is. Nothing is ever fetched: what is not
configured is left out with the reason, and what is configured but not there is an error before anything is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from revtaf.errors import UserError
from revtaf.eval import bertscore, radgraph, semb
from revtaf.eval.keyed import require_file, rows_of
from revtaf.eval.metric import Metric, mean_metric
from revtaf.eval.radcliq import SUBSCORES, radcliq, sentence_bleu2
from revtaf.eval.radcliq import metrics as radcliq_metrics

__all__ = ["NAMES", "AdvancedSources", "Embedder", "check", "metrics", "radcliq"]

NAMES = (
    *(f"RadGraph_{name}" for name in radgraph.VARIANTS),
    "BERTScore",
    "SembScore",
    "RadCliQ_v0",
    "RadCliQ_v1",
    "1/RadCliQ_v1",
)
ROUNDING = 1e-4  # above 1: a perfect score in single or half precision is 1.0000001, say, and counts as 1
_ANNOTATIONS, _SUBSCORES = "RadGraph annotations", "sub-scores"


class Embedder(Protocol):
    """`revtaf.knowledge.chexbert.CheXbertLabeler`, for one."""

    def embed(self, reports: Sequence[str], progress: bool = False) -> np.ndarray:
        """(N,) texts -> (N, width)."""
        ...


@dataclass(frozen=True)
class AdvancedSources:
    """Where the scores come from; what is None is not computed.

    radgraph_references, radgraph_predictions: annotations in RadGraph's format by sample id (.json, .jsonl).
    radgraph_model: folder for `radgraph.annotate`, for the sides without a file.
    bertscore_model: folder of distilroberta-base. bertscore_baseline: bert-score's file, for any other model.
    embeddings: CheXbert vectors made elsewhere (`semb.read_vectors`); chexbert: or the model itself.
    subscores: a table (.csv, .jsonl, .json) with id and any of radgraph_combined, bertscore, semb, bleu2.
    """

    radgraph_references: Path | None = None
    radgraph_predictions: Path | None = None
    radgraph_model: Path | None = None
    bertscore_model: Path | None = None
    bertscore_baseline: Path | None = None
    bertscore_idf: bool = False
    embeddings: Path | None = None
    chexbert: Embedder | None = None
    subscores: Path | None = None
    device: str = "cpu"


def check(sources: AdvancedSources) -> None:
    """UserError where a configured file, folder or package is not there, in well under a second."""
    sides = sources.radgraph_references, sources.radgraph_predictions
    for path in filter(None, sides):
        require_file(path, _ANNOTATIONS)
    if sources.radgraph_model and None in sides:
        radgraph.check_model(sources.radgraph_model)
    elif any(sides) and None in sides:
        raise UserError(
            f"{_ANNOTATIONS}: only {next(filter(None, sides))} is given; give the other side's file as well, "
            "or the folder of the RadGraph model"
        )
    if sources.bertscore_model:
        bertscore.check_model(sources.bertscore_model, baseline=_baseline(sources))
    if sources.embeddings and sources.chexbert:
        raise UserError(f"SembScore: both a CheXbert model and vectors ({sources.embeddings}) are given; give one")
    if sources.embeddings:
        semb.check_vectors(sources.embeddings)
    if sources.subscores:
        require_file(sources.subscores, _SUBSCORES)


def metrics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    ids: Sequence[str],
    sources: AdvancedSources,
    progress: bool = False,
) -> tuple[dict[str, Metric], list[str]]:
    """Those of NAMES that the sources give, over N samples, and notes on what is n/a or not comparable, and why.

    Texts are taken as they are; the definitions behind RadCliQ's published numbers expect unprocessed reports. Every
    file must hold all `ids`. Raises UserError for a source that is configured but missing, broken or given twice.
    """
    if not len(references) == len(hypotheses) == len(ids) or len(set(ids)) != len(ids):
        raise ValueError(
            f"expected texts and ids that pair up, ids distinct; got {len(references)} references, "
            f"{len(hypotheses)} hypotheses, {len(ids)} ids, {len(set(ids))} of them distinct"
        )
    check(sources)
    given = _given(sources, ids)
    found: dict[str, Metric] = {}
    notes: list[str] = []

    if "semb" in given:
        found["SembScore"] = mean_metric("SembScore", given["semb"])
    elif sources.embeddings:
        found["SembScore"] = semb.score(*semb.read_vectors(sources.embeddings, ids))
    elif sources.chexbert:
        found["SembScore"] = semb.score(*(sources.chexbert.embed(side, progress) for side in (references, hypotheses)))
    else:
        notes.append("SembScore: n/a; it needs CheXbert's weights, or its vectors in files.")

    if "radgraph_combined" in given:
        found["RadGraph_combined"] = mean_metric("RadGraph_combined", given["radgraph_combined"])
        notes.append("RadGraph F1: the combined score only; the others need annotations.")
    elif sources.radgraph_model or sources.radgraph_references:
        sides = _annotations(references, hypotheses, ids, sources, progress)
        found |= {metric.name: metric for metric in radgraph.scores(*sides).values()}
        if labels := radgraph.foreign_labels([a for side in sides for a in side]):
            notes.append(
                f"RadGraph F1: the annotations hold the label {labels[0]!r}, which the original checkpoint does not "
                "have; do not compare with published numbers, nor RadCliQ."
            )
    else:
        notes.append("RadGraph F1: n/a; it needs annotations of both sides in files, or the folder of its model.")

    if "bertscore" in given:
        found["BERTScore"] = mean_metric("BERTScore", given["bertscore"])
    elif sources.bertscore_model:
        found["BERTScore"] = bertscore.score(
            references,
            hypotheses,
            sources.bertscore_model,
            baseline=_baseline(sources),
            idf=sources.bertscore_idf,
            device=sources.device,
            progress=progress,
        )
        if sources.bertscore_idf or sources.bertscore_baseline:
            changed = "idf is on" if sources.bertscore_idf else "the baseline is not the published one"
            notes.append(f"BERTScore: {changed}; do not compare with published numbers, nor RadCliQ.")
    else:
        notes.append("BERTScore: n/a; it needs the folder of distilroberta-base.")

    parts = {"RadGraph": "RadGraph_combined", "BERTScore": "BERTScore", "SembScore": "SembScore"}
    if missing := [short for short, name in parts.items() if name not in found]:
        notes.append(f"RadCliQ: n/a; it needs {' and '.join(missing)}.")
    else:
        bleu2 = given["bleu2"] if "bleu2" in given else sentence_bleu2(references, hypotheses)
        found |= radcliq_metrics(*(found[name].per_sample for name in parts.values()), bleu2)
    return {name: found[name] for name in NAMES if name in found}, notes


def _given(sources: AdvancedSources, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Column -> (N,) of the sub-scores computed elsewhere. UserError where a score has a second source."""
    if sources.subscores is None:
        return {}
    rows = rows_of(sources.subscores, ids)
    columns = [c for c in SUBSCORES if rows and c in rows[0][1]]
    if not columns:
        raise UserError(f"{_SUBSCORES}: {sources.subscores} has none of the columns {', '.join(SUBSCORES)}")
    second = {
        "radgraph_combined": sources.radgraph_model or sources.radgraph_references,
        "bertscore": sources.bertscore_model,
        "semb": sources.embeddings or sources.chexbert,
    }
    for column in columns:
        if second.get(column):
            raise UserError(
                f"{_SUBSCORES}: {sources.subscores} holds {column}, and another source for it is configured; give one"
            )
    return {column: np.array([_fraction(where, row, column) for where, row in rows]) for column in columns}


def _fraction(where: str, row: dict[str, Any], column: str) -> float:
    try:
        value = float(row.get(column, ""))
    except (TypeError, ValueError):
        value = float("nan")
    # Each of these scores is at most 1; BERTScore, rescaled, may be far below 0.
    if not -np.inf < value <= 1 + ROUNDING:
        raise UserError(f"{where}: column '{column}': {row.get(column)!r} is no score; expected a fraction, at most 1")
    return min(value, 1.0)


def _annotations(references, hypotheses, ids, sources: AdvancedSources, progress: bool) -> list[list]:
    """Of both sides: from the file where there is one, from the model elsewhere, files first."""
    files = sources.radgraph_references, sources.radgraph_predictions
    sides = [radgraph.read_annotations(path, ids) if path else None for path in files]
    texts = [t for side, held in zip((references, hypotheses), sides, strict=True) if held is None for t in side]
    made = iter(radgraph.annotate(texts, sources.radgraph_model, progress) if texts else [])
    return [[next(made) for _ in ids] if held is None else held for held in sides]


def _baseline(sources: AdvancedSources) -> float | None:
    return bertscore.read_baseline(sources.bertscore_baseline) if sources.bertscore_baseline else None
