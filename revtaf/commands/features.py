"""`revtaf prepare features`: make everything that `train` and `test` would make before they start."""

from __future__ import annotations

from revtaf import systems
from revtaf.check import require
from revtaf.config import RunSettings
from revtaf.data.blocks import WHOLE, Shard
from revtaf.engine.bad_samples import leaving_out
from revtaf.engine.runtime import make_accelerator
from revtaf.errors import UserError


def prepare_features(settings: RunSettings, shard: Shard = WHOLE) -> None:
    """For all splits that a run uses. `shard`: compute this part only; the command without it puts all parts together.
    Under `torchrun` every process takes its part."""
    declaration = systems.find(settings.system)
    require(settings, training=True)
    accelerator = make_accelerator(settings)
    processes = accelerator.num_processes
    if processes > 1 and shard.count > 1:
        raise UserError("--shard and torchrun both divide the work; use one of them")
    if processes > 1:
        part = Shard(accelerator.process_index, processes)
        leaving_out(settings, accelerator, lambda: declaration.prepare_features(settings, accelerator.device, part))
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        leaving_out(settings, accelerator, lambda: declaration.prepare_features(settings, accelerator.device, shard))
    accelerator.wait_for_everyone()
