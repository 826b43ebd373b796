"""The features of a configuration, made before training: for all splits, by one process or in parts by several."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from revtaf.config import DataSettings
from revtaf.data.annotations import load_annotations, parts_of
from revtaf.data.blocks import Shard, Waiting
from revtaf.data.unreadable import readable
from revtaf.features.build import prepare_knowledge, select, split_features
from revtaf.features.packed import packed_images
from revtaf.settings import Settings

log = logging.getLogger("revtaf")


def prepare_features(settings: Settings, device: torch.device, shard: Shard) -> None:
    """One part of the work, or all of it; the process that does all puts the parts together."""
    data, tested = settings.training_data, settings.data
    waiting: list[str] = []
    try:
        if data.packed:
            studies = readable(select(load_annotations(data.annotation), "train", data), data)
            packed_images(studies, data, settings.encoder.resize, shard)
    except Waiting as reason:
        waiting.append(str(reason))
    try:
        knowledge = prepare_knowledge(settings, device, shard)
    except Waiting as reason:
        waiting.append(str(reason))
    if waiting or shard.count > 1:
        log.info("part %d of %d: %s", shard.index + 1, shard.count, "; ".join(waiting) or "nothing left to do")
        return  # one process makes the rest, when all parts are done
    splits = {(data.annotation, data.validation_split): data}
    if _has_split(tested):
        splits[tested.annotation, tested.test_split] = tested
    for (_, split), part in splits.items():
        features, studies = split_features(knowledge, settings, part, split, device)
        log.info("%s, %s: %d samples", part.name, split, len(features))
        if part.packed:
            packed_images(studies, part, settings.encoder.resize)
    log.info("features %s are complete: %d training samples", knowledge.key, len(knowledge.train))


def _has_split(data: DataSettings) -> bool:
    """Whether the test split is there already; IU X-Ray's may be withheld until the end."""
    if not Path(data.annotation).is_file():
        return False
    annotations = load_annotations(data.annotation)
    return all(annotations.get(part) for part in parts_of(data.test_split, annotations))
