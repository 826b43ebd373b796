"""Faults: how each is injected into a running child at a chosen moment, and taken back."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FULL, MEMORY = "disk full", "memory limit"
DAMAGES = ("truncated", "byte flipped", "file missing")  # of the last state, behind a SIGKILL
KINDS = (*SIGNALS, FULL, MEMORY, *DAMAGES)
SIZE = 2 << 30


@dataclass
class Disk:
    """Where the runs lie: a small file system of its own where this process may mount one."""

    folder: Path
    mounted: bool = False

    def __enter__(self) -> Disk:
        self.folder.mkdir(parents=True, exist_ok=True)
        mount = shutil.which("mount")
        command = [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "revtaf", str(self.folder)] if mount else ["false"]
        self.mounted = subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
        return self

    def __exit__(self, *_) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)

    def used(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.folder).used

    def resize(self, size: int) -> None:
        """Give it another size in bytes: full at once where it holds as much, or more by now."""
        for _ in range(100):  # the process writes meanwhile: what it holds may have outgrown the size asked for
            command = ["mount", "-o", f"remount,size={max(4096, size)}", str(self.folder)]
            if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
                return
            size = max(size, self.used())
        raise SystemExit(f"{self.folder} cannot be given another size")


def inject(kind: str, pid: int, disk: Disk, draw: random.Random) -> Callable[[], None]:
    """Strike the process; returns what takes the fault back once it has ended."""
    if kind in SIGNALS or kind in DAMAGES:
        os.kill(pid, SIGNALS.get(kind, signal.SIGKILL))
    elif kind == FULL and disk.mounted:
        used = disk.used()
        disk.resize(used + int(draw.random() * 0.5 * used))
        return lambda: disk.resize(SIZE)
    elif kind == FULL:  # nobody may mount here: every file ends at some size, with the error EFBIG
        size = int(draw.random() * 1e7)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
    elif kind == MEMORY:
        with suppress(FileNotFoundError):  # it has just ended
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[0])
            size = pages * resource.getpagesize() + draw.randrange(1 << 20)
            resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
    return lambda: None


def damage(kind: str, state: Path, draw: random.Random) -> str:
    """Damage one file of a saved state; returns its name."""
    path = draw.choice(sorted(state.iterdir()))
    if kind == "file missing":
        path.unlink()
    elif kind == "truncated":
        os.truncate(path, draw.randrange(path.stat().st_size))
    else:
        with open(path, "r+b") as file:
            file.seek(draw.randrange(path.stat().st_size))
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1 << draw.randrange(8)]))
    return path.name
