"""Features made from other people's artefacts (`revtaf prepare import`), read in place of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from revtaf.data.annotations import Study
from revtaf.errors import UserError
from revtaf.features.arrays import Features, TextTables, load_arrays


def load_training(folder: Path, studies: Sequence[Study]) -> tuple[Features, TextTables]:
    """Features of the training split and the tables of its texts. UserError where the studies are others."""
    train = load_arrays(_part(folder, "train"), Features)
    if train.ids != [s.id for s in studies]:
        raise UserError(
            f"knowledge.imported: {folder}/train has {len(train):,} samples, the annotation {len(studies):,} or in "
            "another order; use the annotation that `prepare import` wrote, without data.max_samples"
        )
    return train, load_arrays(_part(folder, "texts"), TextTables)


def load_split(folder: Path, splits: Sequence[str], studies: Sequence[Study]) -> Features:
    """Features of the studies of one or several splits, in the studies' order."""
    parts = [load_arrays(_part(folder, name), Features) for name in splits]
    row = {sample: i for i, sample in enumerate(sample for part in parts for sample in part.ids)}
    if missing := [s.id for s in studies if s.id not in row]:
        raise UserError(
            f"knowledge.imported: {folder} lacks {len(missing)} samples of split {'+'.join(splits)}: {missing[:5]}; "
            "imported features serve only the set that they were imported with"
        )
    rows = np.array([row[s.id] for s in studies])
    arrays = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])[rows]
        for f in fields(Features)
        if isinstance(getattr(parts[0], f.name), np.ndarray)
    }
    return replace(parts[0], ids=[s.id for s in studies], patients=[s.patient for s in studies], **arrays)


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise UserError(
            f"knowledge.imported: {folder / name} is not there; run `revtaf prepare import` with that split's "
            "artefacts, or set knowledge.imported=null"
        )
    return folder / name
