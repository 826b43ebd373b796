"""Proof that nothing moved: run two commits on this machine and compare what they draw, learn, write and score.

    python scripts/same_numbers.py BEFORE AFTER [--keep FOLDER]

BEFORE and AFTER are git revisions, or `.` for the working tree. Each is checked out beside the repository and does with
its own code, on one CPU thread and with seed 0, for a small configs/phantom.yaml and a small configs/mini.yaml: prepare
the data, train, test. Compared to the last bit are the prepared files, the losses and learning rates of every step, the
validation, the weights after the last step and those of the best checkpoint (the log rounds losses to five decimals,
weights are not rounded), the reports with what they were made from, and the score tables. Renamed, ignored and added
keys are those of the tables below. Exit code 0 where all is equal, 1 where not, 2 on bad input, 130 when interrupted.

--keep holds what commits gave and reuses it as long as this script, the libraries and the machine are the same; never
for `.`, and a commit that is compared with itself is really run the second time. A system that is found through entry
points must be installed: those are read from the environment, not from the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKING_TREE = "."
STEPS, REPORTS = 20, 8  # fewer prove too little
SHOWN = 8  # differences printed per part
EQUAL, DIFFERENT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
# Other versions of these may give other numbers: what was kept is not reused.
LIBRARIES = (
    *("torch", "torchvision", "transformers", "tokenizers", "accelerate", "geoopt", "pot", "numpy", "scipy"),
    *("scikit-learn", "pycocoevalcap", "pillow", "safetensors"),
)

COMMON = ("seed=0", "device=cpu", "threads=1", "train.workers=0", "eval.resamples=1000")


@dataclass(frozen=True)
class Recipe:
    """How a configuration is run: commands that make its data ("{checkout}" is filled in), then its settings."""

    prepare: tuple[tuple[str, ...], ...]
    overrides: tuple[str, ...]


RECIPES = {
    "phantom": Recipe(
        (("-m", "revtaf", "prepare", "phantom", "--out", "data/phantom", "--images", "120", "--size", "144"),),
        # 24 steps. At the configuration's own rate all reports would be one by then, and say less.
        ("train.epochs=2", "train.batch_size=8", "train.lr=5e-5", "knowledge.scorer_epochs=1")
        + ("generation.max_new_tokens=40",),
    ),
    "mini": Recipe(
        (
            ("{checkout}/tests/mimic_files.py", "data/raw/mini"),
            ("-m", "revtaf", "prepare", "mimic_cxr", "--jpg", "data/raw/mini/mimic-cxr-jpg")
            + ("--reports", "data/raw/mini/mimic-cxr-reports.zip", "--out", "data/mini"),
        ),
        ("train.epochs=3",),  # 21 steps
    ),
}

# By part of the comparison. A name is a key at any depth, old -> new, and both sides are read with the new one. A path
# is all keys down to a value, and stands for everything below it. Additions may be in AFTER alone.
Keys = tuple[str, ...]
RENAMED: dict[str, dict[str, str]] = {
    "reports": {"prompts": "statuses"},
}
IGNORED: dict[str, tuple[Keys, ...]] = {
    "scores": (
        ("run", "git"),
        ("run", "revtaf"),
        ("run", "command"),
        ("run", "features"),  # a digest of names of folders, too; what depends on features is compared
        ("run", "packages"),  # installed ones, not numbers
        ("run", "ablation flags"),  # settings in words, the same on both sides by what this script passes
    ),
}
KNOWN_ADDITIONS: dict[str, tuple[Keys, ...]] = {
    "scores": (("run", "system"), ("run", "missing"), ("statistics",)),
    "weights": (("best",),),  # a model's folder may hold more than it did; what it held must be there
}
VERSION = re.compile(r"\|v\d[\w.+-]*")  # of revtaf, in a table's signature


class BadInput(Exception):
    """One message for the user; exit code 2."""


# ---- what is compared: values by the path of their keys ----

Flat = dict[Keys, Any]


def flat(value: Any, path: Keys = ()) -> Flat:
    """The leaves of nested objects and lists by their path; an empty one is a leaf."""
    if not isinstance(value, Mapping | list) or not value:
        return {path: value}
    entries = value.items() if isinstance(value, Mapping) else ((str(i), v) for i, v in enumerate(value))
    return {key: leaf for name, part in entries for key, leaf in flat(part, (*path, str(name))).items()}


def leaves(record: Mapping, where: str) -> dict[str, Any]:
    """A record's values by their last key alone: {"lm": 1} and {"losses": {"lm": 1}} are the same."""
    found: dict[str, Any] = {}
    for path, value in flat(record).items():
        if path[-1] in found:
            raise BadInput(f"{where} holds two values named {path[-1]}; they cannot be told apart by that name")
        found[path[-1]] = value
    return found


