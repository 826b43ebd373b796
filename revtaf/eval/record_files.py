"""Tables of records as other tools write them: JSON Lines, JSON, CSV (all also packed) or Parquet, one row a sample.

Every record comes with the place where it stands, so that whoever checks its values can name file and line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from revtaf.errors import UserError
from revtaf.files import not_text, parse_json, regular_file

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
TAB = "\t"
DELIMITERS = f",;{TAB}"  # a spreadsheet writes ";" where the decimal mark is a comma
LISTED = 10  # ids that one message names
# Line breaks among them: METEOR's protocol is line by line, ROUGE-L knows blanks only. Half of a surrogate pair (a
# text cut in the middle of a character) can be neither hashed nor written.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_table(path: str | Path, encoding: str = "utf-8") -> list[tuple[str, dict[str, Any]]]:
    """("FILE, line N" or "FILE, entry N", the record) for each record; values are texts if the file is CSV.

    CSV: values stand between commas, semicolons or tabs, whichever the header has most of. A JSON file holds
    a list of objects, or an object of objects, whose keys become `id`. Parquet needs pyarrow. Raises UserError for a
    file that cannot be read, is damaged, is not in `encoding`, or is not what its ending says, and for a JSON object
    with a key twice.
    """
    path = Path(path)
    suffix = (Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix).lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: unknown format {suffix!r}; expected a name ending in {', '.join(FORMATS)} (or .gz)")
    if suffix == ".parquet":
        return _parquet(path)
    readers = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".tsv": _csv}
    return readers[suffix](path, _decoded(path, encoding))


def id_of(where: str, row: dict[str, Any], column: str = "id") -> str:
    """The record's id as text without outer blanks. Raises UserError where it is missing or empty."""
    require(where, row, column)
    sample = optional_id(where, row, column)
    if not sample:
        raise UserError(f"{where}: column '{column}' is empty; every sample needs an id of its own")
    return sample


def require(where: str, row: dict[str, Any], column: str) -> None:
    """UserError naming the columns that the record has, where `column` is none of them."""
    if column not in row:
        held = ", ".join(map(str, row)) or "nothing"
        raise UserError(f"{where}: the column '{column}' is missing; it has: {held[:300]}")


def listed(ids) -> str:
    """The first ids, and how many more there are."""
    ids = list(ids)
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return ", ".join(ids[:LISTED]) + more


def plain(text: str) -> str:
    """The text with a blank for each control character."""
    return _CONTROL.sub(" ", text)


def optional_id(where: str, row: dict, name: str) -> str:
    """Numbers are ids, too; "" where the record has none."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise UserError(f"{where}: column '{name}': expected a text or a whole number, got {value!r:.60}")
    return plain(str(value)).strip()


def _decoded(path: Path, encoding: str) -> str:
    try:
        content = regular_file(path).read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged, or not packed by gzip ({error}); write it again") from None
    except (OSError, UserError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    try:
        return content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except LookupError:
        raise UserError(f"{path}: unknown encoding {encoding!r}; such as utf-8, cp1252, utf-16") from None
    except UnicodeDecodeError as error:
        raise UserError(not_text(path, content, error)) from None


def _json_lines(path: Path, text: str) -> list[tuple[str, dict]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a JSON text may hold U+2028
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line, partial(_once, where))
        except ValueError as error:
            reason = getattr(error, "msg", error)
            raise UserError(f"{where}: not a JSON object ({reason}); a cut-off file must be written again") from None
        rows.append((where, _object(where, row)))
    return rows


def _json(path: Path, text: str) -> list[tuple[str, dict]]:
    try:
        content = parse_json(text, partial(_once, str(path)))
    except ValueError as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = getattr(error, "msg", error)
        raise UserError(f"{path}{line}: not JSON ({reason}); if each line is a record, name the file .jsonl") from None
    if isinstance(content, list):
        entries = ((f"{path}, entry {i}", row) for i, row in enumerate(content, start=1))
        return [(where, _object(where, row)) for where, row in entries]
    by_id = ((f"{path}, key {key!r}", key, row) for key, row in _object(str(path), content).items())
    return [(where, _named(where, key, _object(where, row))) for where, key, row in by_id]


def _once(where: str, pairs: list[tuple[str, Any]]) -> dict:
    """An object whose keys are all different: a dict would keep the last of two and forget the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise UserError(f"{where}: the key {twice!r} appears twice in one object; keep one")
    return found


def _named(where: str, key: str, row: dict) -> dict:
    """The record with its key as `id`."""
    if "id" in row and str(row["id"]).strip() != key.strip():
        raise UserError(f"{where}: the record's own id is {row['id']!r:.60}; give it that of its key, or none")
    return {**row, "id": key}


def _object(where: str, row: Any) -> dict:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with named columns, got {row!r:.60}")
    return row


def _parquet(path: Path) -> list[tuple[str, dict]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install 'revtaf[parquet]', or write it as CSV") from None
    try:
        rows = parquet.read_table(regular_file(path)).to_pylist()
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error})") from None
    return [(f"{path}, row {i}", row) for i, row in enumerate(rows, start=1)]


def _delimiter(text: str) -> str:
    """Which of `DELIMITERS` the header has most of; a comma where it has none."""
    header = text[: text.find("\n")] if "\n" in text else text
    return max(DELIMITERS, key=header.count)


def _csv(path: Path, text: str) -> list[tuple[str, dict]]:
    limit = csv.field_size_limit(len(text) + 1)  # the default refuses a field of more than 131,072 characters
    try:
        mark = _delimiter(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        header = [name.strip() for name in next(reader, [])]
        if repeated := {name for name in header if header.count(name) > 1}:
            raise UserError(f"{path}, line 1: the column {min(repeated)!r} appears twice")
        rows = []
        line = reader.line_num + 1
        for row in reader:
            where, line = f"{path}, line {line}", reader.line_num + 1
            if row and len(row) != len(header):
                raise UserError(
                    f"{where}: expected {len(header)} values as in the header, got {len(row)}; "
                    f"put texts with {'tabs' if mark == TAB else repr(mark)} in double quotes"
                )
            if row:
                rows.append((where, dict(zip(header, row, strict=True))))
        return rows
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a CSV table ({error})") from None
    finally:
        csv.field_size_limit(limit)
