"""`revtaf export`: a trained model as a folder that travels: to another disk, a colleague, a hub.

    README.md                 the model card; a note: it may be edited
    results.json              the tables of the run's tests, for the card
    reports.jsonl             the training reports, or not (--without-reports); --reports attaches them again
    model.json and the rest   as in the run's checkpoints/best (`revtaf.engine.folder`), without places of this machine

Hashes are made anew: settings and notes no longer name files of this machine. The hash of reports that were left out
stays, so that only the same reports can be attached.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from revtaf.commands.model_card import CARD, model_card
from revtaf.config_file import load_settings
from revtaf.data.annotations import load_annotations
from revtaf.engine.checkpoint import META, SETTINGS
from revtaf.engine.folder import BEST, MANIFEST, find_model, model_files, read_manifest
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, read_yaml, sha256, write_json

REPORTS, RESULTS = "reports.jsonl", "results.json"
# A path from the root within a sentence: at least two names, not behind a word (and/or), a host or a home.
_PLACE = re.compile(r"(?<![\w.:/~])(?:/[^\s/,;:()'\"]+)+/([^\s/,;:()'\"]+)")


@dataclass
class ExportRequest:
    """What the command line asks for; see `revtaf export --help`."""

    checkpoint: Path
    out: Path
    without_reports: bool = False
    reports: Path | None = None


def export(request: ExportRequest) -> Path:
    """Make the folder, in one step; returns it. UserError where it is there and not empty, and for reports that are not
    those of the training set."""
    if request.without_reports and request.reports:
        raise UserError("--without-reports leaves the reports out, --reports attaches them: give one of the two")
    if request.out.is_file() or (request.out.is_dir() and any(request.out.iterdir())):
        raise UserError(f"{request.out} is there already; name a new folder, or empty this one")
    place = find_model(request.checkpoint)
    manifest = read_manifest(place)
    attached = None if request.reports is None else _reports(request.reports, place, manifest)
    results = _results(place)
    with atomic_folder(request.out) as partial:
        for name in model_files(place):
            if name != CARD and not (name == REPORTS and (request.without_reports or attached is not None)):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place / name, partial / name)
        if attached is not None:
            (partial / REPORTS).write_bytes(attached)
        for path in sorted(partial.rglob("*")):
            if path.name in (SETTINGS, META, "config.json"):
                _without_places(path)
        write_json(partial / RESULTS, results)
        files = manifest["files"] | {name: sha256(partial / name) for name in model_files(partial)}
        card = model_card(partial, manifest, results)
        (partial / CARD).write_text(card, encoding="utf-8")
        content = manifest | {"files": files, "documents": {CARD: sha256(partial / CARD)}}
        write_json(partial / MANIFEST, content)
    return request.out


def _reports(path: Path, place: Path, manifest: dict[str, Any]) -> bytes:
    """The reports.jsonl that the model was made with, from an annotation or from itself."""
    expected = manifest["files"].get(REPORTS)
    if expected is None:
        raise UserError(f"{place} is a model that keeps no reports; there is nothing to attach")
    if not path.is_file():
        raise UserError(f"--reports: no such file: {path}")
    if path.suffix == ".jsonl":
        content = path.read_bytes()
    else:
        data = load_settings(place / SETTINGS, bases=False).training_data
        studies = load_annotations(path).get("train", [])[: data.max_samples]
        lines = [json.dumps({"id": s.id, "report": s.report}, ensure_ascii=False) + "\n" for s in studies]
        content = "".join(lines).encode()
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"--reports: {path} does not hold the reports that this model was trained on, all of them and in their "
            f"order; name the annotation of its training set, or the {REPORTS} of its run. Reports of another set are "
            "searched with `revtaf index` and `revtaf search`"
        )
    return content


def _results(place: Path) -> dict[str, str]:
    """Test -> its table in Markdown: those of the run's folder, or those that came with the model. Controls, which read
    the answer, are left out."""
    if (place / RESULTS).is_file():
        return read_json(place / RESULTS, "results")
    found, place = {}, place.resolve()
    of_run = place.parts[-len(BEST.parts) :] == BEST.parts
    for table in sorted(place.parents[1].glob("*/table.md")) if of_run else ():
        report = table.with_name("report.json")
        if report.is_file() and "control" not in read_json(report, "report").get("run", {}):
            found[table.parent.name] = table.read_text(encoding="utf-8")
    return found


def _without_places(path: Path) -> None:
    """Rewrite settings or notes without the folders of this machine."""
    if path.suffix == ".yaml":
        content = read_yaml(path, "model")
        path.write_text(yaml.safe_dump(_moved(content), sort_keys=False), encoding="utf-8")
    else:
        write_json(path, _moved(read_json(path)))


def _moved(content: Any) -> Any:
    """The same with the last name alone of every absolute path."""
    if isinstance(content, dict):
        return {key: _moved(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_moved(value) for value in content]
    if not isinstance(content, str):
        return content
    if Path(content).is_absolute():
        return Path(content).name
    return _PLACE.sub(r"\1", content)
