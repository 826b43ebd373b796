"""What was made elsewhere, found again by sample id; and the files that a model needs, looked for before any import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from revtaf.errors import UserError
from revtaf.eval.record_files import id_of, listed, read_table

T = TypeVar("T")


def rows_of(path: Path, ids: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The record of each id and where it stands; records of other ids are ignored. UserError for a missing or
    repeated id. Formats: `record_files.read_table`."""
    held: dict[str, tuple[str, dict[str, Any]]] = {}
    for where, row in read_table(path):
        sample = id_of(where, row)
        if sample in held:
            raise UserError(f"{where}: the id {sample} appears twice; keep one record for each")
        held[sample] = where, row
    return in_order(held, ids, path)


def in_order(held: Mapping[str, T], ids: Sequence[str], path: Path) -> list[T]:
    """The entry of each id, or a UserError that lists what is missing."""
    if missing := [i for i in ids if i not in held]:
        raise UserError(
            f"{path}: {len(missing)} of {len(ids)} scored samples are missing: {listed(missing)}; "
            "make the file again from these samples"
        )
    return [held[i] for i in ids]


def require_file(path: Path, what: str) -> None:
    """UserError, which begins with `what`, where there is no such file."""
    if not Path(path).is_file():
        raise UserError(f"{what}: no such file: {path}")


def require_files(folder: Path, groups: Sequence[Sequence[str]], what: str, fix: str) -> None:
    """UserError naming the first group of which the folder has no member; a name may lead into a subfolder."""
    if not folder.is_dir():
        raise UserError(f"{what}: no such folder: {folder}; {fix}")
    for first, *others in groups:
        if not any((folder / name).exists() for name in (first, *others)):
            either = f" (or {', '.join(others)})" if others else ""
            raise UserError(f"{what}: missing file {folder / first}{either}; {fix}")
