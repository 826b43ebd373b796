"""What a source writes beside its annotation: where that may be, and its images as a link or as a copy of those in use.

A copy holds the file `MARK`. A folder without it was not made here, and is never replaced or deleted. An annotation
made here has a `source.json` beside it, or an import.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from revtaf.data.image_names import find_file
from revtaf.data.sources.access import unreadable
from revtaf.errors import UserError
from revtaf.files import atomic_folder, atomic_write, read_json, real_path

MARK = ".revtaf-copy"
IMPORTED_MARK = "imported/texts/manifest.json"  # of `prepare import`
_WRITTEN = ("annotation.json", "manifest.csv.gz", "source.json")
# Other errors of a link mean that the file system or the account knows no links; there a copy helps.
_NOT_WRITABLE = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG)


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """UserError where `out` is an input or lies below one, or where its files cannot be put in their places."""
    place = real_path(out)
    for given in inputs:
        if _holds(real_path(given), place):
            raise UserError(f"--out {out} is {given} or lies below it, which is the source; name another folder")
    standing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not standing.is_dir():
        raise UserError(f"--out {out}: {standing} is a file; name another folder")
    for name in _WRITTEN:
        if (out / name).is_dir():
            raise UserError(f"{out / name} is a folder, expected a file; move it away, or name another --out")


def check_kept(out: Path, *inputs: Path | None) -> None:
    """UserError where an input, or what was not made here, would be written over."""
    results = {real_path(out / name) for name in _WRITTEN}
    images = out / "images"
    copied = () if images.is_symlink() else (real_path(images),)  # a folder, which is replaced whole
    for given in (path for path in inputs if path):
        place = real_path(given)
        if place in results or any(_holds(folder, place) for folder in copied):
            raise UserError(f"--out {out}: {given} would be overwritten; name another folder")
    if (out / "source.json").exists() and not _made_here(out):
        raise UserError(f"{out / 'source.json'} was not written by revtaf prepare; move it away, or name another --out")
    check_annotation(out)


def check_annotation(out: Path) -> None:
    """UserError where the annotation that would be replaced was not made here."""
    if (out / "annotation.json").exists() and not (_made_here(out) or (out / IMPORTED_MARK).is_file()):
        raise UserError(
            f"{out / 'annotation.json'} was not written by revtaf prepare (no {out / 'source.json'} of it); move it "
            "away, or name another --out"
        )


def _made_here(out: Path) -> bool:
    """Whether `source.json` is a record of a source."""
    try:
        record = read_json(out / "source.json")
    except UserError:  # not there, or no JSON
        return False
    return isinstance(record, dict) and {"source", "studies"} <= record.keys()


def check_place(images: Path, place: Path, copy: bool) -> None:
    """UserError where `place_images` would refuse. A link may be replaced, a folder only if it is our copy."""
    if place.is_symlink() or not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{place} is a file; move it away, or name another --out")
    if _holds(real_path(place), real_path(images)):
        raise UserError(f"{place} is the source of the images itself ({images} leads there); name another --out")
    if not (place / MARK).is_file():
        raise UserError(f"{place} is a folder already, and no copy made here; move it away, or name another --out")
    if not copy:
        raise UserError(f"{place} is a folder already; remove it, or prepare with --copy to replace it")


def place_images(images: Path, place: Path, paths: list[str], copy: bool) -> None:
    """Make `place` a link to `images`, or a folder with a copy of each of `paths`, which are relative to it."""
    check_place(images, place, copy)
    if copy:
        with atomic_folder(place) as partial:
            told = "Copied by revtaf prepare; preparing with --copy again replaces this folder.\n"
            (partial / MARK).write_text(told, encoding="utf-8")
            for path in tqdm(paths, desc="copying images", unit="image", leave=False):
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                _copy(find_file(images / path) or images / path, partial / path)
        return
    with atomic_write(place) as partial:
        try:
            partial.symlink_to(real_path(images), target_is_directory=True)
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                raise UserError(f"cannot write {place} ({error.strerror}); name another --out") from None
            raise UserError(f"cannot link {place} to {images} ({error}); prepare with --copy") from None


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.filename == str(source):
            raise unreadable(source, error) from None
        raise


def _holds(folder: Path, path: Path) -> bool:
    """Whether `path` is `folder` or lies below it; both resolved."""
    return folder == path or folder in path.parents
