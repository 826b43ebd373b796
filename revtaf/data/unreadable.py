"""Images of a training set that cannot be read: a list beside its features, and training sets without them.

Nobody reads a whole set in advance. Where the first image fails, all are read once, those that fail are listed, and
what was begun begins again without their studies (`revtaf.engine.bad_samples`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from revtaf.config import DataSettings
from revtaf.data.annotations import Study
from revtaf.data.blocks import FEW, READERS
from revtaf.data.images import read_image
from revtaf.errors import BadImage, UserError
from revtaf.files import read_json, write_json

FILE = "unreadable.json"  # in the folder of the features
log = logging.getLogger("revtaf")


def listed(data: DataSettings) -> dict[str, str]:
    """Image file, as the annotation names it -> what is wrong with it. Empty with `data.on_error: stop`."""
    path = Path(data.features) / FILE
    if data.on_error == "stop" or not path.is_file():
        return {}
    found = read_json(path, "list of unreadable images")
    if not isinstance(found, dict) or not all(isinstance(reason, str) for reason in found.values()):
        raise UserError(f"{path} is damaged; delete it, it is made again")
    return found


def readable(studies: Sequence[Study], data: DataSettings) -> list[Study]:
    """Training studies without those whose image is listed. UserError where these are too many."""
    bad = listed(data)
    kept = [study for study in studies if study.image_path[0] not in bad]
    if lost := len(studies) - len(kept):
        check_share(lost, len(studies), data, next(bad[s.image_path[0]] for s in studies if s.image_path[0] in bad))
    return kept


def check_share(bad: int, count: int, data: DataSettings, reason: str) -> None:
    """UserError where more than `data.max_bad_share` of `count` training images cannot be read; reason: of one."""
    if bad > data.max_bad_share * count:
        raise UserError(
            f"{bad:,} of {count:,} training images cannot be read, more than data.max_bad_share={data.max_bad_share} "
            f"allows; one of them: {reason}. Mend or replace them, or raise data.max_bad_share"
        )


def list_unreadable(studies: Sequence[Study], data: DataSettings, first: BadImage) -> bool:
    """Read the image of every study, and list those that fail, with `first`; whether any was not listed before.
    False at once where `first` is none of these images. UserError, and nothing is written, where these are too many."""
    known, root = listed(data), Path(data.images)
    names = list(dict.fromkeys(study.image_path[0] for study in studies))
    named = next((name for name in names if root / name == first.path), None)
    if named is None:
        return False
    log.warning("%s; reading all %s training images once, to find others", first, f"{len(names):,}")
    with ThreadPoolExecutor(READERS) as pool:
        tried = pool.map(lambda name: _fault(root / name), names)
        bar = tqdm(
            tried, desc="looking for unreadable images", total=len(names), leave=False, disable=len(names) <= FEW
        )
        found = {name: fault for name, fault in zip(names, bar, strict=True) if fault}
    if found:
        check_share(len(found), len(names), data, next(iter(found.values())))
    found.setdefault(named, str(first))
    if found.keys() <= known.keys():
        return False
    write_json(Path(data.features) / FILE, known | found)
    log.warning(
        "%d images cannot be read, and their studies are left out: %s; delete that file when they are mended",
        len(known | found),
        Path(data.features) / FILE,
    )
    return True


def _fault(path: Path) -> str:
    try:
        read_image(path)
    except BadImage as error:
        return str(error)
    return ""
