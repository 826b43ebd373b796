"""Many steps and many reports in one process: whether memory, open files, threads and child processes stay flat.

    python scripts/reliability/long_run.py --out FOLDER [--steps 2000] [--reports 2000] [--meteor 2000]

Toy REVTAF on a tiny phantom set, one CPU thread, batches of two. Sampled with psutil as it goes; printed are the level
after the warm-up, the level at the end and the slope; FOLDER/long.json has all. Exit code 1 where one is not flat.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))

from linux import require_linux  # noqa: E402
from toys import command, make_phantom  # noqa: E402

WARM_UP = 0.25  # of the samples: caches fill, the allocator finds its size
ALLOWED = {"memory": 0.05, "handles": 0.0, "threads": 0.0, "children": 0.0}  # growth behind it, as a share
TITLES = {"memory": "memory, MB", "handles": "open files", "threads": "threads", "children": "child processes"}


@dataclass
class Series:
    """What was counted at each sample of one phase."""

    phase: str
    at: list[int]
    values: dict[str, list[float]]

    def sample(self, count: int) -> None:
        """Look at this process and its children, after `count` steps or reports."""
        me = psutil.Process()
        children = me.children(recursive=True)
        self.at.append(count)
        for name, value in (
            ("memory", sum(p.memory_info().rss for p in (me, *children)) / 1e6),
            ("handles", me.num_fds()),
            ("threads", me.num_threads()),
            ("children", len(children)),
        ):
            self.values[name].append(float(value))


def new_series(phase: str) -> Series:
    """An empty one."""
    return Series(phase, [], {name: [] for name in TITLES})


@dataclass
class Trend:
    """The medians of the first and the last third behind the warm-up, and the slope for each thousand."""

    first: float
    last: float
    slope: float

    def flat(self, allowed: float) -> bool:
        """Whether it grew by no more than this share of itself."""
        return self.last <= self.first * (1 + allowed)


def trend(at: Sequence[int], values: Sequence[float]) -> Trend:
    """Of the samples behind the warm-up; least squares."""
    skip = int(len(at) * WARM_UP)
    x, y = np.array(at[skip:], float), np.array(values[skip:], float)
    third = max(1, len(y) // 3)
    slope = np.polyfit(x, y, 1)[0] * 1000 if len(y) > 1 else 0.0
    return Trend(float(np.median(y[:third])), float(np.median(y[-third:])), float(slope))


def train(arguments: list[str], steps: int) -> tuple[Series, Path]:
    """Train for about so many steps; the series, and the run's folder."""
    from revtaf.commands.train import train
    from revtaf.config_file import load_settings
    from revtaf.engine import train as engine

    series, real = new_series("training steps"), engine.append_jsonl
    every = max(1, steps // 100)

    def counted(path: Path, record: dict) -> None:
        real(path, record)
        if "losses" in record and record["step"] % every == 0:
            series.sample(record["step"])

    engine.append_jsonl = counted
    epochs = -(-steps // 24)  # of 48 training studies, two at a time
    options = ["train.batch_size=2", f"train.epochs={epochs}", f"train.validate_every={max(1, epochs // 8)}"]
    settings = load_settings(arguments[1], [*arguments[2:], *options])
    train(settings)
    return series, Path(settings.run)


def generate(run: Path, images: Sequence[Path], reports: int) -> Series:
    """Write so many reports with the trained model, eight at a time, of the same images again and again."""
    import revtaf

    model, series = revtaf.load(run, device="cpu"), new_series("generated reports")
    for start in range(0, reports, 8):
        model.report([images[(start + i) % len(images)] for i in range(min(8, reports - start))])
        if start // 8 % max(1, reports // 800) == 0:
            series.sample(start)
    return series


def score(questions: int) -> Series | None:
    """Ask one METEOR process so many questions; None without a Java."""
    from revtaf.eval.meteor import Meteor, unavailable_reason

    if unavailable_reason():
        return None
    series = new_series("METEOR questions")
    with Meteor() as client:
        for start in range(0, questions, 20):
            asked = [f"the heart is normal in size and shape {start + i}" for i in range(20)]
            client.score([["the heart is normal"]] * 20, asked)
            series.sample(start)
    left = len(psutil.Process().children(recursive=True))
    if left:
        raise SystemExit(f"{left} processes are left behind METEOR's end")
    return series


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a scratch folder; its content is replaced")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--reports", type=int, default=2000)
    parser.add_argument("--meteor", type=int, default=2000, help="questions; 0 for none")
    options = parser.parse_args()
    require_linux()
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    tqdm.monitor_interval = 0
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    out, started = options.out.resolve(), time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    phantom = make_phantom(out / "phantom")
    series, run = train(command("revtaf", out, phantom, out / "run"), options.steps)
    found = [series, generate(run, sorted((phantom / "images").rglob("*.png")), options.reports)]
    if options.meteor and (asked := score(options.meteor)):
        found.append(asked)
    print("| phase | counted | after the warm-up | at the end | for each thousand |\n|---|---|---|---|---|")
    steady = True
    for each in found:
        for name, values in each.values.items():
            line = trend(each.at, values)
            flat = line.flat(ALLOWED[name])
            steady &= flat
            told = f"{line.first:.0f} | {line.last:.0f}{'' if flat else ' **not flat**'} | {line.slope:+.2f}"
            print(f"| {each.at[-1]} {each.phase} | {TITLES[name]} | {told} |")
    print(f"\n{time.monotonic() - started:.0f} seconds, {'flat' if steady else 'NOT flat'}")
    content = [{"phase": each.phase, "at": each.at, **each.values} for each in found]
    (out / "long.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return 0 if steady else 1


if __name__ == "__main__":
    sys.exit(main())
