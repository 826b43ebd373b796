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
from revtaf.config import RunSettings
from revtaf.config_file import changes, load_settings
from revtaf.engine.checkpoint import META, SETTINGS, WEIGHTS, check_identity, load_weights
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import digest, read_json, sha256, told_as_damage, write_json

MANIFEST = "model.json"
FORMAT = 2  # 1: a report decoder of another layout
CORE = (SETTINGS, META, WEIGHTS)
OPTIONAL = ("reports.jsonl", "knowledge/tfidf/")  # texts, and words, of the training set, which may not be shared
BEST = Path("checkpoints") / "best"
REMEDY = "copy the folder again"


def finish(folder: Path, system: System) -> None:
    """Make the best checkpoint of `system`'s finished run a model; main process only. Loads its weights."""
    (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier, unfinished state: its hashes are about to change
    meta = read_json(folder / META, "checkpoint")
    # Earlier versions had the entries of the identity beside the others.
    check_identity(folder, meta.get("identity") or {key: meta[key] for key in system.identity() if key in meta}, system)
    load_weights(folder / WEIGHTS, system.accelerator.unwrap_model(system.model))
    system.finish(folder)
    names, mode = model_files(folder), (folder / SETTINGS).stat().st_mode
    for name in names:  # safetensors writes for the owner alone; whoever may read the settings may read the model
        (folder / name).chmod(mode)
    content = {
        "format": FORMAT,
        "revtaf": __version__,
        "system": system.settings.system,
        "files": {name: sha256(folder / name) for name in names},
        "external": {key: _hashes(paths) for key, paths in system.external().items()},
        "annotation": _annotation(system.settings),
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
            f"{folder} is a run that is not finished, or of an earlier version: {MANIFEST} is missing; the command "
            "that began it finishes it, and `revtaf test` does for its best epoch so far"
        )
    raise UserError(f"{folder} is no model: it has neither {MANIFEST} nor {BEST / MANIFEST}")


def model_identity(folder: Path) -> dict[str, str]:
    """Which model a folder is: its `system`, and a `digest` that changes with any of its files, or of the external
    weights that it needs, and not with the place."""
    content = read_json(folder / MANIFEST, "model")
    try:
        made_of = digest(content["files"], content.get("external", {}))
        return {"system": content["system"], "digest": made_of}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / MANIFEST} is damaged; copy the folder again") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its format checked, and every file compared with it. UserError names what does not fit."""
    content = read_json(folder / MANIFEST, "model")
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise UserError(f"{folder / MANIFEST} is damaged; copy the folder again")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{folder} is a model of format {content.get('format')} (revtaf {content.get('revtaf')}), this is revtaf "
            f"{__version__}, which reads format {FORMAT}; train it anew, or open it with the version that wrote it"
        )
    files = content["files"]
    if lacking := [name for name in CORE if name not in files]:
        raise UserError(f"{folder / MANIFEST} is damaged: it does not name {', '.join(lacking)}; copy the folder again")
    if strange := [name for name in model_files(folder) if name not in files and _counts(name)]:
        raise UserError(f"{folder / strange[0]} does not belong to the model: {MANIFEST} does not name it; remove it")
    for name, expected in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{folder / MANIFEST} names a file outside of the folder: {name}")
        if not path.is_file():
            if name.startswith(OPTIONAL):
                continue
            raise UserError(f"{path} is missing; copy the folder again")
        if sha256(path) != expected:
            raise UserError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}; copy the folder again")
    return content


def model_files(folder: Path) -> list[str]:
    """Files of a model, the manifest and what a killed process left aside."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(p.as_posix() for p in found if p.name != MANIFEST and not any(part[0] == "." for part in p.parts))


def _counts(name: str) -> bool:
    """Whether a file would be read when a model is opened: whoever adds a note beside it does no harm."""
    return "/" in name or name.endswith((".safetensors", ".json", ".jsonl", ".yaml"))


def open_model(folder: Path, accelerator: Accelerator, settings: RunSettings) -> System:
    """The system in a model's folder. settings: the folder's own, with other places, data or generation."""
    check_architecture(folder, settings)
    manifest = read_manifest(folder)
    if manifest.get("system") != settings.system:
        raise UserError(f"{folder} is a model of system '{manifest.get('system')}', not '{settings.system}'")
    with told_as_damage(folder, REMEDY):
        system = systems.find(settings.system).open(folder, settings, accelerator)
        for key, paths in system.external().items():
            _check_external(folder, key, manifest.get("external", {}).get(key, {}), paths)
    load_weights(folder / WEIGHTS, system.model)
    system.model.to(accelerator.device).eval()
    return system


def check_architecture(folder: Path, settings: RunSettings) -> None:
    """UserError where the configured architecture is not that of the checkpoint; where files lie, and where its
    training began, does not count."""
    saved = load_settings(folder / SETTINGS, bases=False)
    if saved.system != settings.system:
        raise UserError(f"{folder} is a checkpoint of system '{saved.system}', not '{settings.system}'")
    sections = tuple(f"{name}." for name in settings.architecture)
    found = [(key, a, b) for key, a, b in changes(saved, settings, settings.beginnings) if key.startswith(sections)]
    if found:
        raise UserError(
            f"{folder} is a checkpoint of another architecture (checkpoint -> configuration): "
            + "; ".join(f"{key}: {a} -> {b}" for key, a, b in found)
        )


def check_annotation(folder: Path, settings: RunSettings) -> None:
    """UserError where the annotation of the training set is there, and not the one that the model was trained on."""
    trained, found = read_json(folder / MANIFEST, "model").get("annotation"), _annotation(settings)
    if trained and found and trained != found:
        raise UserError(
            f"{folder} was trained on another annotation than {settings.training_data.annotation}; name another folder "
            "with run=FOLDER, or delete this one"
        )


def _annotation(settings: RunSettings) -> str:
    path = Path(settings.training_data.annotation)
    return sha256(path) if path.is_file() else ""


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: sha256(path) for path in paths}


def _check_external(folder: Path, key: str, expected: Mapping[str, str], paths: Sequence[Path]) -> None:
    """The files that are there are those of the manifest; one that is absent is asked for when it is needed."""
    for path in paths if expected else ():
        alone = len(expected) == 1 == len(paths)  # under whatever name
        known = next(iter(expected.values())) if alone else expected.get(path.name, "")
        if path.is_file() and sha256(path) != known:
            raise UserError(
                f"{key}: {path} is another file than {folder} was trained with, whose SHA-256 begins with "
                f"{known[:12] or 'that of ' + ', '.join(expected)}; name the right one with {key}=PATH"
            )
