"""REVTAF's status prompts as text: "positive: cardiomegaly, edema; negative: pneumothorax.", of the truth or of a
REVTAF test's predictions.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.labels import BLANK, CATEGORIES, STATUSES


def in_words(statuses: np.ndarray) -> list[str]:
    """(N, K) statuses -> (N,) texts; blank ones are not told."""
    return [_words(line) for line in np.asarray(statuses)]


def _words(line: np.ndarray) -> str:
    told = []
    for status, name in enumerate(STATUSES):
        if status != BLANK and (found := [CATEGORIES[i] for i in np.flatnonzero(line == status)]):
            told.append(f"{name}: {', '.join(found)}")
    return "; ".join(told) + "." if told else ""


def read_predicted(paths: Sequence[Path], ids: Sequence[str]) -> np.ndarray:
    """(N, K) uint8 of predictions.jsonl files, for the samples `ids`. UserError where one is missing."""
    known: dict[str, list[int]] = {}
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"prompt.predictions: no such file: {path}")
        for record in read_jsonl(Path(path)):
            if "statuses" not in record:
                raise UserError(f"prompt.predictions: {path} has no statuses: it is not of a REVTAF test")
            given = record["statuses"]
            known[record["id"]] = [STATUSES.index(given[c]) for c in CATEGORIES if c in given]
    if lacking := [sample for sample in ids if sample not in known]:
        names = ", ".join(map(str, paths))
        raise UserError(
            f"prompt.predictions: {names} lack {len(lacking)} of {len(ids)} samples, first {lacking[0]}; test REVTAF "
            "on this split, too, and name both files"
        )
    return np.array([known[sample] for sample in ids], np.uint8)
