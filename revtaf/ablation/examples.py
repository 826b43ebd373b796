"""Figure 3 of the paper: the same images under several systems, phrases that match the reference in its colours.

The samples are spread over the split, every second one with a positive finding, and are not chosen by any score. The
page holds images and report text: it stays beside the runs and never goes where tables are published.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from revtaf.ablation import figures
from revtaf.ablation.grid import Grid, Run
from revtaf.ablation.runs import result_folder
from revtaf.ablation.scoring import Scored, Scorer
from revtaf.config import RunSettings
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import read_image, resize_crop
from revtaf.data.text import readable, readable_sentences
from revtaf.features.build import select
from revtaf.files import atomic_write, read_json
from revtaf.pages.cards import Piece, closest_sentence, content_words, joined
from revtaf.pages.environment import fill
from revtaf.pages.images import pixel_data
from revtaf.system.analyses import ALIGNMENT, MODEL_ROW
from revtaf.system.cards import sample_rows

COUNT = 6
MAPS = 8  # findings whose maps are drawn, the most frequent ones
PALETTE = ("#cfe3f5", "#d9efdd", "#fbe3c0", "#ecd9f2", "#f7d3d6", "#d7eef0", "#e9e6b8", "#dedede", "#f3d9c4")
_DENIAL = re.compile(r"\b(?:no|not|without|free|negative|absent|resolved)\b")


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


def coloured(reference: str, texts: Mapping[str, str]) -> dict[str, list[Piece]]:
    """The reference (under "") and each text in pieces, marked by colours: each reference sentence has a colour, and so
    have the words that a sentence of a text shares with its closest reference sentence. Nothing is marked where one of
    the two denies and the other does not. An empty text has no pieces."""
    sentences = readable_sentences(reference)
    known = [content_words(s) for s in sentences]
    used: set[int] = set()
    result = {}
    for name, text in texts.items():
        parts = []
        for sentence in readable_sentences(text):
            best = closest_sentence(sentence, known)
            if best is None or _denies(sentence) != _denies(sentences[best]):
                parts.append([Piece(sentence)])
                continue
            used.add(best)
            parts.append(_marked(sentence, content_words(sentence) & known[best], best))
        result[name] = joined(parts)
    marked = [_marked(s, known[i], i) if i in used else [Piece(s)] for i, s in enumerate(sentences)]
    return {"": joined(marked)} | result


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
    """The grey image that the model saw."""
    image = read_image(settings.data.images / study.image_path[0])
    return np.asarray(resize_crop(image, settings.encoder.resize, settings.encoder.image_size))


def _texts(scored: Mapping[str, Scored], row: int) -> dict[str, str]:
    return {label: found.samples.predictions[row] for label, found in scored.items()}


def _denies(sentence: str) -> bool:
    return _DENIAL.search(readable(sentence).lower()) is not None


def _marked(sentence: str, words: frozenset[str], number: int) -> list[Piece]:
    """The sentence with `words` in the colour of reference sentence `number`; neighbours share one mark."""
    pieces = re.split(r"([\w-]+)", sentence)  # words at odd places, what stands between them at even ones
    wanted = [i % 2 == 1 and piece.lower() in words for i, piece in enumerate(pieces)]
    for i in range(2, len(pieces) - 1, 2):  # a blank between two shared words belongs to them
        wanted[i] = wanted[i - 1] and wanted[i + 1] and pieces[i].isspace()
    colour = PALETTE[number % len(PALETTE)]
    groups = itertools.groupby(zip(wanted, pieces, strict=True), key=lambda pair: pair[0])
    return [Piece("".join(piece for _, piece in group), colour if shared else "") for shared, group in groups]