def renamed(values: Flat, names: Mapping[str, str]) -> Flat:
    """With new names for old ones; where both are there, they are two things and stay."""
    result = dict(values)
    for path in values:
        new = tuple(names.get(key, key) for key in path)
        if new != path and new not in values:
            result[new] = result.pop(path)
    return result


def losses(text: str, where: str) -> tuple[Flat, Flat]:
    """Of metrics.jsonl: the values of the steps, and those of the validations."""
    steps, validations = Flat(), Flat()
    for record in json_lines(text, where):
        found, name = (validations, "validation") if "validation" in record else (steps, "step")
        number = len({path[0] for path in found}) + 1
        title = f"{name} {number}"
        found.update({(title, key): value for key, value in leaves(record, f"{where}, {title}").items()})
    return steps, validations


def reports(text: str, where: str) -> Flat:
    """Of predictions.jsonl: the values of each report by its id, and the order of the ids."""
    records = json_lines(text, where)
    order = [str(record.get("id")) for record in records]
    return flat({"order": " ".join(order), **dict(zip(order, records, strict=True))})


def lines(text: str) -> Flat:
    """Of a table: each line by its first cell, and the order of these. revtaf's own version is left out."""
    found, seen = Flat(), Counter()
    for line in VERSION.sub("", text).splitlines():
        name = re.split(r"[|&,]", line.strip("| "))[0].strip() or "(blank)"
        seen[name] += 1
        found[(name if seen[name] == 1 else f"{name}, the {seen[name]}.",)] = line
    return found | {("order",): "; ".join(path[0] for path in found)}


def scores(report: Mapping, environment: Mapping) -> Flat:
    """Of report.json; what identifies the run may also stand in env.json."""
    found = flat({**report, "run": {**environment, **report.get("run", {})}})
    return {path: VERSION.sub("", v) if path == ("signature",) else v for path, v in found.items()}


def json_lines(text: str, where: str) -> list[dict]:
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: a line is not JSON: {error}") from None


# ---- the comparison ----


class _Absent:
    def __repr__(self) -> str:
        return "(not there)"


ABSENT = _Absent()


@dataclass
class Comparison:
    """How many values are on both sides; (path, of A, of B) of those that differ, that AFTER may have more, and that
    differ but are ignored. `moved`: how many were found under another name."""

    values: int = 0
    differences: list[tuple[Keys, Any, Any]] = field(default_factory=list)
    additions: list[tuple[Keys, Any, Any]] = field(default_factory=list)
    ignored: list[tuple[Keys, Any, Any]] = field(default_factory=list)
    moved: int = 0


