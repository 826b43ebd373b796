"""`revtaf export`: a trained model as a folder that travels: to another disk, a colleague, a hub.

    README.md                 the model card; a note: it may be edited
    results.json              the tables of the run's tests, for the card
    reports.jsonl             the training reports, or not (--without-reports); --reports attaches them again
    training.jsonl            whose reports these are, in their order
    model.json and the rest   as in the run's checkpoints/best (`revtaf.engine.folder`), without places of this machine

Hashes are made anew: settings and notes no longer name files of this machine. The hash of reports that were left out
stays, so that only the same reports can be attached. Which studies a system trains on is its own choice (a split made
anew, images that can be read), so training.jsonl tells them: {"study", "so_far"}, the first digits of the SHA-256 of
the study's id, and of reports.jsonl up to this line. It tells where another annotation differs, and nothing of a study
or a report to whoever lacks it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from revtaf.commands.model_card import CARD, model_card
from revtaf.commands.recipe import ENTRY, MODEL
from revtaf.config import places
from revtaf.config_file import load_settings
from revtaf.data.annotations import Study, load_annotations
from revtaf.engine.checkpoint import META, SETTINGS
from revtaf.engine.folder import BEST, MANIFEST, find_model, model_files, model_identity, read_manifest
from revtaf.engine.runtime import jsonl_line, read_jsonl, write_jsonl
from revtaf.errors import UserError
from revtaf.files import atomic_folder, read_json, read_yaml, sha256, write_json

REPORTS, TRAINING, RESULTS = "reports.jsonl", "training.jsonl", "results.json"
DIGITS = 8  # of "so_far"; by chance alone one of 4 billion other reports has the same
_FIX = (
    f"name the annotation of its training set, or the {REPORTS} of its run. Reports of another set are searched with "
    "`revtaf index` and `revtaf search`"
)
# A path from the root within a sentence: at least two names, not behind a word (and/or), a host or a home.
_PLACE = re.compile(r"(?<![\w.:/~])(?:/[^\s/,;:()<>'\"]+)+/([^\s/,;:()<>'\"]+)")
# A setting of any kind that is one as a whole; blanks are allowed, as nothing stands around it.
_WHOLE = re.compile(r"(?:/[^/<>{}\n]+){2,}/?")


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
        if trained_on := _trained_on(partial) or _trained_on(place):
            write_jsonl(partial / TRAINING, trained_on)
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
    content = path.read_bytes() if path.suffix == ".jsonl" else _of_annotation(path, place)
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"--reports: {path} does not hold the reports that this model was trained on, all of them and in their "
            f"order; {_FIX}. A folder without {TRAINING}, of an earlier version, does not say whose reports it lacks: "
            "export its run anew"
        )
    return content


def _of_annotation(path: Path, place: Path) -> bytes:
    """The same from an annotation. UserError names the first study that it lacks, or whose report is another one."""
    annotations = load_annotations(path)
    trained_on = _trained_on(place)
    if not trained_on:  # of an earlier version: the training split as it is
        data = load_settings(place / SETTINGS, bases=False).training_data
        return b"".join(
            jsonl_line(_record(study)).encode() for study in annotations.get("train", [])[: data.max_samples]
        )
    studies = {_mark(study.id): study for split in annotations.values() for study in split}
    state, lines = hashlib.sha256(), []
    for number, trained in enumerate(trained_on, 1):
        study = studies.get(trained["study"])
        if study is not None:
            lines.append(jsonl_line(_record(study)).encode())
            state.update(lines[-1])
        if study is None or state.hexdigest()[:DIGITS] != trained["so_far"]:
            absent = f"number {number} of {len(trained_on)} is missing"
            wrong = absent if study is None else f"study {study.id!r} has another text"
            raise UserError(
                f"--reports: {path} does not hold the reports that this model was trained on: {wrong}; {_FIX}"
            )
    return b"".join(lines)


def _trained_on(folder: Path) -> list[dict[str, Any]]:
    """The lines of training.jsonl: as the folder has them, else of its reports; none where it has neither."""
    if (folder / TRAINING).is_file():
        return read_jsonl(folder / TRAINING)
    state, found = hashlib.sha256(), []
    for record in read_jsonl(folder / REPORTS):
        state.update(jsonl_line(record).encode())
        found.append({"study": _mark(str(record.get("id"))), "so_far": state.hexdigest()[:DIGITS]})
    return found


def _mark(study: str) -> str:
    """What stands for an id: a folder without reports names no study of a restricted set."""
    return hashlib.sha256(study.encode()).hexdigest()[: 2 * DIGITS]


def _record(study: Study) -> dict[str, str]:
    """What every system keeps of a training study in reports.jsonl."""
    return {"id": study.id, "report": study.report}


def _results(place: Path) -> dict[str, str]:
    """Test -> its table in Markdown: those of the run's folder, or those that came with the model. Controls, which read
    the answer, are left out, and so are tests of weights that the run no longer has."""
    if (place / RESULTS).is_file():
        return read_json(place / RESULTS, "results")
    found, place = {}, place.resolve()
    of_run = place.parts[-len(BEST.parts) :] == BEST.parts
    model = model_identity(place)
    for table in sorted(place.parents[1].glob("*/table.md")) if of_run else ():
        report = table.with_name("report.json")
        content = read_json(report, "report") if report.is_file() else {"run": {"control": ""}}
        of_model = content.get(ENTRY, {}).get(MODEL, model) == model  # not those of an earlier best epoch
        if of_model and "control" not in content.get("run", {}):
            found[table.parent.name] = table.read_text(encoding="utf-8")
    return found


def _without_places(path: Path) -> None:
    """Rewrite settings or notes without the folders of this machine."""
    if path.name == SETTINGS:
        paths = set(places(type(load_settings(path, bases=False))))
        content = _changed(read_yaml(path, "model"), lambda text, key: _moved_setting(text, key in paths))
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    elif path.name == META:
        write_json(path, _changed(read_json(path), lambda text, _: _moved_note(text)))
    else:  # a language model's settings
        write_json(path, _changed(read_json(path), lambda text, _: _moved_setting(text)))


def _changed(content: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """The same with change(text, key) in the place of every text; key: as in "data.images"."""
    if isinstance(content, dict):
        return {name: _changed(value, change, f"{key}.{name}".strip(".")) for name, value in content.items()}
    if isinstance(content, list):
        return [_changed(value, change, key) for value in content]
    return change(content, key) if isinstance(content, str) else content


def _moved_setting(text: str, is_path: bool = False) -> str:
    """The last name of an absolute path; a text of another kind (a template, a prefix) has to be one as a whole."""
    absolute = Path(text).is_absolute() if is_path else _WHOLE.fullmatch(text)
    return Path(text).name if absolute else text


def _moved_note(text: str) -> str:
    """The same with the last name alone of every absolute path in the sentence."""
    return Path(text).name if _WHOLE.fullmatch(text) else _PLACE.sub(r"\1", text)
