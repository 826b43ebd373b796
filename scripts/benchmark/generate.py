"""One image in, a report out: what it costs to open a model, to write for one image, and for many; peak memory.

Processor seconds stand beside the others: they hold where the machine is shared.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def timed(what: str, work: Callable[[], Any], count: int = 1) -> Any:
    """Do it; print seconds and processor seconds for each of `count`, and the peak memory so far."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kB on Linux
    print(f"{what}: {wall / count:.2f} s, {processor / count:.2f} processor-s, peak {peak:.2f} GB", flush=True)
    return result


def main() -> None:
    """Measure one model on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("images", nargs="+", type=Path)
    given = parser.parse_args()
    import revtaf

    model = timed("open", lambda: revtaf.load(given.checkpoint, device="cpu"))
    timed("first image", lambda: model.report(given.images[0]))
    timed("one image", lambda: model.report(given.images[0]))
    timed(f"{len(given.images)} images together, each", lambda: model.report(given.images), len(given.images))


if __name__ == "__main__":
    main()
