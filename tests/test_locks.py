"""Locks between processes: one works, the others wait or are refused, and nothing of a lock is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from revtaf import locks
from revtaf.errors import UserError
from revtaf.locks import LOCK, alone

SPAWN = multiprocessing.get_context("spawn")
HOLD = """
import sys
from revtaf.locks import alone
with alone(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/work until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "work")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_waits_says_so_and_leaves_nothing(holder, tmp_path, caplog):
    caplog.set_level("INFO", "revtaf")
    threading.Timer(1.0, holder.stdin.close).start()
    start = time.monotonic()
    with alone(tmp_path / "work", "pictures"):
        assert time.monotonic() - start > 0.8
    assert [r.getMessage() for r in caplog.records] == ["pictures: waiting for another process that makes work"]
    holder.wait(60)
    assert list(tmp_path.iterdir()) == []


def test_who_does_not_wait_is_told_which_folder_and_touches_nothing(holder, tmp_path):
    (tmp_path / "work" / "config.yaml").write_text("x")
    with pytest.raises(UserError, match=rf"another process is training in {tmp_path / 'work'}; wait until"):
        with alone(tmp_path / "work", "training", wait=False):
            raise AssertionError("entered")
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == [LOCK, "config.yaml"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_locks_nobody_out(holder, tmp_path):
    """Its file stays and means nothing; the next one takes it away, and work that was begun stays."""
    (tmp_path / "work" / "part").write_text("x")
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    assert (tmp_path / "work" / LOCK).exists()
    with alone(tmp_path / "work", "training", wait=False):
        pass
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["part"]


def test_an_error_inside_releases_the_lock_and_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "a" / "work"):
        raise ZeroDivisionError
    assert list((tmp_path / "a").iterdir()) == []


def test_who_holds_it_may_ask_again_and_another_thread_may_not(tmp_path):
    """A grid holds the folder of a run, and training asks for it once more."""
    refused = []

    def other():
        try:
            with alone(tmp_path / "work", "training", wait=False):
                pass
        except UserError as error:
            refused.append(error)

    with alone(tmp_path / "work", "runs"):
        with alone(str(tmp_path / "work"), "training", wait=False):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(refused) == 1 and (tmp_path / "work" / LOCK).exists()


def count(folder, file, times):
    locks._EVERY = 0.001  # in a process of its own
    for _ in range(times):
        with alone(folder):
            value = int(file.read_text())
            time.sleep(0.002)
            file.write_text(str(value + 1))


def test_nobody_enters_beside_another_while_folder_and_lock_come_and_go(tmp_path):
    """Each turn takes the lock's file and the empty folder away, under the eyes of those who wait for it."""
    file = tmp_path / "count"
    file.write_text("0")
    workers = [SPAWN.Process(target=count, args=(tmp_path / "a" / "work", file, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert file.read_text() == "60" and list((tmp_path / "a").iterdir()) == []


def test_where_nothing_can_be_locked_work_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError(os.strerror(38))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with alone(tmp_path / "work"):
        (tmp_path / "work" / "x").touch()
    assert "let no other process work on it" in caplog.text
