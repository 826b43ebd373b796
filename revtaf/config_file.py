"""Configuration files: YAML with `base:` inheritance, `key=value` overrides, strict keys with the nearest match.

`system:` chooses whose settings they are (`revtaf.systems`). The resolved settings are written into the run folder by
`save_settings`.
"""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from revtaf import systems
from revtaf.config import RunSettings, Section, places
from revtaf.errors import UserError, nearest
from revtaf.files import atomic_write, parse_yaml, read_yaml

log = logging.getLogger("revtaf")


def load_settings(path: str | Path, overrides: list[str] | tuple[str, ...] = (), bases: bool = True) -> RunSettings:
    """Read a YAML file, its bases first, then apply `key=value` overrides. Raises UserError; also for a base, if the
    file may have none: then it was saved whole, and keys that it lacks have the value they had before they came."""
    content = read_config(path, bases)
    if not bases:
        content = _merge(_schema(content, str(path)).unsaid, content)
    return changed_settings(content, overrides, str(path))


def read_config(path: str | Path, bases: bool = True) -> dict[str, Any]:
    """The content of a YAML file with its bases, not yet checked. Raises UserError; also for a base, if it may have
    none."""
    return _read(Path(path), () if bases else None)


def changed_settings(content: dict[str, Any], overrides: list[str] | tuple[str, ...], where: str) -> RunSettings:
    """Settings of a read file after `key=value` overrides; `content` stays as it is. Raises UserError."""
    content = copy.deepcopy(content)
    given = [_parse(override) for override in overrides]
    for key, value, _ in given:
        if key == "system":  # first: it says which keys there are
            content["system"] = value
    model = _schema(content, where)
    for key, value, override in given:
        _apply(content, _today(key, model, override), value, model, override)
    return parse_settings(content, where)


def of_training(overrides: Sequence[str]) -> list[str]:
    """Of overrides of a test on another set than the model was trained on, those of the training, where the set
    `trained_on` is `data`."""
    kept = [override for override in overrides if not override.startswith("data.")]
    return ["data." + o.removeprefix("trained_on.") if o.startswith("trained_on.") else o for o in kept]


def parse_settings(content: dict[str, Any], where: str) -> RunSettings:
    """Check a mapping against the schema of its system; errors name the key and the nearest known one."""
    model = _schema(content, where)
    _check_keys(content, model, where, "")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if not key:  # a rule about several keys
            raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
        raise UserError(f"{where}: {key}: {first['msg']} (got {first['input']!r})") from None


def differences(a: dict, b: dict, free: tuple[str, ...] = (), prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Where two dumps of settings differ: (key, value in a, value in b); `free` keys aside, and sections of `free`,
    which end in a dot."""
    sections = tuple(key for key in free if key.endswith("."))
    result = []
    for key in {**a, **b}:
        name, before, now = prefix + key, a.get(key), b.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            result += differences(before, now, free, f"{name}.")
        elif before != now and name not in free and not name.startswith(sections):
            result.append((name, before, now))
    return result


def changes(before: RunSettings, now: RunSettings, free: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    """What one run has otherwise than another, `free` keys aside, and wherever a file lies: a path in the place of
    another is no change, a path in the place of none is."""
    moved = set(places(type(now)))
    found = differences(before.model_dump(mode="json"), now.model_dump(mode="json"), free)
    return [(key, a, b) for key, a, b in found if key not in moved or a is None or b is None]


def save_settings(path: str | Path, settings: RunSettings) -> None:
    """Write settings as YAML that `load_settings` reads back."""
    with atomic_write(path) as partial:
        content = settings.model_dump(mode="json")
        partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 5e-5 as a text; this reads it as the number that everybody means. A key that stands twice is an
    error: the library would forget the first one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """The library's hook for keys and values."""
        merge = "tag:yaml.org,2002:merge"
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != merge]
        if twice := [key for key in keys if keys.count(key) > 1]:
            told = f"the key {twice[0]!r} appears twice; keep one"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def _read(path: Path, seen: tuple[Path, ...] | None, system: Any = None) -> dict[str, Any]:
    """seen: files that name this one as base, None where no base may be; system: the one that they name."""
    if seen and Path(os.path.realpath(path)) in seen:
        raise UserError(f"{path}: `base:` refers back to itself")
    asked = f", named as base by {seen[-1].name}" if seen else ""
    content = read_yaml(path, f"configuration{asked}", _Loader) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, got {type(content).__name__}")
    base = content.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UserError(f"{path}: base: expected the name of a file, got {base!r}")
    system = system or content.get("system")
    inherited = {}
    if base is not None:
        if seen is None:
            raise UserError(f"{path}: `base: {base}` leads out of the folder of a model, whose settings are whole")
        inherited = _read(path.parent / base, (*seen, Path(os.path.realpath(path))), system)
        system = system or inherited.get("system")
    return _merge(inherited, _renamed(content, _schema({"system": system} if system else {}, str(path)), str(path)))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _schema(content: dict[str, Any], where: str) -> type[RunSettings]:
    name = content.get("system", RunSettings.model_fields["system"].default)
    if not isinstance(name, str):
        raise UserError(f"{where}: system: expected a name, got {name!r}")
    return systems.find(name).settings