def compare(part: str, a: Flat, b: Flat) -> Comparison:
    """Part by name, as in RENAMED, IGNORED and KNOWN_ADDITIONS. Equal is the same type and every digit the same."""
    a, b = (renamed(values, RENAMED.get(part, {})) for values in (a, b))
    result = Comparison()
    if part == "weights":
        own = b
        b = matched(a, own)
        result.moved = len(own.keys() - b.keys())
    for path in [*a, *(path for path in b if path not in a)]:
        pair = (a.get(path, ABSENT), b.get(path, ABSENT))
        result.values += pair[0] is not ABSENT and pair[1] is not ABSENT
        if type(pair[0]) is type(pair[1]) and repr(pair[0]) == repr(pair[1]):  # -0.0 is not 0.0, NaN is NaN
            continue
        if below(path, IGNORED.get(part, ())):
            result.ignored.append((path, *pair))
        elif pair[0] is ABSENT and below(path, KNOWN_ADDITIONS.get(part, ())):
            result.additions.append((path, *pair))
        else:
            result.differences.append((path, *pair))
    return result


def below(path: Keys, places: Iterable[Keys]) -> bool:
    return any(path[: len(place)] == place for place in places)


def matched(a: Flat, b: Flat) -> Flat:
    """b, where tensors that are a's under another name get a's name: modules may move, their weights may not."""
    free: dict[Any, list[Keys]] = {}
    for path in a:
        if path not in b:
            free.setdefault(a[path], []).append(path)
    named = Flat()
    for path, value in b.items():
        named[free[value].pop(0) if path not in a and free.get(value) else path] = value
    return named


def told(name: str, found: Comparison, what: str) -> str:
    """What the comparison of one part says, in lines. what: with {} for the number of values."""
    bad = found.differences
    verdict = f"DIFFERENT in {len(bad)}" if bad else "equal"
    text = [f"{name:20} {what.format(found.values):38} {verdict}"]
    text += [f"    {difference(*entry)}" for entry in bad[:SHOWN]]
    text += [f"    ... and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    text += [f"    known addition, {difference(*entry)}" for entry in found.additions[:SHOWN]]
    if len(found.additions) > SHOWN:
        text.append(f"    ... and {len(found.additions) - SHOWN} more known additions")
    if found.ignored:
        text.append(f"    ignored, but different: {', '.join(' / '.join(path) for path, _, _ in found.ignored)}")
    text += [f"    {found.moved} under other names"] if found.moved else []
    return "\n".join(text)


def difference(path: Keys, a: Any, b: Any) -> str:
    name = " / ".join(path)
    if a is ABSENT or b is ABSENT:
        side, value = ("A", a) if b is ABSENT else ("B", b)
        return f"only in {side}: {name} = {shortened(repr(value), 0)}"
    x, y = repr(a), repr(b)
    start = next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y)))
    return f"{name}: A {shortened(x, start)}, B {shortened(y, start)}"


def shortened(text: str, start: int, width: int = 60) -> str:
    """`width` characters from a little before `start`."""
    first = max(0, start - 20) if len(text) > width else 0
    return ("..." if first else "") + text[first : first + width] + ("..." if len(text) > first + width else "")


# ---- running one side ----


@dataclass(frozen=True)
class Side:
    """`letter` is how messages call it; `commit` is None for the working tree."""

    letter: str
    revision: str
    commit: str | None

    def __str__(self) -> str:
        return f"{self.letter} {self.commit[:12] if self.commit else 'working tree'}"


def resolve(letter: str, revision: str) -> Side:
    if revision == WORKING_TREE:
        return Side(letter, revision, None)
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False)
    if found.returncode:
        raise BadInput(f"{revision!r} is no commit of {ROOT}; name a revision, or `.` for the working tree")
    return Side(letter, revision, found.stdout.strip())


