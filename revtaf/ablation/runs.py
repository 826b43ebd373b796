"""Training and testing the runs of a grid: each in a process of its own, what is finished is never done twice."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from revtaf.ablation.grid import Run
from revtaf.ablation.tested import is_analysed, is_tested
from revtaf.engine.checkpoint import find_last, read_progress
from revtaf.errors import UserError
from revtaf.locks import alone
from revtaf.process import INTERRUPTED, USER_ERROR, configure

LOG = "ablate.log"
FAILED = 1  # exit code of a run that no message was written for
_POLL = 0.5  # seconds between two looks at the running processes
log = logging.getLogger("revtaf")


@dataclass(frozen=True, eq=False)
class Job:
    """One process: a training, and what is made of it. Runs with the same folder are one job."""

    runs: tuple[Run, ...]
    analysed: bool  # whether a view needs `revtaf analyse`

    @property
    def folder(self) -> Path:
        """Of the training; the results of its tests lie in it."""
        return Path(self.runs[0].settings.run)

    @property
    def name(self) -> str:
        """Of the process and in messages: what is changed, and the seed ("base seed0")."""
        return f"{self.folder.parent.name} {self.folder.name}"

    @property
    def done(self) -> bool:
        """Trained, tested as every row asks, and analysed where a view needs it."""
        return all(is_tested(run) for run in self.runs) and not (self.analysed and self.to_analyse())

    def to_analyse(self) -> bool:
        """Whether the files of `revtaf analyse` are missing; a model that retrieves nothing has none."""
        run = self.runs[0]
        return run.settings.retrieves and not is_analysed(run)


def jobs_of(runs: Sequence[Run], analysed: set[str]) -> list[Job]:
    """Runs with the same folder together, seed by seed. analysed: folders whose views need `revtaf analyse`."""
    grouped: dict[Path, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        grouped.setdefault(Path(run.settings.run), []).append(run)
    return [Job(tuple(group), str(folder) in analysed) for folder, group in grouped.items()]


def run_all(jobs: Sequence[Job], at_once: int = 1) -> None:
    """Run what is not done, `at_once` at a time. An interruption stops the running ones after their step; the same
    command then continues. Raises UserError naming the logs of those that failed, after the others are finished."""
    waiting = [job for job in jobs if not job.done]
    if skipped := len(jobs) - len(waiting):
        log.info("%d of %d runs are there already", skipped, len(jobs))
    context = multiprocessing.get_context("spawn")
    running: dict[Job, tuple[multiprocessing.process.BaseProcess, int]] = {}
    failed: list[Job] = []
    quiet = at_once > 1
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tqdm(total=len(jobs), initial=skipped, desc="runs", unit="run", disable=None if quiet else True) as bar:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    log.info("run %d of %d: %s", len(jobs) - len(waiting), len(jobs), job.name)
                    card = min(set(range(at_once)) - {card for _, card in running.values()})
                    process = context.Process(target=_work, args=(job, quiet, os.getpid(), card), name=job.name)
                    process.start()
                    running[job] = (process, card)
                for job, (process, _) in list(running.items()):
                    process.join(_POLL / len(running))
                    if process.is_alive():
                        continue
                    del running[job]
                    bar.update()
                    if process.exitcode == INTERRUPTED:
                        raise KeyboardInterrupt
                    if process.exitcode:
                        failed.append(job)
                        log.error("%s failed (exit code %s): see %s", job.name, process.exitcode, job.folder / LOG)
    except KeyboardInterrupt:
        for process, _ in running.values():
            process.terminate()  # training saves its state and stops
        for process, _ in running.values():
            process.join()
        log.warning("stopped; the same command continues from here")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        where = ", ".join(str(job.folder / LOG) for job in failed)
        raise UserError(f"{len(failed)} of {len(jobs)} runs failed; see {where}")


def _interrupt(number, frame) -> None:
    raise KeyboardInterrupt


def _work(job: Job, quiet: bool, parent: int, place: int) -> None:
    """In a process of its own: train, test, analyse. place: of several runs at once, on several GPUs each its own."""
    # A session of its own: Ctrl-C reaches the parent alone, which asks each run once to stop. If the parent dies, the
    # run is asked as well, so that nobody trains on unseen.
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        return
    cards = torch.cuda.device_count()  # counts without using any
    if cards > 1 and job.runs[0].settings.device in ("auto", "cuda"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(cards)))).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[place % cards]
    from revtaf.commands.test import analyse, test
    from revtaf.commands.train import train
    from revtaf.engine.train import Interrupted

    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / LOG, "a", encoding="utf-8") as file:
        if quiet:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        configure()
        if not quiet:
            log.addHandler(logging.StreamHandler(file))
        start = time.monotonic()
        try:
            with alone(job.folder, "runs"):
                train(job.runs[0].settings)
                _drop_training_state(job.folder)
                for run in job.runs:
                    if not is_tested(run):
                        test(run.tested)
                if job.analysed and job.to_analyse():
                    analyse(job.runs[0].plain)
            log.info("%s: %.0f s", job.name, time.monotonic() - start)
        except (Interrupted, KeyboardInterrupt) as stop:
            log.info("%s", stop or "interrupted")
            sys.exit(INTERRUPTED)
        except UserError as error:
            log.error("error: %s", error)
            sys.exit(USER_ERROR)
        except Exception:  # the parent names this log: what happened has to be in it
            log.exception("%s failed", job.name)
            sys.exit(FAILED)


def _drop_training_state(folder: Path) -> None:
    """A finished run is never resumed: of its last state, three models in size, only the record is kept."""
    last = find_last(folder / "checkpoints")
    if last is None or not read_progress(folder / "checkpoints").get("finished"):
        return
    for path in last.iterdir():
        if path.name != "progress.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
