"""Which images a command line names: files, folders, lists; each once, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from revtaf.data.image_names import IMAGE_SUFFIXES, find_file, why_absent
from revtaf.errors import UserError, nearest
from revtaf.eval.record_files import read_table

LIST = ".csv"
# What is taken of a folder. A file without a suffix may be a DICOM file; everything else is no image by its name.
SUFFIXES = IMAGE_SUFFIXES | {""}


@dataclass(frozen=True)
class Wanted:
    """An image that is asked about, and its reference report where a list gives one."""

    image: Path
    reference: str | None = None


def find_images(given: Sequence[Path]) -> list[Wanted]:
    """Everything that `given` names. UserError for a name that is not there, a folder without an image, a list without
    the column `image`; whether a file can be read is found out later."""
    found: dict[Path, Wanted] = {}
    for path in given:
        if path.is_dir():
            wanted = [Wanted(image) for image in _of_folder(path)]
            if not wanted:
                raise UserError(f"{path}: no image in this folder (by name: {', '.join(sorted(SUFFIXES - {''}))})")
        elif not (there := path if path.exists() else find_file(path)):
            raise UserError(f"image not found: {path}{why_absent(path)}")
        elif path.suffix.lower() == LIST:
            wanted = list(_of_list(path))
        else:
            wanted = [Wanted(there)]
        for one in wanted:
            known = found.setdefault(one.image, one)
            if one.reference is not None and known.reference is None:
                found[one.image] = one
    return list(found.values())


def _of_folder(folder: Path) -> Iterator[Path]:
    """All images below, by name; hidden files and folders are left alone."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _of_list(path: Path) -> Iterator[Wanted]:
    """The rows of a CSV file with a column `image`, relative to the file, and perhaps one `reference`; a spreadsheet's
    semicolons and tabs are read, too."""
    rows = read_table(path)
    if not rows:
        raise UserError(f"{path}: the list has no row")
    for where, row in rows:
        if "image" not in row:
            raise UserError(f"{path}: no column 'image' in line 1; {nearest('image', row)}")
        name = (row["image"] or "").strip()
        if not name:
            raise UserError(f"{where}: no image is named")
        yield Wanted(path.parent / name, (row.get("reference") or "").strip() or None)
