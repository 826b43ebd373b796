"""Positive controls: features that read the sample's own report (docs/evaluation.md#controls).

What a path is given when the answer is put into it, at the place of what the experts see in the image. The only place
where this is done; the feature store never holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from revtaf.data.annotations import Study, clean_reports
from revtaf.features.arrays import Features
from revtaf.knowledge.mentions import PRESENT, entity_mentions
from revtaf.labels import STATUSES
from revtaf.lre.labels import nearest_by_status
from revtaf.prompts.local import triplet_codes
from revtaf.settings import Settings


def given(features: Features, train: Features, studies: Sequence[Study] | None, settings: Settings) -> Features:
    """`features` with what `settings.controls` replace; the same object where they replace nothing.

    train: the training split as the experts see it, `features` itself for that split. studies: of `features`; None
    where its reports are not there, as with the training set of an opened model: then the local prompts stay, which
    nothing reads any more.
    """
    controls = settings.controls
    changed = {}
    if controls.local == "report" and studies is not None:
        data = settings.training_data
        changed["codes"] = mentioned_codes(clean_reports(studies, data.max_words, data.language))
    if controls.memory == "report":
        changed["memory"] = nearest_rows(features, train, settings.seed)
    if controls.scores == "report":
        changed["scores"] = status_scores(features.statuses, features.scores.shape[1])
    return replace(features, **changed) if changed else features


def mentioned_codes(reports: Sequence[str]) -> np.ndarray:
    """Reports -> codes of the local prompts (N, 75) uint8: present, and where, as the report says; else "not exist"."""
    mentions = entity_mentions(reports)
    return triplet_codes(mentions.presence == PRESENT, mentions.position)


def nearest_rows(features: Features, train: Features, seed: int) -> np.ndarray:
    """(N, K_m) int32: the training reports nearest by the true statuses, never of the sample's own patient."""
    asked, known = (torch.from_numpy(np.array(f.statuses)) for f in (features, train))
    count = train.memory.shape[1]
    rows = nearest_by_status(asked, known, count, features.patients, train.patients, seed=seed)[1]
    return rows.numpy().astype(np.int32)


def status_scores(statuses: np.ndarray, width: int) -> np.ndarray:
    """Statuses (N, K) -> their one-hot form, padded with zeros to the retriever's input: (N, width) float16."""
    one_hot = np.eye(len(STATUSES), dtype=np.float16)[statuses].reshape(len(statuses), -1)
    return np.pad(one_hot, ((0, 0), (0, width - one_hot.shape[1])))
