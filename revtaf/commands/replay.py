"""`revtaf replay`: a step whose loss or gradient was not finite, once more."""

from __future__ import annotations

from pathlib import Path

from revtaf import systems
from revtaf.config_file import changed_settings, read_config
from revtaf.engine.checkpoint import SETTINGS
from revtaf.engine.nonfinite import BATCH, replay
from revtaf.engine.runtime import make_accelerator, seed_everything
from revtaf.errors import UserError


def replay_step(folder: Path, given: list[str]) -> bool:
    """Repeat the step in a folder `nonfinite-STEP` of a run and print what comes out; whether it is not finite again.

    given: `key=value` settings that differ from the run's, such as device=cpu or train.precision=no.
    """
    if not (folder / BATCH).is_file():
        raise UserError(f"{folder} is no step: it has no {BATCH}; name a folder nonfinite-STEP of a run")
    settings = changed_settings(read_config(folder / SETTINGS, bases=False), given, str(folder / SETTINGS))
    accelerator = make_accelerator(settings)
    seed_everything(settings.seed)
    system = systems.find(settings.system).start(settings, accelerator)
    record, where = replay(folder, system)
    told = ", ".join(f"{name} {value}" for name, value in record["losses"].items())
    print(f"step {record['step']}, then: the {record['what']} was not finite ({told})")
    print(f"  first in {record.get('where') or '(not found)'}")
    print(f"  samples {', '.join(record['ids'])}")
    print(f"now: {f'not finite again, first in {where}' if where else 'all is finite'}")
    if record["process"]:
        print(f"  it was process {record['process']} of several: what is drawn for each process differs here")
    return bool(where)
