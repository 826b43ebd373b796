"""Statuses that were made elsewhere, for references or predictions: a labeler that is not installed here, or people.

Two conventions are in use, and neither can be told from the other by looking: 0 is "negative" in CheXpert's files and
"blank" in CheXbert's codes, which are ours. The caller names the convention; a value outside of it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from revtaf.errors import UserError
from revtaf.eval.record_files import id_of, listed, read_table
from revtaf.labels import (
    AUXILIARY_CATEGORIES,
    BLANK,
    CATEGORIES,
    CHEXPERT_CATEGORIES,
    NEGATIVE,
    POSITIVE,
    STATUSES,
    UNCERTAIN,
)

_CHEXPERT = {1: POSITIVE, 0: NEGATIVE, -1: UNCERTAIN, None: BLANK}
CODES: dict[str, dict[int | None, int]] = {"chexpert": _CHEXPERT, "ours": {i: i for i in range(len(STATUSES))}}
_MEANING = {
    "chexpert": "1 positive, 0 negative, -1 uncertain, blank not mentioned",
    "ours": ", ".join(f"{code} {status}" for code, status in enumerate(STATUSES)),
}


def read_statuses(
    path: str | Path, ids: Sequence[str], column: str | None = None, codes: str = "chexpert"
) -> np.ndarray:
    """(N, 14) or, where the file has the auxiliary categories, (N, 18) uint8 in our codes, row i for ids[i].

    The file is CSV, JSON or JSON Lines (`.gz` too) with one record a sample: one column per category, its name in any
    case, or `labels`, a list of 14 or 18 values. column: the one with the ids, `id` if not given; "study_id" with the
    studies of the samples reads labels that were made once a study. Records of other ids are ignored.
    codes: "chexpert" (1, 0, -1, blank) or "ours" (0 blank, 1 positive, 2 negative, 3 uncertain).
    Raises UserError naming line and column for an unknown value, a missing column and a missing or duplicate id.
    """
    if codes not in CODES:
        raise UserError(f"unknown label codes {codes!r}; expected {' or '.join(CODES)}")
    wanted = set(ids)
    found: dict[str, np.ndarray] = {}
    width, first = 0, ""
    for where, row in read_table(path):
        sample = id_of(where, row, column or "id")
        if sample in found:
            raise UserError(f"{where}: the id {sample} appears twice; keep one record for each")
        found[sample] = statuses = statuses_of(where, row, codes)
        width, first = width or len(statuses), first or where
        if len(statuses) != width:
            raise UserError(f"{where}: {len(statuses)} categories, but {first} has {width}; give all or none the same")
    if absent := sorted(wanted - set(found)):
        raise UserError(f"{path}: {len(absent)} of {len(wanted)} ids have no labels: {listed(absent)}")
    return np.stack([found[sample] for sample in ids])


def statuses_of(where: str, row: dict[str, Any], codes: str) -> np.ndarray:
    """One record's statuses, (14,) or (18,) uint8 in our codes; see `read_statuses`."""
    names, values = _list(where, row["labels"]) if "labels" in row else _columns(where, row)
    return np.array([_status(where, n, v, codes) for n, v in zip(names, values, strict=True)], dtype=np.uint8)


def _list(where: str, values: Any) -> tuple[Sequence[str], list]:
    counts = len(CHEXPERT_CATEGORIES), len(CATEGORIES)
    if not isinstance(values, list) or len(values) not in counts:
        got = len(values) if isinstance(values, list) else f"{values!r:.60}"
        raise UserError(f"{where}: column 'labels': expected a list of {counts[0]} or {counts[1]} values, got {got}")
    return CATEGORIES[: len(values)], values


def _columns(where: str, row: dict[str, Any]) -> tuple[Sequence[str], list]:
    by_category: dict[str, str] = {}
    for name in row:
        category = " ".join(str(name).lower().replace("_", " ").split())
        if category in CATEGORIES and category in by_category:
            raise UserError(f"{where}: the columns {by_category[category]!r} and {name!r} are the same category")
        by_category[category] = name
    any_auxiliary = any(category in by_category for category in AUXILIARY_CATEGORIES)
    names = CATEGORIES if any_auxiliary else CHEXPERT_CATEGORIES
    if absent := [category for category in names if category not in by_category]:
        raise UserError(f"{where}: the column '{absent[0]}' is missing; expected all of: {', '.join(names)}")
    return names, [row[by_category[category]] for category in names]


def _status(where: str, category: str, value: Any, codes: str) -> int:
    code: Any = value
    try:
        if value is None or (isinstance(value, str) and not value.strip()):
            code = None
        elif isinstance(value, float) and math.isnan(value):  # how data frames write "blank" to JSON
            code = None
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            code = float(value)
        elif isinstance(value, bool):  # True would pass for 1
            raise TypeError
        return CODES[codes][code]
    except (KeyError, ValueError, TypeError):
        other = next(name for name in CODES if name != codes)
        raise UserError(
            f"{where}: column '{category}': unknown code {value!r:.40}; expected {_MEANING[codes]} (codes "
            f"'{codes}'), or name the codes '{other}' if the file means {_MEANING[other]}"
        ) from None
