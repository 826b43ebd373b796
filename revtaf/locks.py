"""One process at a time in a folder. The operating system drops a lock with the process that holds it, however it ends.

The lock is a file in the folder, `.lock`, which goes with the last who held it; what a killed process leaves of it is
an empty file that locks nobody out.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from revtaf.errors import UserError

LOCK = ".lock"
_EVERY = 0.25  # seconds between two looks at a lock that somebody holds; the first look waits for nothing
_held: set[tuple[Path, int, int]] = set()  # folder, process and thread
log = logging.getLogger("revtaf")


@contextmanager
def alone(folder: str | Path, what: str = "features", wait: bool = True) -> Iterator[None]:
    """Of several processes that would make the same thing in `folder`, one does; the others wait.

    what: what is made ("features"). wait=False: a second process ends with a UserError that names the folder, and
    `what` says what the first one is doing there ("training"). The folder is made, and goes again if it is empty at the
    end. A thread that holds the lock may ask again. Of processes that work together, one asks. Where a file system
    knows no locks, nobody is kept apart.
    """
    named, folder = folder, Path(folder).resolve()
    me = (folder, os.getpid(), threading.get_ident())
    if me in _held:
        yield
        return
    _make(folder)
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        if not _acquired(lock, folder, 0):
            if not wait:
                raise UserError(
                    f"another process is {what} in {named}; wait until it has ended, or choose another folder"
                )
            log.info("%s: waiting for another process that makes %s", what, folder.name)
            _acquired(lock, folder, -1)
    except OSError as error:  # some network file systems know no locks
        log.warning("%s: cannot be locked (%s); let no other process work on it", folder, error)
    _held.add(me)
    try:
        yield
    finally:
        _held.discard(me)
        if lock.is_locked:
            with suppress(OSError):  # while it is ours; Windows removes it after its release
                (folder / LOCK).unlink()
            lock.release()
        with suppress(OSError):  # empty, unless there is work to continue
            folder.rmdir()


def _acquired(lock: FileLock, folder: Path, timeout: float) -> bool:
    """Whether the lock was got within `timeout` seconds, -1 for as long as it takes."""
    while True:
        try:
            lock.acquire(timeout=timeout, poll_interval=_EVERY)
            return True
        except Timeout:
            return False
        except (FileNotFoundError, FileExistsError):  # who held it has just taken the empty folder away
            _make(folder)


def _make(folder: Path) -> None:
    """mkdir, also where another process takes the empty folder away in the middle of it."""
    while not folder.is_dir():
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
        if folder.is_file():
            raise UserError(f"{folder} is a file, expected a folder; move it away")
