"""REVTAF as the engine finds it: the object that the entry point `revtaf` of the group `revtaf.systems` names.

Model code is imported where it is used, so that settings are read without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from revtaf.settings import Settings

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from revtaf.check_line import CheckLine
    from revtaf.data.blocks import Shard
    from revtaf.pretrained.needed import Needed
    from revtaf.system.session import Session

log = logging.getLogger("revtaf")


class REVTAFSystem:
    """See `revtaf.engine.system.Declaration`."""

    settings = Settings
    title = "REVTAF"
    beside = None

    def needed(self, settings: Settings, training: bool | None = None) -> list[Needed]:
        """The paper's components and weights: files that may be absent, and what would stand in for each."""
        from revtaf.system.requirements import needed

        return needed(settings, training)

    def requirements(self, settings: Settings) -> Iterable[CheckLine]:
        """What else must be there."""
        from revtaf.system.requirements import requirements

        return requirements(settings)

    def prepare_features(self, settings: Settings, device: torch.device, shard: Shard) -> None:
        """Everything that training and testing would make before they start."""
        from revtaf.system.features import prepare_features

        prepare_features(settings, device, shard)

    def start(self, settings: Settings, accelerator: Accelerator) -> Session:
        """Fit or find the knowledge, build the model as configured, and make the features that training needs."""
        import torch

        from revtaf.engine.runtime import seed_everything
        from revtaf.features.build import prepare_knowledge
        from revtaf.labels import POSITIVE
        from revtaf.system.initialise import initialise_decoder, initialise_encoder, make_tokenizer
        from revtaf.system.session import make_session

        with accelerator.main_process_first():
            knowledge = prepare_knowledge(settings, accelerator.device)
        # Fitting the knowledge draws random numbers, finding it again does not: the model starts the same.
        seed_everything(settings.seed, accelerator.process_index)
        session = make_session(settings, accelerator, knowledge, make_tokenizer(settings, knowledge.studies))
        model, notes = session.model, session.notes
        notes["image encoder"] = initialise_encoder(model.encoder, settings, knowledge.scorer)
        notes["report decoder"] = initialise_decoder(model.decoder, settings)
        if model.classifier is not None:
            model.classifier.set_prior(torch.from_numpy((knowledge.train.statuses == POSITIVE).mean(0)))
        for what, source in notes.items():
            log.info("%s: %s", what, source)
        if settings.train.schedule == "staged":
            session.prepare_trunk()
        _ = session.validation_set  # its features are made before the first epoch, not after it
        _ = session.recombiner  # and so is what a labeler may take minutes for
        seed_everything(settings.seed, accelerator.process_index)  # of dropout, whatever was made above
        return session

    def open(self, folder: Path, settings: Settings, accelerator: Accelerator) -> Session:
        """The session of a model's folder, its weights not yet loaded. UserError where a part is damaged."""
        from revtaf.engine.checkpoint import META
        from revtaf.files import read_json
        from revtaf.system.folder import THRESHOLDS, TOKENIZER, read_knowledge, read_points
        from revtaf.system.session import make_session
        from revtaf.system.thresholds import read_thresholds
        from revtaf.tokenizer import ReportTokenizer

        knowledge = read_knowledge(folder, settings, accelerator.device)
        session = make_session(settings, accelerator, knowledge, ReportTokenizer.load(folder / TOKENIZER))
        now = session.notes["report labeler"]  # whoever labels here, whoever did in training
        session.notes = read_json(folder / META, "model")["sources"] | {"report labeler": now}
        session.kept_thresholds = read_thresholds(folder / THRESHOLDS)
        if session.plain_model.retrieves:
            session.points = read_points(folder, accelerator.device)
        return session


SYSTEM = REVTAFSystem()
