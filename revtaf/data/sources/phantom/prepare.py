"""The phantom data set: procedurally drawn chest radiographs with reports, labels and boxes.

It stands in for the hospital data sets, which need agreements: everything about a study is known by
construction, so that training, retrieval and evaluation can be run and checked from end to end. It says
nothing about how a model performs on patients. Same (seed, images, size), same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from revtaf.data.annotations import SPLITS, Annotations, Box, Study, save_annotations
from revtaf.data.sources.phantom.cases import Case, sample_cases, stream
from revtaf.data.sources.phantom.film import render
from revtaf.data.sources.phantom.reports import write_indication, write_report
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, write_json

VERSION = 2  # to be raised with every change of what is drawn or written
CARD, ANNOTATION, IMAGES = "phantom.json", "annotation.json", "images"
SMALLEST_SIZE = 32  # pixels; the lines are lost below
HELD_OUT = 0.1  # share of the patients in val, and again in test
CHUNK = 16  # studies per task of a worker
_DRAWN = re.compile(r"p\d+(x\d+)?_s\d+\.png")  # `Case.id`


def prepare_phantom(out: Path, images: int = 1500, seed: int = 0, size: int = 256, progress: bool = True) -> Path:
    """Write the data set in the folder `out` and return the path of its annotation file.

    The folder holds `annotation.json`, `images/<id>.png` (size x size, 8 bit gray) and `phantom.json`. An
    identical set that is already there is kept. Any other phantom set is replaced, where it lies alone: UserError names
    what else is in the folder, features among it. A folder without a phantom set is an error, unless it is empty.
    """
    out = Path(out)
    if images < 1 or size < SMALLEST_SIZE or seed < 0:
        raise UserError(
            f"phantom: expected images >= 1, size >= {SMALLEST_SIZE} and seed >= 0, "
            f"got images={images}, size={size}, seed={seed}"
        )
    card = {"seed": seed, "images": images, "size": size, "version": VERSION}
    if _is_there(out, card):
        return out / ANNOTATION
    cases = sample_cases(images, seed)
    with atomic_folder(out) as folder:
        (folder / IMAGES).mkdir()
        drawn = _draw_all(cases, folder / IMAGES, seed, size)
        boxes = list(tqdm(drawn, total=len(cases), desc="phantom", unit="image", disable=not progress))
        studies = [
            replace(study, findings_boxes=found) for study, found in zip(write_studies(cases, seed), boxes, strict=True)
        ]
        save_annotations(folder / ANNOTATION, split_by_patient(studies, seed))
        write_json(folder / CARD, card)
        _check_alone(out)  # again: drawing took minutes
    return out / ANNOTATION


def sample_studies(images: int, seed: int) -> list[Study]:
    """The reports and labels of a set without drawing it: no boxes."""
    return write_studies(sample_cases(images, seed), seed)


def write_studies(cases: Iterable[Case], seed: int) -> list[Study]:
    """The report, labels and indication of every case."""
    studies = []
    for case in cases:
        report, labels = write_report(case, stream(seed, 8, case.index))
        indication = write_indication(case, stream(seed, 9, case.index))
        images = (f"{case.id}.png",)
        studies.append(Study(case.id, images, report, labels, case.subject_id, case.id, indication))
    return studies


def split_by_patient(studies: list[Study], seed: int) -> Annotations:
    """80/10/10 per cent of the patients; with three patients or more no split is empty."""
    patients = sorted({study.patient for study in studies})
    order = stream(seed, 10).permutation(len(patients))
    held_out = min(max(1, round(HELD_OUT * len(patients))), (len(patients) - 1) // 2)
    names = dict.fromkeys(patients, SPLITS[0])
    for name, chosen in zip(SPLITS[1:], (order[:held_out], order[held_out : 2 * held_out]), strict=True):
        names.update({patients[i]: name for i in chosen})
    return {split: [study for study in studies if names[study.patient] == split] for split in SPLITS}


def _is_there(out: Path, card: dict) -> bool:
    """Whether `out` holds this very set. Raises UserError where it holds anything but a phantom set."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the phantom data set")
    if not (out / CARD).exists():
        if any(out.iterdir()):
            raise UserError(f"{out} holds something else than a phantom data set (no {CARD}); name another folder")
        return False
    if read_json(out / CARD) == card and (out / ANNOTATION).exists():
        return True
    _check_alone(out)
    return False


def _check_alone(out: Path) -> None:
    """UserError where the folder holds anything beside a phantom set, as the whole folder is about to be replaced."""
    others = [path for path in out.glob("*") if path.name not in (CARD, ANNOTATION, IMAGES)]
    others += [path for path in (out / IMAGES).glob("*") if not _DRAWN.fullmatch(path.name)]
    if others:
        named = ", ".join(sorted(path.relative_to(out).as_posix() + "/" * path.is_dir() for path in others))
        raise UserError(
            f"{out} holds another phantom set, and beside it {named}, which would go with it; move that away (features "
            "are made again), or name another --out"
        )


def _draw_all(cases: list[Case], folder: Path, seed: int, size: int) -> Iterator[tuple[Box, ...]]:
    """Draw every case, on all cores; yields the boxes in the order of the cases."""
    draw = partial(_draw, folder=folder, seed=seed, size=size)
    workers = os.cpu_count() or 1
    if workers == 1 or len(cases) <= CHUNK:
        yield from map(draw, cases)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(draw, cases, chunksize=CHUNK)


def _draw(case: Case, folder: Path, seed: int, size: int) -> tuple[Box, ...]:
    pixels, boxes = render(case, seed, size)
    Image.fromarray(pixels).save(folder / f"{case.id}.png")
    return boxes
