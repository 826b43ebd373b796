"""A run's surroundings: device, seed, folder, log, the record of where it ran, and its files of JSON lines."""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import re
import subprocess
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from revtaf import __version__
from revtaf.config import RunSettings
from revtaf.config_file import save_settings
from revtaf.errors import UserError
from revtaf.files import atomic_write, clear_errors, parse_json, read_text, write_json
from revtaf.precision import computes_in_bf16

log = logging.getLogger("revtaf")


def make_accelerator(settings: RunSettings) -> Accelerator:
    """Device, precision and processes. `device: auto` takes CUDA where there is one."""
    wanted = settings.device
    check_device(wanted)
    if wanted.startswith("cuda:"):
        torch.cuda.set_device(int(wanted[5:]))
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cpu = wanted == "cpu" or not torch.cuda.is_available()
    if cpu and "ACCELERATE_USE_CPU" in os.environ and "RANK" not in os.environ:  # its launcher sets the first
        log.warning(
            "accelerate launch started one process, whatever --num_processes says, as it does where there is no GPU; "
            "for several: torchrun --standalone --nproc_per_node N -m revtaf ..."
        )
    # `auto` is CUDA or the CPU: other backends lack float64, which the retrieval index and transport need.
    # Waiting processes outlast the default time-out while the first one fits features or scores reports.
    try:
        return Accelerator(
            cpu=cpu,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=48))],
            mixed_precision=choose_precision(settings.train.precision, cpu),
            gradient_accumulation_steps=settings.train.accumulation,
        )
    except ValueError as error:  # accelerate keeps one state for a process
        raise UserError(
            "models of different precision or device cannot be open in one process: open them in two, or give them the "
            f"same train.precision and device ({str(error).splitlines()[0]})"
        ) from None


def check_device(wanted: str) -> None:
    """UserError where `device` is no word that we know, or is not there."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise UserError(f"device: expected auto, cpu, cuda or cuda:N, got {wanted!r}")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {wanted} was asked for, but PyTorch sees no CUDA device; use auto or cpu")
    if wanted.startswith("cuda:") and int(wanted[5:]) >= torch.cuda.device_count():
        raise UserError(f"device: {wanted}: there are {torch.cuda.device_count()} CUDA devices")


def choose_precision(wanted: str, cpu: bool) -> str:
    """`train.precision` as accelerate's "no", "fp16" or "bf16". `auto` is bf16 where the device has instructions for
    it. Asked for by name where it has none, half precision is emulated, ten times slower than full: a warning."""
    native = computes_in_bf16("cpu" if cpu else "cuda")
    if wanted == "auto":
        return "bf16" if native else "no"
    if wanted != "no" and cpu and (wanted == "fp16" or not native):
        log.warning(
            "train.precision=%s: this processor has no instructions for it, which is very slow; use auto", wanted
        )
    return wanted


def seed_everything(seed: int, process: int = 0) -> None:
    """The global streams of random numbers, apart for each process."""
    random.seed(seed + process)
    np.random.seed(seed + process)
    torch.manual_seed(seed + process)


def open_run(settings: RunSettings) -> Path:
    """Create the run folder and write what the run is: config.yaml, env.json."""
    folder = Path(settings.run)
    folder.mkdir(parents=True, exist_ok=True)
    save_settings(folder / "config.yaml", settings)
    write_json(folder / "env.json", environment(settings))
    return folder


def log_to(folder: Path) -> None:
    """Also write the log into the run folder."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


def environment(settings: RunSettings) -> dict:
    """What env.json and every report say of where a run was made: versions, commit, machine, seed, command."""
    packages = ("torch", "torchvision", "transformers", "accelerate", "geoopt", "numpy")
    cuda = torch.cuda.is_available()
    return {
        "revtaf": __version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if cuda and settings.device != "cpu" else "CPU",
        "precision": choose_precision(settings.train.precision, not cuda or settings.device == "cpu"),
        "seed": settings.seed,
        "command": " ".join(["revtaf", *sys.argv[1:]]),
    }


def git_revision() -> str:
    """The commit of the installed source tree, with "+" where it has changes; "unknown" outside git."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def append_jsonl(path: Path, record: dict) -> None:
    """Add one line. Of a process that is killed meanwhile a half line may stay, which `read_jsonl` leaves out."""
    with clear_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_jsonl(path: Path) -> list[dict]:
    """The records up to the first line that is not whole; none where there is no file."""
    if not path.exists():
        return []
    records: list[dict] = []
    for line in read_text(path, "records").split("\n"):  # a report may hold other line separators
        try:
            record = parse_json(line)
        except ValueError:  # the end, or the last line of a run that was killed while writing it
            break
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {len(records) + 1}: expected a record, got {line[:60]!r}")
        records.append(record)
    return records


def write_jsonl(path: Path, records: list[dict]) -> None:
    """All records, one a line, in one step: never a half-written file."""
    with atomic_write(path) as partial:
        partial.write_text("".join(map(jsonl_line, records)), encoding="utf-8")


def jsonl_line(record: dict) -> str:
    """A record as `write_jsonl` writes it, for whoever hashes a line of such a file."""
    return json.dumps(record, ensure_ascii=False) + "\n"
