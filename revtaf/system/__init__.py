"""REVTAF as a system: what the entry point `revtaf` of the group `revtaf.systems` names. Loads no model code itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from revtaf.settings import Settings

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from revtaf.check import Finding
    from revtaf.data.blocks import Shard
    from revtaf.system.session import Session


class REVTAFSystem:
    """See `revtaf.engine.system.Declaration`."""

    settings = Settings
    title = "REVTAF"

    def requirements(self, settings: Settings) -> Iterable[Finding]:
        """The paper's components and weights, and what stands in for those whose files are not there."""
        from revtaf.check import _knowledge, _weights

        return [*_knowledge(settings), *_weights(settings)]

    def prepare_features(self, settings: Settings, device: torch.device, shard: Shard) -> None:
        """Everything that training and testing would make before they start."""
        from revtaf.system.features import prepare_features

        prepare_features(settings, device, shard)

    def start(self, settings: Settings, accelerator: Accelerator) -> Session:
        """A session to train; its features are made where they are missing."""
        from revtaf.system.session import start_session

        session = start_session(settings, accelerator)
        _ = session.validation_set  # its features are made before the first epoch, not after it
        return session

    def open(self, folder: Path, settings: Settings, accelerator: Accelerator) -> Session:
        """The session of a finished model's folder."""
        from revtaf.system.session import open_session

        return open_session(folder, settings, accelerator)


SYSTEM = REVTAFSystem()
