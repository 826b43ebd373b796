"""Install sdist and wheel on several versions of Python, with the lowest and the newest packages allowed, and use them.

    pip install uv
    python scripts/reliability/install.py --out FOLDER [--pythons 3.10 3.13]

The first Python gets the wheel with the lowest versions that pyproject.toml names, the last the sdist with the newest.
Each then prepares a small phantom set, trains, tests, exports, and writes a report with the exported model, in a folder
of its own, from which the repository is not seen. Downloads several GB. Exit code 1 where something fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from toys import QUICK, ROOT, TINY, write_config  # noqa: E402

SHOWN = ("torch", "transformers", "numpy")


class Failed(Exception):
    """A command that did not end well, with the end of what it said."""


def call(*command: str | Path, cwd: Path | None = None) -> str:
    """Run it; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def use(python: Path, place: Path) -> None:
    """What a new user does with it."""
    revtaf = python.parent / "revtaf"
    call(revtaf, "prepare", "phantom", "--out", "phantom", "--images", 60, "--size", 72, cwd=place)
    config = write_config(place / "tiny.yaml", TINY, place / "phantom", place / "run")
    quick = [*QUICK, "train.epochs=1"]
    call(revtaf, "train", "--config", config, *quick, cwd=place)
    call(revtaf, "test", "--config", config, *quick, cwd=place)
    call(revtaf, "export", "run", "model", cwd=place)
    image = next((place / "phantom" / "images").rglob("*.png"))
    if not call(revtaf, "generate", "--checkpoint", "model", image, cwd=place).strip():
        raise Failed("generate wrote nothing")


def attempt(python: str, package: Path, lowest: bool, out: Path) -> str:
    """A row of the table."""
    place, started = out / f"python{python}", time.monotonic()
    place.mkdir(parents=True)
    interpreter = place / "venv" / "bin" / "python"
    try:
        call("uv", "venv", "--python", python, place / "venv")
        limits: list[str | Path] = []
        if lowest:  # of what pyproject.toml names itself; what these need is the newest that they allow
            limits = ["--constraint", place / "lowest.txt"]
            asked = ("--resolution", "lowest-direct", "--output-file", limits[1])
            call("uv", "pip", "compile", "--python", interpreter, *asked, ROOT / "pyproject.toml")
        call("uv", "pip", "install", "--python", interpreter, *limits, package)
        listed = json.loads(call("uv", "pip", "list", "--python", interpreter, "--format", "json"))
        versions = ", ".join(f"{p['name']} {p['version']}" for p in listed if p["name"] in SHOWN)
        use(interpreter, place)
        outcome = "all commands ran"
    except Failed as error:
        versions, outcome = "", "failed"
        print(error, file=sys.stderr)
    shutil.rmtree(place / "venv", ignore_errors=True)
    kind = "wheel" if package.suffix == ".whl" else "sdist"
    cells = (python, kind, "lowest" if lowest else "newest", versions, outcome, f"{time.monotonic() - started:.0f} s")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a scratch folder; its content is replaced")
    parser.add_argument("--pythons", nargs="+", default=["3.10", "3.13"], help="the lowest first")
    options = parser.parse_args()
    if not shutil.which("uv"):
        raise SystemExit("uv makes the environments: pip install uv")
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    call("uv", "build", "--out-dir", out / "packages", ROOT)
    (wheel,), (sdist,) = (list((out / "packages").glob(end)) for end in ("*.whl", "*.tar.gz"))
    rows = ["| Python | package | versions | of them | outcome | time |", "|---|---|---|---|---|---|"]
    for i, python in enumerate(options.pythons):
        lowest = i == 0
        rows.append(attempt(python, wheel if lowest else sdist, lowest, out))
        print("\n".join(rows), flush=True)
    (out / "table.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
