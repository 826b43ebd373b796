"""Figure 3 of the paper: the same images under several systems, phrases that match the reference in its colours.

The samples are spread over the split, every second one with a positive finding, and are not chosen by any score. The
page holds images and report text: it stays beside the runs and never goes where tables are published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from revtaf.ablation import figures
from revtaf.ablation.grid import Grid, Run
from revtaf.ablation.scoring import Scored, Scorer
from revtaf.ablation.tested import result_folder
from revtaf.config import RunSettings
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import read_image, resize_crop
from revtaf.features.build import select
from revtaf.files import atomic_write, read_json
from revtaf.pages.cards import Piece
from revtaf.pages.environment import fill
from revtaf.pages.images import pixel_data
from revtaf.pages.phrases import coloured
from revtaf.settings import EncoderSettings
from revtaf.system.analyses import ALIGNMENT, MODEL_ROW
from revtaf.system.cards import sample_rows

COUNT = 6
MAPS = 8  # findings whose maps are drawn, the most frequent ones


class Example(NamedTuple):
    """One image. image: its `src`. texts: the label of each row -> the pieces of its text, the reference under ""."""

    id: str
    image: str
    texts: dict[str, list[Piece]]


def write_examples(grid: Grid, runs: Sequence[Run], scorer: Scorer, path: Path) -> Path:
    """The page of a grid whose rows are tested on the same samples, with the first seed of each row."""
    scored = {run.row.label: scorer.score(run) for run in _first_runs(runs)}
    scored = {label: found for label, found in scored.items() if found.written}
    some, data = next(iter(scored.values())), runs[0].tested.data
    studies = _studies(runs[0].tested)
    examples = []
    for i in sample_rows(some.statuses, COUNT):
        study = studies[some.samples.ids[i]]
        shown = coloured(study.report, _texts(scored, i))
        examples.append(Example(study.id, pixel_data(_crop(study, runs[0].tested)), shown))
    where = f"{data.name}, {data.test_split}; seed {runs[0].seed}"
    page = fill("examples.html", title=grid.title, where=where, columns=len(scored) + 1, examples=examples)
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def write_maps(grid: Grid, runs: Sequence[Run], path: Path) -> Path:
    """The entity maps of every row's first seed on the first image of each finding, with the boxes."""
    found, settings = {}, runs[0].tested
    for run in _first_runs(runs):
        file = result_folder(run, plain=True) / ALIGNMENT
        if file.is_file() and not (run.row.take or run.row.test):
            content = read_json(file)
            often = np.argsort(-np.sum(content["local"][MODEL_ROW]["counts"], axis=0), kind="stable")
            names = [name for name in np.array(content["findings"])[often] if name in content["examples"]]
            found[run.row.label] = {name: content["examples"][name] for name in names[:MAPS]}
    studies = _studies(settings)
    title = (
        f"{settings.data.name}, {settings.data.test_split}, seed {runs[0].seed}; each map scaled by its own extremes"
    )
    figures.maps(found, lambda sample: _crop(studies[sample], settings), path, title)
    return path


def _first_runs(runs: Sequence[Run]) -> list[Run]:
    """Every row's first seed, in the order of the rows."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.row.name, run)
    return list(first.values())


def _studies(settings: RunSettings) -> dict[str, Study]:
    """The tested studies by id."""
    data = settings.data
    return {s.id: s for s in select(load_annotations(data.annotation), data.test_split, data)}


def _crop(study: Study, settings: RunSettings) -> np.ndarray:
    """The grey image that the model saw; of a system that has its sizes elsewhere, as REVTAF's paper crops it."""
    image = read_image(settings.data.images / study.image_path[0])
    seen = getattr(settings, "encoder", EncoderSettings())
    return np.asarray(resize_crop(image, seen.resize, seen.image_size))


def _texts(scored: Mapping[str, Scored], row: int) -> dict[str, str]:
    return {label: found.samples.predictions[row] for label, found in scored.items()}
