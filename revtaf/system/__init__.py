"""REVTAF as a system: what the entry point `revtaf` of the group `revtaf.systems` names. Loads no model code itself."""

from __future__ import annotations

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


class REVTAFSystem:
    """See `revtaf.engine.system.Declaration`."""

    settings = Settings
    title = "REVTAF"

    def needed(self, settings: Settings, training: bool | None = None) -> Iterable[Needed]:
        """The files of the paper's components and the weights that the model starts from."""
        from revtaf.system.requirements import needed

        return needed(settings, training)

    def requirements(self, settings: Settings) -> Iterable[CheckLine]:
        """What else must be there: imported features, the package of CLIP."""
        from revtaf.system.requirements import requirements

        return requirements(settings)

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