def _renamed(content: dict[str, Any], model: type[RunSettings], where: str) -> dict[str, Any]:
    """The content of one file with the keys of earlier versions under today's names."""
    content = copy.deepcopy(content)
    for old, new in model.renamed.items():
        *parents, key = old.split(".")
        place = content
        for part in parents:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict) and key in place:
            if new.split(".")[-1] in place:
                raise UserError(f"{where}: '{old}' is the earlier name of '{new}'; keep one of them")
            place[new.split(".")[-1]] = place.pop(key)
            log.info("note: %s: '%s' is now called '%s'", where, old, new)
    return content


def _today(key: str, model: type[RunSettings], override: str) -> str:
    """The key of an override, if need be under today's name."""
    for old, new in model.renamed.items():
        if key == old or key.startswith(f"{old}."):
            log.info("note: override %r: '%s' is now called '%s'", override, old, new)
            return new + key[len(old) :]
    return key


def _parse(override: str) -> tuple[str, Any, str]:
    """key=value -> (key, value, the override as it was given)."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise UserError(f"override {override!r}: expected key=value, for example train.batch_size=8")
    try:
        value = parse_yaml(text, _Loader)
    except ValueError:
        value = text
    return key, value, override


def _apply(content: dict[str, Any], key: str, value: Any, model: type[RunSettings], override: str) -> None:
    _check_path(key.split("."), model, override)
    for part in key.split(".")[:-1]:
        if not isinstance(content.get(part), dict):
            content[part] = {}
        content = content[part]
    content[key.split(".")[-1]] = value


def _check_path(parts: list[str], settings: type[RunSettings], override: str) -> None:
    model: type[BaseModel] | None = settings
    for i, part in enumerate(parts):
        if model is None:
            raise UserError(f"override {override!r}: '{'.'.join(parts[:i])}' is a value, not a section")
        if part not in model.model_fields:
            raise UserError(f"override {override!r}: {_unknown(part, model, '.'.join(parts[:i]))}")
        model = _section(model, part)


def _check_keys(content: dict[str, Any], model: type[BaseModel], where: str, prefix: str) -> None:
    for key, value in list(content.items()):
        if key in model.gone:  # of a run of an earlier version
            if value != model.gone[key]:
                log.warning("%s: '%s: %s' is a setting of an earlier version and does nothing now", where, key, value)
            del content[key]
            continue
        if key not in model.model_fields:
            raise UserError(f"{where}: {_unknown(str(key), model, prefix)}")
        inner = _section(model, key)
        if inner is not None and isinstance(value, dict):
            _check_keys(value, inner, where, f"{prefix}.{key}".strip("."))


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section that a key holds, `DataSettings | None` included; None for a plain value."""
    annotation = model.model_fields[key].annotation
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _unknown(key: str, model: type[BaseModel], prefix: str) -> str:
    prefix = f"{prefix}." if prefix else ""
    return f"unknown key '{prefix}{key}'; {nearest(key, model.model_fields, prefix)}"
