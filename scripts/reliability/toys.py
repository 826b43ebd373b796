"""Toy data and toy settings for the reliability commands: the tests' own, on a tiny phantom set."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from medfuse_tiny import MEDFUSE  # noqa: E402
from tiny import TINY  # noqa: E402
from trrg_tiny import FIRST, SECOND  # noqa: E402

# Epochs and states enough that most moments lie behind two states, so that either may be damaged, and before another.
QUICK = ("threads=1", "train.epochs=4", "train.checkpoint_minutes=0.05")
QUICK += ("eval.resamples=0", "eval.samples=0", "generation.beams=1")
STAGE1 = "trrg stage 1"  # trained once, undisturbed: the second stage begins with it
SYSTEMS = {
    "revtaf": (TINY, ()),
    "revtaf, learned retrieval": (TINY, ("lre.grp_source=learned", "lre.steps=6")),
    "revtaf, staged": (TINY, ("train.schedule=staged", "trunk.epochs=2", "trunk.batch_size=8")),
    "medfuse": (MEDFUSE, ()),
    "trrg": (SECOND, ()),
}


def make_phantom(folder: Path, images: int = 60) -> Path:
    """A phantom set of small images in `folder`."""
    from revtaf.data.sources.phantom.prepare import prepare_phantom

    prepare_phantom(folder, images=images, seed=3, size=72, progress=False)
    return folder


def write_config(path: Path, content: dict, phantom: Path, run: Path) -> Path:
    """A toy's settings as a YAML file; features lie beside it, the run in `run`."""
    data = {"name": "phantom", "annotation": str(phantom / "annotation.json"), "images": str(phantom / "images")}
    data["features"] = str(path.with_suffix(".features"))
    path.write_text(yaml.safe_dump(content | {"run": str(run), "data": data}), encoding="utf-8")
    return path


def command(name: str, place: Path, phantom: Path, run: Path) -> list[str]:
    """The arguments behind `revtaf train` and `revtaf test` for one of SYSTEMS."""
    content, flags = SYSTEMS[name]
    if name == "trrg":
        content = content | {"stage1": str(place / "stage1")}
    quick = [flag for flag in QUICK if not (flag.startswith("generation.") and "generation" not in content)]
    config = write_config(place / f"{name.replace(', ', '-').replace(' ', '-')}.yaml", content, phantom, run)
    return ["--config", str(config), *quick, *flags]


def stage1_command(place: Path, phantom: Path) -> list[str]:
    """The arguments behind `revtaf train` for the run that TRRG's second stage begins with."""
    config = write_config(place / "stage1.yaml", FIRST, phantom, place / "stage1")
    return ["--config", str(config), "threads=1"]
