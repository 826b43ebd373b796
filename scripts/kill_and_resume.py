"""Kill each `prepare` step at random moments, run it again, compare every byte with an undisturbed run.

    python scripts/kill_and_resume.py --out data/kills [--kills 5] [--seed 0] [--open-i FOLDER]

Works on the miniature MIMIC-CXR of the tests and on a small phantom set; with --open-i also on Open-i's XML and images.
SIGKILL leaves a process no chance to tidy up. Exit code 1 where a byte differs or a partial file is left.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, by its name; a link by where it leads."""
    result = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            result[name] = str(path.readlink()).encode()
        elif path.is_file():
            result[name] = path.read_bytes()
    return result


def call(arguments: list[str], after: float | None = None) -> bool:
    """Run the command, killed after so many seconds; whether it came to its end."""
    command = [sys.executable, "-m", "revtaf", "prepare", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        told = process.communicate(timeout=after)[1].decode()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{told[-2000:]}")
    return True


def attempt(name: str, arguments, out: Path, kills: int, draw: random.Random) -> bool:
    """`arguments(folder)` is the step's command line; the same folder name, so that paths in files are the same."""
    place = out / name
    shutil.rmtree(place, ignore_errors=True)
    start = time.monotonic()
    call(arguments(place))
    whole, seconds = contents(place), time.monotonic() - start
    shutil.rmtree(place)
    killed = sum(not call(arguments(place), draw.uniform(0.05, 1) * seconds) for _ in range(kills))
    call(arguments(place))
    again = contents(place)
    odd = sorted(n for n in whole.keys() | again.keys() if whole.get(n) != again.get(n))
    verdict = "same bytes" if not odd else f"DIFFERS in {odd[:5]}"
    print(f"{name:12} {len(whole):5} files, {seconds:5.1f} s undisturbed, killed {killed} of {kills} times: {verdict}")
    return not odd


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a scratch folder")
    parser.add_argument("--kills", type=int, default=5, help="per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open-i", type=Path, help="folder with the XML archive and images/")
    options = parser.parse_args()
    draw, out = random.Random(options.seed), options.out.resolve()
    raw, data = out / "raw", out / "data"
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, ROOT / "tests" / "mimic_files.py", raw], check=True, stdout=subprocess.DEVNULL)
    mimic = ["mimic_cxr", "--jpg", str(raw / "mimic-cxr-jpg"), "--reports", str(raw / "mimic-cxr-reports.zip")]
    call([*mimic, "--out", str(data)])
    features = ["features", "--config", "configs/mini.yaml", "data.packed=true"]
    features += [
        f"data.{name}={data / file}" for name, file in (("annotation", "annotation.json"), ("images", "images"))
    ]
    steps = {
        "mimic_cxr": lambda place: [*mimic, "--copy", "--out", str(place)],
        "features": lambda place: [*features, f"data.features={place}"],
        "phantom": lambda place: ["phantom", "--images", "40", "--size", "96", "--out", str(place)],
    }
    if options.open_i:
        source = ["iu_xray", "--source", str(options.open_i.resolve()), "--missing", "drop", "--split", "random"]
        steps["iu_xray"] = lambda place: [*source, "--copy", "--out", str(place)]
    results = [attempt(name, arguments, out, options.kills, draw) for name, arguments in steps.items()]
    shutil.rmtree(out)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
