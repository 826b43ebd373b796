"""The rows of tables as one list: several tables, each a split by its name, and a second table joined to the first."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from revtaf.data.annotations import SPLITS
from revtaf.data.sources.table.presets import Columns
from revtaf.errors import UserError
from revtaf.eval.record_files import read_table, require

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_TABLE = "\0table"  # where a row notes its table; no column has this name
Row = dict[str, Any]
Rows = list[tuple[str, Row]]


def read_tables(tables: list[Path], encoding: str) -> tuple[Rows, dict[str, str]]:
    """All rows, and the split of each table by its path: of none where there is one table, else of every one."""
    rows: Rows = []
    splits: dict[str, str] = {}
    for path in tables:
        if len(tables) > 1:
            splits[str(path)] = _split_of_file(path)
        found = read_table(path, encoding)
        if not found:
            raise UserError(f"{path}: no row in it")
        rows += [(where, {**row, _TABLE: str(path)}) for where, row in found]
    if len(set(splits.values())) < len(splits):
        raise UserError(f"several tables are one split each; got {splits}: put those of one split into one file")
    return rows, splits


def table_of(row: Row) -> str:
    """The path of the table that a row stands in."""
    return row[_TABLE]


def join_rows(rows: Rows, other: Path, on: str, encoding: str) -> tuple[Rows, int]:
    """Each row once for every row of `other` with the same value in `on`, and how many rows have no partner.

    A column that both tables have is the first one's.
    """
    partners: dict[str, Rows] = defaultdict(list)
    for where, row in read_table(other, encoding):
        require(where, row, on)
        if key := name_of(row[on]):  # a row without one is nobody's partner
            partners[key].append((where, row))
    joined: Rows = []
    without = 0
    for where, row in rows:
        require(where, row, on)
        found = partners.get(name_of(row[on]), [])
        without += not found
        joined += [(f"{where} and {there}", partner | row) for there, partner in found]
    if not joined:
        raise UserError(f"{other}: no value of {on!r} is one of the first table; name another column with --on")
    return joined, without


def check_columns(rows: Rows, columns: Columns, preset: str | None) -> None:
    """UserError that names the absent column, those that are there, and the option that names another."""
    held = {name for _, row in rows for name in row} - {_TABLE}
    for column, option in columns.named().items():
        if column not in held:
            origin = f" (preset {preset})" if preset else ""
            optional = "" if option in ("--image", "--report") else ", or leave it out with " + option + " none"
            shown = ", ".join(sorted(map(str, held)))
            raise UserError(
                f"{table_of(rows[0][1])}: the column {column!r}{origin} is missing; it has: {shown[:600]}; name "
                f"another with {option} COLUMN{optional}"
            )


def split_of(where: str, column: str, value: str) -> str:
    """train, val or test by the names that are in use; "" where the row says none."""
    if not value:
        return ""
    if (name := SPLIT_NAMES.get(value.lower())) is None:
        raise UserError(f"{where}: column {column!r}: expected {', '.join(SPLIT_NAMES)} or nothing, got {value!r}")
    return name


def text_of(value: Any) -> str:
    """A cell as text: "" for nothing, whole numbers without a decimal point (data frames write 12 as 12.0)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip().encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written


def name_of(value: Any) -> str:
    """A cell that names a patient, a study or a sample: "7.0", as a data frame writes 7 into a CSV where the column has
    gaps, is 7."""
    text = text_of(value)
    whole = re.fullmatch(r"(-?\d+)\.0+", text)
    return whole[1] if whole else text


def list_of(where: str, column: str, value: Any) -> list:
    """A cell as a list: a JSON list, a list written as text ("['a.png', 'b.png']"), or one value."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = _parsed(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise UserError(f"{where}: column {column!r}: not a list: {value[:60]!r}") from None
    if isinstance(value, list | tuple):
        return list(value)
    return [value] if text_of(value) else []


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return ast.literal_eval(text)  # a list as Python prints it


def _split_of_file(path: Path) -> str:
    words = path.name.lower().replace("-", "_").replace(".", "_").split("_")
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    if len(found) != 1:
        raise UserError(
            f"{path}: of several tables each is a split, and its name says which ({', '.join(SPLITS)}); "
            "rename it, or put all rows into one table"
        )
    return found.pop()
