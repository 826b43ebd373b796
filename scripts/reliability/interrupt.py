"""Interrupt toy training at random moments, resume it until it is done, compare every bit with an undisturbed run.

    python scripts/reliability/interrupt.py --out FOLDER [--kills 50] [--seed 0] [--systems revtaf,medfuse]

Faults: SIGKILL, SIGTERM, SIGINT; a disk that is full (a small tmpfs where this process may mount one, else a limit on
the size of files); a limit on memory; a SIGKILL behind which the last saved state is truncated, has a byte flipped or
misses a file. They strike at a random moment within a chosen place: the start, a step, a checkpoint or a new best being
written, validation, generation, the model's folder being finished, a test that writes or scores. Written to FOLDER:
table.md, table.json. Exit code 1 where a bit differs, a process hangs, or a damaged state is not named. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import child as children  # noqa: E402
from compare import differences  # noqa: E402
from faults import DAMAGES, FULL, KINDS, MEMORY, SIGNALS, Disk, damage, inject  # noqa: E402
from linux import require_linux  # noqa: E402
from table import markdown  # noqa: E402
from toys import SYSTEMS, command, make_phantom, stage1_command  # noqa: E402

HANGS = 300.0  # seconds without an end
PLACES = {  # in the order in which a run comes to them
    "train": ("start", "step", "checkpoint", "validation", "generation", "new best", "model folder"),
    "test": ("start", "generation", "scoring"),
}
DAMAGED_IN = ("step", "checkpoint", "validation")
FAULTS_OF = {"train": 8, "test": 3}  # at most, of one run


@dataclass
class Planned:
    """A fault to come: struck in the `phase`, a command, at a moment within the place."""

    phase: str
    kind: str
    place: str


@dataclass
class Fault:
    """A fault that was injected, and how the process ended."""

    system: str
    phase: str
    kind: str
    place: str
    seconds: float  # behind the start of the process
    code: int
    outcome: str


@dataclass
class Rehearsal:
    """An undisturbed run: how often each place was entered in each phase, and how long it stayed there."""

    count: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    took: float = 0.0


@dataclass
class Round:
    """One run that was interrupted, resumed and compared."""

    system: str
    faults: list[Fault]
    resumes: int
    seconds: float
    differences: list[str]


class Interrupter:
    """Runs the toys in `out`, with the runs' own folder on `disk`."""

    def __init__(self, out: Path, disk: Disk, seed: int):
        self.out, self.disk, self.draw = out, disk, random.Random(seed)
        self.run, self.phantom, self.number = disk.folder / "run", make_phantom(out / "phantom"), 0
        self.unnamed: list[str] = []  # damaged states of which nothing was said

    def start(self, arguments: list[str]) -> children.Child:
        """A command, with a log of its own."""
        self.number += 1
        return children.start(arguments, self.out / "logs" / f"{self.number:03}.txt")

    def rehearse(self, system: str) -> Rehearsal:
        """The undisturbed run; its folder is moved to reference/."""
        if system == "trrg":
            self._through(self.start(["train", *stage1_command(self.out, self.phantom)]), {}, {})
        shutil.rmtree(self.run, ignore_errors=True)
        found, started = Rehearsal(), time.monotonic()
        for phase in PLACES:
            count, total = defaultdict(int), defaultdict(float)
            self._through(self.start([phase, *command(system, self.out, self.phantom, self.run)]), count, total)
            found.count[phase] = dict(count)
            found.seconds[phase] = {name: total[name] / count[name] for name in total}
        found.took = time.monotonic() - started
        shutil.rmtree(self.reference(system), ignore_errors=True)
        shutil.move(self.run, self.reference(system))
        return found

    def reference(self, system: str) -> Path:
        """Where the undisturbed run lies."""
        return self.out / "reference" / system

    def _through(self, process: children.Child, count: dict, total: dict) -> None:
        entered, last = {}, 0.0
        while process.status is None:
            for name, enters, when in process.listen(HANGS):
                if enters:
                    count[name] = count.get(name, 0) + 1
                    entered[name] = when
                elif name == "step":  # a step is what lies between two of them
                    total[name] = total.get(name, 0.0) + min(when - last, 1.0)
                    last = when
                else:
                    total[name] = total.get(name, 0.0) + when - entered.get(name, 0.0)
        if process.status:
            raise SystemExit(f"the undisturbed run failed ({process.log}):\n{process.said()[-2000:]}")

    def interrupt(self, system: str, plan: list[Planned], rehearsal: Rehearsal) -> Round:
        """One run with faults of the plan, which are taken out of it; what found no moment waits behind all others."""
        shutil.rmtree(self.run, ignore_errors=True)
        faults, starts, started = [], 0, time.monotonic()
        for phase in PLACES:
            done, known = False, rehearsal.count[phase]
            todo = [p for p in plan if p.phase == phase and p.place in known][: FAULTS_OF[phase]]
            todo.sort(key=lambda p: PLACES[p.phase].index(p.place))
            damaged: tuple[Path, str] | None = None
            while not done:
                planned = todo.pop(0) if todo else None
                process = self.start([phase, *command(system, self.out, self.phantom, self.run)])
                starts += 1
                fault = self._attempt(process, system, planned, rehearsal)
                self._named(process, damaged)
                damaged = None
                if planned is not None:
                    plan.remove(planned)
                    if fault is None:
                        plan.append(planned)
                if fault is not None:
                    faults.append(fault)
                    if planned.kind in DAMAGES:
                        damaged = self._damage(fault)
                done = process.status == 0
                if not done and fault is None:
                    raise SystemExit(f"{system} does not continue ({process.log}):\n{process.said()[-3000:]}")
        seconds = time.monotonic() - started
        return Round(system, faults, starts - len(PLACES), seconds, differences(self.reference(system), self.run))

    def _attempt(
        self, process: children.Child, system: str, planned: Planned | None, rehearsal: Rehearsal
    ) -> Fault | None:
        """Let the process run to its end, or to its fault; None where the moment never came."""
        try:
            when = self._moment(process, planned, rehearsal) if planned else None
            if when is None:
                self._end(process)
                return None
            place = process.open[-1] if process.open else planned.place
            take_back = inject(planned.kind, process.pid, self.disk, self.draw)
            self._end(process)
            take_back()
            return Fault(
                system, planned.phase, planned.kind, place, round(when, 3), process.status, self._outcome(process)
            )
        finally:
            if process.status is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()

    def _moment(self, process: children.Child, planned: Planned, rehearsal: Rehearsal) -> float | None:
        """Wait until the process is somewhere within the planned place; seconds since its start, or None."""
        times, damaged = rehearsal.count[planned.phase][planned.place], planned.kind in DAMAGES
        which = self.draw.randint(1, 1 if times < 6 or damaged else 4)
        delay = self.draw.random() * rehearsal.seconds[planned.phase].get(planned.place, 0.0)
        until = time.monotonic() + HANGS
        while which > 0 and process.status is None:
            entered = [name for name, enters, _ in self._listen(process, until) if enters]
            which -= 0 if damaged and not self._two_states() else entered.count(planned.place)
        strike = time.monotonic() + delay
        while process.status is None and time.monotonic() < strike:
            process.listen(strike - time.monotonic())
        if process.status is not None:
            return None
        return time.monotonic() - process.started

    def _end(self, process: children.Child) -> None:
        until = time.monotonic() + HANGS
        while process.status is None:
            self._listen(process, until)

    def _listen(self, process: children.Child, until: float) -> list[tuple[str, bool, float]]:
        if time.monotonic() > until:
            raise SystemExit(f"a process hangs: {process.log}, in {process.open}")
        return process.listen(until - time.monotonic())

    def _two_states(self) -> bool:
        return all((self.run / "checkpoints" / name).is_dir() for name in ("last", "before_last"))

    def _damage(self, fault: Fault) -> tuple[Path, str] | None:
        last = self.run / "checkpoints" / "last"
        if not self._two_states():  # killed between two renames: the one before is all there is
            fault.outcome += ", nothing to damage"
            return None
        name = damage(fault.kind, last, self.draw)
        fault.outcome += f", then {name}"
        return last, name

    def _named(self, process: children.Child, damaged: tuple[Path, str] | None) -> None:
        """Whether a process that found a damaged state named it and the one it took."""
        if damaged is not None and process.status in (0, -9, 130):
            last, name = damaged
            said = process.said()
            if "resuming after" in said and not all(str(last.parent / n) in said for n in ("last", "before_last")):
                self.unnamed.append(f"{process.log}: {name}")

    def _outcome(self, process: children.Child) -> str:
        said = process.said()
        if "Traceback" in said:
            return f"traceback: {said.strip().splitlines()[-1][:80]}"
        if process.status < 0:
            return f"ended by signal {-process.status}"
        stopped = "stopped with its state saved" if "continues from here" in said else "stopped"
        return {0: "ran to its end", 130: stopped}.get(process.status, "one message")


