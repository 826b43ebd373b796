"""A source's images under a data folder: a link to where they are, or a copy of those in use."""

from __future__ import annotations

import shutil
from pathlib import Path

from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.files import atomic_folder, atomic_write


def place_images(images: Path, place: Path, paths: list[str], copy: bool) -> None:
    """Make `place` a link to `images`, or a folder with a copy of each of `paths`, which are relative to it."""
    if place.is_dir() and not place.is_symlink() and not copy:
        raise UserError(f"{place} is a folder already; remove it, or prepare with --copy to replace it")
    if copy:
        with atomic_folder(place) as partial:
            for path in tqdm(paths, desc="copying images", unit="image", leave=False):
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(images / path, partial / path)
        return
    with atomic_write(place) as partial:
        try:
            partial.symlink_to(images.resolve(), target_is_directory=True)
        except OSError as error:  # some file systems and Windows accounts know no links
            raise UserError(f"cannot link {place} to {images} ({error}); prepare with --copy") from None
