"""Hostile files: thousands of damaged, malicious and absurd ones, each opened by the product in a process of its own.

    python scripts/reliability/hostile.py --out FOLDER [--files 5000] [--seed 0] [--model RUN/checkpoints/best]

Each ends as accepted or as one message (`UserError`). Anything else is a fault: another exception, a hang (20 s of
computing), a crash, code of the file that ran, something written outside. The table goes to FOLDER/hostile.json and is
printed; every fault is kept below FOLDER/faults, with how it came about. Exit code 1 where there is one. Without
--model, a small one is trained first (a minute or two); --model none leaves models out. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from hostile_kinds import KINDS, ROOT, Kind, chosen_file, model_kind, sign
from linux import require_linux
from mutations import Trap, mutate
from tqdm import tqdm

COMPUTING = 20  # seconds of a processor, for one file
ASLEEP = 4  # looks in a row, a second apart, at a child that waits and computes nothing
MEMORY = 3 << 30  # bytes more than this process has
OUTCOMES = ("accepted", "refused", "traceback", "hang", "crash", "escape")


def attempts(kind: Kind, valid: Path, place: Path, names: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """(name, outcome, message, what was done) of a hostile copy of `valid` for each name, which is its seed.

    They are opened one after the other in a child; where one ends it, another child goes on behind it.
    """
    rest = list(names)
    while rest:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _serve(kind, valid, place, rest, writer)
        os.close(writer)
        done, ended = "", ""
        with os.fdopen(reader, "rb") as pipe:
            for line in _lines(pipe, child):
                said = json.loads(line)
                if len(said) == 1:
                    (done,) = said
                    continue
                yield (rest.pop(0), *said, done)
                done = ""
            _, status = os.waitpid(child, 0)
        if rest and os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            ended = "hang", f"more than {COMPUTING} s of computing, or waiting without end"
        elif rest:
            ended = "crash", f"status {status}"
        if ended:
            yield (rest.pop(0), *ended, done)


def _serve(kind: Kind, valid: Path, place: Path, names: list[str], writer: int) -> None:
    """In the child: two lines for each name, what was done and how it ended."""
    try:
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        for name in names:
            draw = random.Random(name)
            shutil.rmtree(place, ignore_errors=True)
            trap = Trap(place / "outside", place / "canary")
            folder = place / "a" / name.replace("/", "-").replace(" ", "-")  # each its own: some readers remember files
            trap.set()
            # Large files are links to the originals until they are changed.
            shutil.copytree(valid, folder, copy_function=_linked)
            path = chosen_file(folder, kind, draw)
            done = f"{path.relative_to(folder)}: {mutate(path, draw, trap)}"
            if kind.signed and draw.random() < 0.7:
                sign(folder, kind.signed)
                done += ", hashes mended"
            os.write(writer, (json.dumps([done]) + "\n").encode())
            _limit()
            outcome = _outcome(kind, folder)
            os.chdir("/")
            if sprung := trap.sprung():
                outcome = "escape", sprung
            os.write(writer, (json.dumps(outcome) + "\n").encode("utf-8", "replace"))
    finally:
        os._exit(0)


def _lines(pipe: IO[bytes], child: int) -> Iterator[bytes]:
    """What the child says, line by line; it is ended where it waits, and says nothing, for too long."""
    rest, asleep = b"", 0
    while True:
        if select.select([pipe], [], [], 1)[0]:
            asleep = 0
            if not (piece := os.read(pipe.fileno(), 1 << 16)):
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        else:
            asleep = asleep + 1 if _sleeps(child) else 0
            if asleep > ASLEEP:
                os.kill(child, signal.SIGKILL)


def _limit() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + COMPUTING
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    with open("/proc/self/statm", encoding="utf-8") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))


def _outcome(kind: Kind, folder: Path) -> tuple[str, str]:
    from revtaf.errors import UserError

    os.chdir(folder)
    try:
        kind.open(folder)
    except UserError as error:
        text = str(error)
        sound = text.strip() and "Traceback" not in text and len(text) < 4000
        return ("refused", text[:500]) if sound else ("traceback", f"no message for people: {text[:2000]!r}")
    except BaseException:
        return "traceback", traceback.format_exc()[-6000:]
    return "accepted", ""


def _sleeps(child: int) -> bool:
    """Whether it waits for somebody: of this alone, nobody comes."""
    try:
        return Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "S"
    except OSError:
        return False


def _linked(source: str, target: str) -> None:
    small = os.path.getsize(source) < 1 << 16
    shutil.copy(source, target) if small else os.link(source, target)


def run(kinds: list[Kind], out: Path, files: int, seed: int) -> dict[str, dict[str, int]]:
    """Counts of outcomes by kind; faults are kept in `out`/faults."""
    counts: dict[str, dict[str, int]] = {}
    here = Path.cwd()
    total = sum(kind.weight for kind in kinds)
    shutil.rmtree(out / "faults", ignore_errors=True)
    for kind in kinds:
        counts[kind.name] = found = dict.fromkeys(OUTCOMES, 0)
        valid = out / "valid" / kind.name.replace(" ", "-").replace(",", "")
        shutil.rmtree(valid, ignore_errors=True)
        valid.mkdir(parents=True)
        kind.make(valid)
        shutil.rmtree(out / "case", ignore_errors=True)
        shutil.copytree(valid, out / "case" / "whole")
        sound, message = _outcome(kind, out / "case" / "whole")
        if sound != "accepted":
            raise SystemExit(f"{kind.name}: the valid files are not accepted: {message}")
        names = [f"{seed}/{kind.name}/{number}" for number in range(round(files * kind.weight / total))]
        for name, outcome, message, done in tqdm(attempts(kind, valid, out / "case", names), kind.name, leave=False):
            found[outcome] += 1
            if outcome not in ("accepted", "refused"):
                kept = out / "faults" / f"{name.replace('/', '-').replace(' ', '-')}.txt"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(f"{name}\n{done}\n{outcome}\n{message}\n", errors="replace", encoding="utf-8")
        record = {"seed": seed, "files": files, "counts": counts}  # so far: a run that is stopped has told what it saw
        (out / "hostile.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.chdir(here)
    shutil.rmtree(out / "valid")
    shutil.rmtree(out / "case", ignore_errors=True)
    return counts


def table(counts: dict[str, dict[str, int]]) -> str:
    """Markdown: a kind a row."""
    lines = ["| kind | files | accepted | refused | tracebacks | hangs | crashes | escapes |", "|---" * 8 + "|"]
    sums = {outcome: sum(found[outcome] for found in counts.values()) for outcome in OUTCOMES}
    for name, found in [*counts.items(), ("all", sums)]:
        lines.append("| " + " | ".join(map(str, (name, sum(found.values()), *found.values()))) + " |")
    return "\n".join(lines)


def warm() -> None:
    """Import what the children need once."""
    import revtaf.ablation.grid
    import revtaf.commands.test
    import revtaf.comparators.trrg.clues
    import revtaf.data.sources.table.prepare
    import revtaf.search.index
    import revtaf.system.declaration  # noqa: F401

    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def trained(out: Path) -> Path:
    """The folder of a small model, trained on a small phantom set."""
    import yaml
    from tiny import TINY

    from revtaf.commands.train import train
    from revtaf.config_file import load_settings
    from revtaf.data.sources.phantom.prepare import prepare_phantom

    prepare_phantom(out / "phantom", images=60, seed=3, size=72, progress=False)
    (out / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    places = [f"data.{key}={out / 'phantom' / name}" for key, name in PLACES.items()]
    train(load_settings(out / "tiny.yaml", [*places, f"run={out / 'run'}", "train.epochs=1"]))
    return out / "run" / "checkpoints" / "best"


PLACES = {"annotation": "annotation.json", "images": "images", "features": "features"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the table, and for scratch files")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="", help="a trained model's folder; none: leave models out")
    parser.add_argument("--kinds", nargs="*", default=[], help="only these")
    options = parser.parse_args()
    require_linux()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    warm()
    kinds = list(KINDS)
    if options.model != "none":
        model = Path(options.model).resolve() if options.model else trained(out)
        kinds.append(model_kind("model", model, 1.5))
    kinds = [kind for kind in kinds if not options.kinds or kind.name in options.kinds]
    began = time.monotonic()
    counts = run(kinds, out, options.files, options.seed)
    seconds = round(time.monotonic() - began)
    print(table(counts))
    print(f"seed {options.seed}, {seconds} s, {sys.platform}, Python {sys.version.split()[0]}; repository {ROOT.name}")
    return int(any(found[name] for found in counts.values() for name in OUTCOMES[2:]))


if __name__ == "__main__":
    sys.exit(main())