def git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError as error:
        raise BadInput(f"git cannot be run: {error}") from None
    if check and done.returncode:
        raise BadInput(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done


@contextmanager
def checkout(side: Side, place: Path) -> Iterator[Path]:
    """The commit's files in `place`, gone afterwards; the working tree is where it is."""
    if side.commit is None:
        yield ROOT
        return
    try:
        git("worktree", "add", "--quiet", "--detach", str(place), side.commit)
        yield place
    finally:
        with undisturbed():  # forced twice: a worktree whose making was interrupted is locked
            git("worktree", "remove", "--force", "--force", str(place), check=False)


def run_side(side: Side, place: Path) -> Path:
    """Run all recipes with the code of `side`; the folder of their outputs, which holds no weights and no images."""
    work, outputs = place / "work", place / "outputs"
    work.mkdir(parents=True)
    with checkout(side, place / "checkout") as code:
        where = call(side, "", code, work, ("-c", "import revtaf; print(revtaf.__file__)"))
        if code.resolve() not in Path(where.splitlines()[-1]).resolve().parents:
            raise BadInput(f"{side}: this Python takes revtaf from {where.strip()}, not from the checkout")
        for name, recipe in RECIPES.items():
            config = code / "configs" / f"{name}.yaml"
            for arguments in recipe.prepare:
                arguments = tuple(a.replace("{checkout}", str(code)) for a in arguments)
                call(side, f"{name}: prepare", code, work, arguments)
            data = digests(work / "data" / name)
            for command in ("train", "test"):
                settings = ("--config", str(config), *COMMON, *recipe.overrides)
                call(side, f"{name}: {command}", code, work, ("-m", "revtaf", command, *settings))
            collect(work / "results" / name, data, outputs / name)
    return outputs


def call(side: Side, title: str, code: Path, work: Path, arguments: Iterable[str]) -> str:
    """Run Python in `work` with the checkout's code; returns what it printed. Without a title it is silent."""
    environment = os.environ | {
        "PYTHONPATH": str(code),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "Agg",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    log, start = work / "log.txt", time.monotonic()
    if title:
        print(f"{side}, {title} ... ", end="", flush=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be stopped with it
        )
        try:
            failed = process.wait()
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:  # Windows
                process.kill()
            process.wait()
            raise
    if title:
        print(f"{time.monotonic() - start:.0f} s", flush=True)
    text = log.read_text(encoding="utf-8", errors="replace")
    if failed:
        raise BadInput(f"{side}: {' '.join(arguments)} failed ({failed}):\n{text[-2000:]}")
    return text


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a data folder by its name, links followed; features aside."""
    found = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(set(folders) - {"features"})
        for path in (Path(place) / name for name in sorted(names)):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def weights(file: Path) -> dict[str, str]:
    """Type, shape and the beginning of the SHA-256 of every tensor of a safetensors file."""
    from safetensors.numpy import load_file

    return {
        name: f"{value.dtype}{list(value.shape)} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
        for name, value in sorted(load_file(file).items())
    }


OUTPUTS = ("predictions.jsonl", "report.json", "table.md", "table.tex", "per_sample.csv")


def collect(run: Path, data: dict[str, str], out: Path) -> None:
    """Copy what is compared from a run's folder to `out`."""
    out.mkdir(parents=True)
    tested = one(run, "*/predictions.jsonl").parent
    for file in (run / "metrics.jsonl", run / "env.json", *(tested / name for name in OUTPUTS)):
        if not file.is_file():
            raise BadInput(f"the run wrote no {file.name} in {file.parent.name}")
        shutil.copyfile(file, out / file.name)
    tensors = {"last": weights(one(run / "checkpoints" / "last", "**/model.safetensors"))}
    best = run / "checkpoints" / "best"
    for file in sorted(best.glob("**/*.safetensors")):
        tensors.setdefault("best", {})[str(file.relative_to(best))] = weights(file)
    for name, content in (("data.json", data), ("weights.json", tensors)):
        (out / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise BadInput(f"{folder.name}: expected one {pattern}, found {len(found)}")
    return found[0]


def parts(folder: Path) -> dict[str, tuple[Flat, str]]:
    """The outputs of one configuration, part by part, each with words for what it holds. Raises BadInput where that is
    too little to prove anything."""

    def text(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    where = folder.name
    steps, validations = losses(text("metrics.jsonl"), f"{where}: metrics.jsonl")
    written = reports(text("predictions.jsonl"), f"{where}: predictions.jsonl")
    counts = [len({path[0] for path in steps}), len({path[0] for path in written}) - 1]
    for count, least, what in zip(counts, (STEPS, REPORTS), ("steps", "reports"), strict=True):
        if count < least:
            raise BadInput(f"{where}: the run has {count} {what}, expected {least} or more")
    texts = {value for path, value in written.items() if path[1:] == ("prediction",)}
    tables = {(name, *path): line for name in OUTPUTS[2:] for path, line in lines(text(name)).items()}
    return {
        "data": (flat(json.loads(text("data.json"))), "{} files"),
        "losses": (steps, f"{counts[0]} steps, {{}} values"),
        "validation": (validations, "{} values"),
        "weights": (flat(json.loads(text("weights.json"))), "{} tensors"),
        "reports": (written, f"{counts[1]} ({len(texts)} different), {{}} values"),
        "scores": (scores(json.loads(text("report.json")), json.loads(text("env.json"))), "{} values"),
        "tables": (tables, "{} lines"),
    }


# ---- keeping what a commit gave ----


def kept_as(side: Side, keep: Path | None) -> Path | None:
    """Where the outputs of a commit are kept: named by commit, this script, the libraries and the machine."""
    if keep is None or side.commit is None:
        return None
    surroundings = [sys.version, platform.node(), platform.platform(), *(f"{n} {_version(n)}" for n in LIBRARIES)]
    mark = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(surroundings).encode()).hexdigest()
    return keep / f"{side.commit}-{mark[:12]}"


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def outputs_of(side: Side, keep: Path | None, place: Path, reuse: bool = True) -> Path:
    """The outputs of one side: kept ones, where they may be reused, or of a run."""
    kept = kept_as(side, keep)
    if reuse and kept is not None and kept.is_dir():
        print(f"{side}: kept in {kept}")
        return kept
    start = time.monotonic()
    outputs = run_side(side, place)
    print(f"{side}: {time.monotonic() - start:.0f} s")
    if kept is not None and not kept.exists():
        partial = kept.with_name(f".{kept.name}.partial-{os.getpid()}")
        try:
            shutil.copytree(outputs, partial)
            os.replace(partial, kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return outputs


# ---- the command ----

ENDING = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))  # Windows has no SIGHUP


@contextmanager
def on_signals(handler, numbers: Iterable[int]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def undisturbed():
    """Cleaning up takes a moment and is done to its end, whoever asks to stop."""
    return on_signals(signal.SIG_IGN, (signal.SIGINT, *ENDING))


def interrupt(number, frame) -> None:
    raise KeyboardInterrupt


def same(a: Path, b: Path) -> bool:
    """Compare two folders of outputs and print what is found."""
    equal = True
    for name in RECIPES:
        of_a, of_b = parts(a / name), parts(b / name)
        for part, (values, what) in of_a.items():
            found = compare(part, values, of_b[part][0])
            print(told(f"{name} {part}", found, what))
            equal &= not found.differences
    return equal


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="a git revision, or . for the working tree")
    parser.add_argument("after", help="likewise")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what commits gave, and reuse it")
    options = parser.parse_args(arguments)
    with on_signals(interrupt, ENDING):
        place = Path(tempfile.mkdtemp(prefix="same_numbers-"))
        try:
            equal = run_and_compare(options.before, options.after, options.keep, place)
        except (BadInput, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return BAD_INPUT
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        finally:
            with undisturbed():
                shutil.rmtree(place, ignore_errors=True)
    print("nothing moved" if equal else "NOT the same numbers")
    return EQUAL if equal else DIFFERENT


def run_and_compare(before: str, after: str, keep: Path | None, place: Path) -> bool:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is told now, not after the runs
    a, b = resolve("A", before), resolve("B", after)
    first = outputs_of(a, keep, place / "A")
    # A commit beside itself: the question is whether it gives the same again.
    second = outputs_of(b, keep, place / "B", reuse=a.commit != b.commit)
    return same(first, second)


if __name__ == "__main__":
    sys.exit(main())
