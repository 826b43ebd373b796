"""A folder is a model: the best checkpoint with everything that opening it needs.

    config.yaml  meta.json  model.safetensors     written with every new best epoch, with what the system adds
    ...                                           written once, after training (`System.finish`)
    model.json                                    last: format, version, system, SHA-256 of every file

`model.json` makes it a model: without it the folder belongs to a run that is not finished. External weights are named
by their hash, never copied. Opening one checks format and hashes, loads strictly, and runs no code of the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from revtaf import __version__, systems
from revtaf.config import RunSettings, places
from revtaf.config_file import load_settings
from revtaf.engine.checkpoint import META, SETTINGS, WEIGHTS, check_identity, load_weights
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import read_json, sha256, write_json

MANIFEST, FORMAT = "model.json", 1
OPTIONAL = frozenset({"reports.jsonl"})  # texts of the training set, which may not be shared
BEST = Path("checkpoints") / "best"


def finish(folder: Path, system: System) -> None:
    """Make the best checkpoint of `system`'s finished run a model; main process only. Loads its weights."""
    check_identity(folder, read_json(folder / META).get("identity"), system)
    load_weights(folder / WEIGHTS, system.accelerator.unwrap_model(system.model))
    system.finish(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    content = {
        "format": FORMAT,
        "revtaf": __version__,
        "system": system.settings.system,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files)},
        "external": {key: _hashes(paths) for key, paths in system.external().items()},
    }
    write_json(folder / MANIFEST, content)


def is_model(folder: Path) -> bool:
    """Whether the folder is complete."""
    return (folder / MANIFEST).is_file()


def find_model(folder: str | Path) -> Path:
    """The model's folder: `folder` itself, or the best checkpoint of the run in it. UserError where there is none."""
    folder = Path(folder)
    for place in (folder, folder / BEST):
        if is_model(place):
            return place
    if (folder / BEST / WEIGHTS).is_file() or (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder} is a run that is not finished: {MANIFEST} is missing; finish it with the command that began it"
        )
    raise UserError(f"{folder} is no model: it has neither {MANIFEST} nor {BEST / MANIFEST}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its format checked, and every file compared with it. UserError names what does not fit."""
    content = read_json(folder / MANIFEST, "model")
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise UserError(f"{folder / MANIFEST} is damaged; copy the folder again")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{folder} is a model of format {content.get('format')} (revtaf {content.get('revtaf')}), this is revtaf "
            f"{__version__}, which reads format {FORMAT}; open it with that version"
        )
    for name, expected in content["files"].items():
        path = folder / name
        if not path.is_file():
            if name in OPTIONAL:
                continue
            raise UserError(f"{path} is missing; copy the folder again")
        if sha256(path) != expected:
            raise UserError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}; copy the folder again")
    return content


def open_model(folder: Path, accelerator: Accelerator, settings: RunSettings) -> System:
    """The system in a model's folder. settings: the folder's own, with other places, data or generation."""
    check_architecture(folder, settings)
    manifest = read_manifest(folder)
    if manifest["system"] != settings.system:
        raise UserError(f"{folder} is a model of system '{manifest['system']}', not '{settings.system}'")
    system = systems.find(settings.system).open(folder, settings, accelerator)
    for key, paths in system.external().items():
        _check_external(folder, key, manifest["external"].get(key, {}), paths)
    load_weights(folder / WEIGHTS, system.model)
    system.model.to(accelerator.device).eval()
    return system


def check_architecture(folder: Path, settings: RunSettings) -> None:
    """UserError where the configured architecture is not that of the checkpoint; where files lie does not count."""
    saved, found = load_settings(folder / SETTINGS), []
    moved = set(places(type(settings)))
    if saved.system != settings.system:
        raise UserError(f"{folder} is a checkpoint of system '{saved.system}', not '{settings.system}'")
    for section in settings.architecture:
        a, b = getattr(saved, section).model_dump(), getattr(settings, section).model_dump()
        keys = [key for key in a if f"{section}.{key}" not in moved]
        found += [f"{section}.{key}: {a[key]} -> {b[key]}" for key in keys if a[key] != b[key]]
    if found:
        raise UserError(
            f"{folder} is a checkpoint of another architecture (checkpoint -> configuration): " + "; ".join(found)
        )


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: sha256(path) for path in paths}


def _check_external(folder: Path, key: str, expected: Mapping[str, str], paths: Sequence[Path]) -> None:
    """The files that are there are those of the manifest; one that is absent is asked for when it is needed."""
    for path in paths:
        if path.is_file() and path.name in expected and sha256(path) != expected[path.name]:
            raise UserError(
                f"{key}: {path} is another file than {folder} was trained with, whose SHA-256 begins with "
                f"{expected[path.name][:12]}; name the right one with {key}=PATH"
            )
