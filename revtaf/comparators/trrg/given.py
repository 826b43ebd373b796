"""Clues that something else than stage 1 chooses: the entity scorer or MedKLIP, the sample's own report, another's.

Every source is a table of scores (N, m), of which the k largest are injected; -inf is never.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from revtaf.comparators.trrg.clues import NEVER, Clue
from revtaf.config import DataSettings
from revtaf.data.annotations import Study
from revtaf.errors import UserError
from revtaf.features import stages
from revtaf.features.arrays import fingerprint
from revtaf.features.store import FeatureStore
from revtaf.knowledge.entity_scorer import EntityScorer
from revtaf.labels import POSITIVE
from revtaf.lre.labels import Grouping, random_others
from revtaf.rng import generator

if TYPE_CHECKING:
    from revtaf.comparators.trrg.system import TRRG


def stated(bank: Sequence[Clue], statuses: np.ndarray) -> np.ndarray:
    """(N, m) of statuses (N, K): the clues that a report states, the rarer the higher, -inf for the others. A report
    that states none gets none."""
    columns = [clue.category for clue in bank]
    there = statuses[:, columns] == POSITIVE
    rarity = 1 - there.mean(0)
    return np.where(there, 1 + rarity, NEVER).astype(np.float32)


def by_entities(bank: Sequence[Clue], scores: np.ndarray) -> np.ndarray:
    """(N, m) of entity scores (N, 75): of each clue, the largest of its entities'. UserError where a clue has none."""
    for clue in bank:
        if not clue.entities:
            raise UserError(f"clue.source=scorer: the clue of '{clue.name}' names no entities; add them to clue.bank")
    scores = np.asarray(scores, np.float32)
    return np.stack([scores[:, list(clue.entities)].max(1) for clue in bank], 1)


class GivenClues:
    """Scores of the samples of one split, by their row; (N, 0) where the image alone decides."""

    def __init__(
        self,
        source: str,
        table: np.ndarray,
        ids: Sequence[str],
        seed: int,
        patients: Sequence[str] = (),
        *,
        owners: Sequence[str] | None = None,
    ):
        """table: those of the split; of source "random", those of the training split, of which each sample gets one.

        patients (N,): whose the samples are; owners: whose the rows of the table are, of which no sample is given its
        own patient's; None where it is not known. UserError where there is no other.
        """
        self.source, self.table, self.ids, self.seed, self.patients = source, table, ids, seed, patients
        self.grouping = None if owners is None else Grouping(owners, len(table))
        if self.grouping is not None and set(patients) & set(owners) and len(set(owners)) == 1:
            raise UserError("clue.source=random: the training set has one patient; there is no other's report")

    def row(self, row: int, epoch: int = 0) -> np.ndarray:
        """(m,), or (0,)."""
        if self.source != "random":
            return self.table[row]
        draw = generator(self.seed, "clues", self.ids[row], epoch)
        if self.grouping is None:
            return self.table[draw.integers(len(self.table))]
        return self.table[random_others([self.patients[row]], self.grouping, draw, 1)[0]]


def given_clues(
    system: TRRG, source: str, studies: Sequence[Study], data: DataSettings, train: bool = False
) -> GivenClues:
    """Of a split; made where they are missing. train: it is the training split, whose scores are out of fold."""
    ids, seed, patients, owners = [study.id for study in studies], system.settings.seed, [], None
    if source in ("stage1", "none"):
        table = np.zeros((len(studies), 0), np.float32)
    elif source == "oracle":
        table = stated(system.bank, system.statuses(studies, data))
    elif source == "random":
        table, patients, owners = system.training_clues, [s.patient for s in studies], system.training_patients
    else:
        table = by_entities(system.bank, entity_scores(system, studies, data, train))
    return GivenClues(source, table, ids, seed, patients, owners=owners)


def entity_scores(system: TRRG, studies: Sequence[Study], data: DataSettings, train: bool) -> np.ndarray:
    """(N, 75), as REVTAF has them, by MedKLIP where it is asked for and there; of a model with a scorer by that one."""
    store, components, device = FeatureStore(Path(data.features)), system.components, system.device
    with system.accelerator.main_process_first():
        if components.medklip and system.scorer is None:
            identity = components.identity["entities"]
            found = stages.model_scores(store, studies, data, lambda: components.image_model, identity, device)
        elif train:
            found = stages.fitted_scores(store, studies, data, components, system.settings.seed)
            system.scorer = EntityScorer.load(store.used["entities"])
            system.scorer_mark = fingerprint(store.used["entities"])
        else:
            if system.scorer is None:
                raise UserError(
                    "clues of the entity scorer are asked for in the test alone, and this model has none: train with "
                    "clue.source=scorer, or take another generation.clues"
                )
            identity = ["fitted", system.scorer_mark]
            found = stages.model_scores(store, studies, data, lambda: system.scorer, identity, device)
    return found["scores"]
