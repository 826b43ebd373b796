"""Figures that papers print, for the rows marked "paper" beside our own (`published.yaml`).

They are shown and never mixed in: each row carries what is known about its protocol, and no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from revtaf.config import WHOLE_SET, DataSettings
from revtaf.data.annotations import load_annotations, parts_of
from revtaf.errors import UserError, nearest
from revtaf.files import read_yaml

FILE = Path(str(files("revtaf.eval") / "published.yaml"))
AVERAGED = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L", "precision", "recall", "f1")
ADVANCED = ("1/RadCliQ_v1", "RadGraph_combined", "BERTScore")
RANKED = tuple(
    f"{direction}_{name}"
    for direction in ("i2t", "t2i")
    for name in ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank")
)
ZERO_SHOT = (
    "auroc_name",
    *(f"auroc_name/{c}" for c in ("pneumonia", "cardiomegaly", "pleural effusion", "atelectasis")),
)
COLUMNS = (*AVERAGED, "CIDEr", "avg", *ADVANCED, "seconds", *RANKED, *ZERO_SHOT)
SOURCES = ("paper", "supplement", "medfuse", "trrg")  # REVTAF's two, and those of other systems
PAPER_SPLITS = {"mimic_cxr": "test", "iu_xray": WHOLE_SET}  # what the paper's tables are on
_UNBOUNDED = ("1/RadCliQ_v1", "CIDEr", "seconds", "i2t_median_rank", "t2i_median_rank")  # all others are from 0 to 1
_TABLE_KEYS = ("table", "source", "dataset", "split", "protocol", "columns", "rows")
_ROW_KEYS = ("system", "venue", "figures")


@dataclass(frozen=True)
class Row:
    """figures: column -> value for what is printed; `avg` is the printed one. protocol: as far as it is known."""

    system: str
    venue: str
    dataset: str
    split: str
    protocol: str
    table: str
    source: str
    figures: dict[str, float]

    @property
    def origin(self) -> str:
        """For example "supplement, Table 2"."""
        return f"{self.source}, {self.table}"


def printed_on(data: DataSettings) -> str | None:
    """The name under which papers print results on just these studies; None where they print none, or on others."""
    paper = PAPER_SPLITS.get(data.name)
    if paper is None or data.max_samples is not None:
        return None
    same = data.test_split == paper
    if paper == WHOLE_SET and not same and Path(data.annotation).is_file():  # all of it by the names of its splits
        annotations = load_annotations(data.annotation)
        same = set(parts_of(WHOLE_SET, annotations)) <= set(data.test_split.split("+"))
    return data.name if same else None


def rows(dataset: str, table: str | None = None, source: str | None = None, path: str | Path = FILE) -> list[Row]:
    """The rows on a data set, in the order of the papers; of one table ("Table 1"), of one source where given.

    Empty for a data set without published figures. Raises UserError naming file, table and row for a key, a column or
    a number that is not what it should be, and for a file that cannot be read.
    """
    if source is not None and source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; expected {', '.join(SOURCES)}")
    return [
        row
        for row in _load(Path(path))
        if row.dataset == dataset and table in (None, row.table) and source in (None, row.source)
    ]


@lru_cache(maxsize=4)
def _load(path: Path) -> tuple[Row, ...]:
    if not path.exists():
        raise UserError(f"published figures not found: {path}; install revtaf again")
    content = read_yaml(path, "published figures")
    if not isinstance(content, dict) or list(content) != ["tables"] or not isinstance(content["tables"], list):
        raise UserError(f"{path}: expected one key, tables, with a list of tables")
    found: dict[tuple[str, str, str], Row] = {}
    for number, table in enumerate(content["tables"], start=1):
        for row in _table(f"{path}: table {number}", table):
            key = (row.source, row.table, row.system)
            if key in found:
                raise UserError(f"{path}: {row.origin}: the system {row.system!r} appears twice")
            found[key] = row
    return tuple(found.values())


def _table(where: str, table: Any) -> list[Row]:
    _check_keys(where, table, _TABLE_KEYS, _TABLE_KEYS)
    shared = {key: table[key] for key in _TABLE_KEYS[:5]}
    for key, value in shared.items():
        _check_text(where, key, value)
    where = f"{where} ({table['source']}, {table['table']})"
    if table["source"] not in SOURCES:
        raise UserError(f"{where}: source: expected {', '.join(SOURCES)}, got {table['source']!r}")
    columns = table["columns"]
    if not isinstance(columns, list) or not columns or len(set(map(str, columns))) != len(columns):
        raise UserError(f"{where}: columns: expected a list of different names, got {columns!r}")
    for name in columns:
        _check_known(f"{where}: columns", str(name), COLUMNS)
    if not isinstance(table["rows"], list):
        raise UserError(f"{where}: rows: expected a list, got {table['rows']!r:.60}")
    return [_row(f"{where}, row {i}", row, columns, shared) for i, row in enumerate(table["rows"], start=1)]


def _row(where: str, row: Any, columns: list[str], shared: dict[str, str]) -> Row:
    _check_keys(where, row, _ROW_KEYS, ("system", "figures"))
    _check_text(where, "system", row["system"])
    venue = row.get("venue", "")
    if venue:
        _check_text(where, "venue", venue)
    where = f"{where} ({row['system']})"
    values = row["figures"]
    if not isinstance(values, list) or len(values) != len(columns):
        raise UserError(f"{where}: figures: expected {len(columns)} numbers, one per column, got {values!r:.80}")
    figures = {}
    for name, value in zip(columns, values, strict=True):
        if value is None:  # "-" in the paper
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value > 1 and name not in _UNBOUNDED):
            bounds = "of at least 0" if name in _UNBOUNDED else "from 0 to 1"
            raise UserError(f"{where}: {name}: expected a number {bounds}, or null, got {value!r}")
        figures[name] = float(value)
    return Row(system=row["system"], venue=venue, figures=figures, **shared)


def _check_keys(where: str, content: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected an object with {', '.join(known)}, got {content!r:.60}")
    for key in content:
        _check_known(where, str(key), known)
    if absent := [key for key in needed if key not in content]:
        raise UserError(f"{where}: the key '{absent[0]}' is missing")


def _check_known(where: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UserError(f"{where}: unknown name '{name}'; {nearest(name, known)}")


def _check_text(where: str, key: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {key}: expected a text, got {value!r:.60}")