def make_plan(count: int, draw: random.Random) -> list[Planned]:
    """`count` faults: every kind in every place in random order, again and again."""
    pairs = [Planned("train", kind, place) for kind in (*SIGNALS, FULL, MEMORY) for place in PLACES["train"]]
    pairs += [Planned("test", kind, place) for kind in (*SIGNALS, FULL, MEMORY) for place in PLACES["test"]]
    pairs += [Planned("train", kind, place) for kind in DAMAGES for place in DAMAGED_IN]
    plan: list[Planned] = []
    while len(plan) < count:
        plan += draw.sample(pairs, len(pairs))
    return plan[:count]


def rounds(work: Interrupter, systems: list[str], plan: list[Planned]) -> Iterator[Round]:
    """Runs of the systems in turn until the plan is empty."""
    rehearsals, idle = {}, 0
    while plan and idle < 2 * len(systems):
        for system in systems:
            if not plan:
                return
            if system not in rehearsals:
                rehearsals[system] = work.rehearse(system)
                print(f"{system}: undisturbed, {rehearsals[system].took:.0f} s", flush=True)
            found = work.interrupt(system, plan, rehearsals[system])
            idle = 0 if found.faults else idle + 1
            verdict = "; ".join(found.differences[:5]) or "0 bits different"
            struck = ", ".join(f"{fault.kind} in {fault.place}" for fault in found.faults)
            print(f"{system}: {struck or 'nothing'}: {found.seconds:.0f} s, {verdict}", flush=True)
            yield found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a scratch folder; its content is replaced")
    parser.add_argument("--kills", type=int, default=50, help="how many faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", default=",".join(SYSTEMS).replace(", ", " "), help="of these, by name")
    options = parser.parse_args()
    require_linux()
    names = {name.replace(", ", " "): name for name in SYSTEMS}
    systems = [names[name] for name in options.systems.split(",")]
    out, started = options.out.resolve(), time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    children.preload()
    plan = make_plan(options.kills, random.Random(options.seed))
    found: list[Round] = []
    with Disk(out / "disk") as disk:
        work = Interrupter(out, disk, options.seed)
        for one in rounds(work, systems, plan):  # the table is there from the first run on
            found.append(one)
            text = markdown([asdict(r) for r in found], KINDS, disk.mounted, time.monotonic() - started)
            (out / "table.md").write_text(text, encoding="utf-8")
            content = {"rounds": [asdict(r) for r in found], "not injected": [asdict(p) for p in plan]}
            (out / "table.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)
    for line in work.unnamed:
        print(f"a damaged state was not named: {line}")
    return 1 if work.unnamed or any(r.differences for r in found) else 0


if __name__ == "__main__":
    sys.exit(main())
