"""`revtaf study`: questions that need many small trainings and no report."""

from __future__ import annotations

from pathlib import Path

from revtaf.check import require
from revtaf.errors import UserError
from revtaf.settings import Settings


def lre(settings: Settings, out: Path, split: str | None, seeds: int, steps: int | None) -> Path:
    """See `revtaf.system.lre_study.study`; the folder with the tables."""
    if not isinstance(settings, Settings):
        raise UserError(f"system '{settings.system}' has no LRE")
    if settings.knowledge.labeler == "none" or not settings.reads_entities:
        raise UserError(
            f"knowledge.labeler={settings.knowledge.labeler}: LRE learns from entity scores and statuses, which are off"
        )
    require(settings, training=True)
    from revtaf.system.lre_study import study

    return study(settings, out, split, seeds, steps)
