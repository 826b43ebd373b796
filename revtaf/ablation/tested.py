"""What of a run is there already: tested and analysed, with the model, the settings and the data of today."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from revtaf.ablation.grid import Run, free_of_tests
from revtaf.commands import recipe as recipes
from revtaf.config import ADVANCED_MODELS, RunSettings
from revtaf.config_file import changes, load_settings
from revtaf.engine.checkpoint import find_last, read_progress
from revtaf.engine.folder import BEST, MANIFEST, find_model, is_model, model_identity
from revtaf.errors import UserError
from revtaf.eval import kept
from revtaf.files import read_json, real_path, sha256, state_of
from revtaf.system.analyses import ALIGNMENT, MADE_OF, RETRIEVAL, VERSION


def result_folder(run: Run, plain: bool = False) -> Path:
    """Where a run's test results are; `plain`: those of the model as it is, without the row's test settings."""
    return (run.plain if plain else run.tested).output


def ranks(folder: Path) -> bool:
    """Whether these results are rankings: a report without predictions."""
    path = folder / kept.REPORT
    return path.is_file() and read_json(path).get("kind") == kept.RANKINGS


def is_tested(run: Run) -> bool:
    """Whether the results are there: of the model, by the row's settings and of the data of today. Of which model and
    data they are, `test` writes into report.json; of a report of an earlier version, epoch and times decide."""
    folder, checkpoints = result_folder(run), Path(run.settings.run) / "checkpoints"
    # Texts are scored again where the statistics are gone; rankings are not.
    own = kept.FILE if ranks(folder) else "predictions.jsonl"
    needed = [folder / name for name in (kept.REPORT, "config.yaml", own)]
    last, best = find_last(checkpoints), checkpoints / "best" / "meta.json"
    if last is None or not all(path.is_file() for path in (*needed, best, run.tested.data.annotation)):
        return False
    report = read_json(needed[0])
    if not read_progress(checkpoints).get("finished") or not is_model(checkpoints / "best"):
        return False
    manifest = read_json(checkpoints / "best" / MANIFEST)
    if _another_model(manifest.get("external") or {}, run.settings):
        return False
    trained_on, annotation = manifest.get("annotation"), run.settings.data.annotation
    if trained_on and annotation.is_file() and trained_on != _hash_of(annotation):
        return False  # of another training set, which `train` then says
    if report["run"].get("checkpoint_epoch") != read_json(best)["epoch"]:
        return False
    if own == kept.FILE and kept.read(folder) is None:
        return False
    then, now = load_settings(folder / "config.yaml", bases=False), run.tested
    made_of = report.get(recipes.ENTRY) or {}
    if made_of.get(recipes.MODEL) and made_of[recipes.MODEL] != model_identity(checkpoints / "best"):
        return False
    if not _of_these_data(made_of.get(recipes.DATA) or {}, then, now, needed[0].stat().st_mtime):
        return False
    # Results with more than is asked for are fine; a model of the advanced metrics that they lack is not.
    for name in ADVANCED_MODELS:
        if getattr(now.eval, name) not in (None, getattr(then.eval, name)):
            return False
    return not changes(then, now, free_of_tests(now))


def is_analysed(run: Run) -> bool:
    """Whether the files of `revtaf analyse` are there: of this version, and of the model and the data of today. One of
    an earlier version does not say of which it is, and counts."""
    folder = result_folder(run, plain=True)
    found = [read_json(path) for path in (folder / RETRIEVAL, folder / ALIGNMENT) if path.is_file()]
    if not (folder / RETRIEVAL).is_file() or any(content.get("version") != VERSION for content in found):
        return False
    annotation = run.plain.data.annotation
    for made_of in (content[MADE_OF] for content in found if MADE_OF in content):
        if made_of["model"] != model_identity(Path(run.settings.run) / BEST):
            return False
        if not annotation.is_file() or made_of["annotation"] != _hash_of(annotation):
            return False
    return True


def _another_model(external: dict[str, dict[str, str]], settings: RunSettings) -> bool:
    """Whether a model of another system that training read has been trained anew since, which `train` then says."""
    for key, place in settings.other_models.items():
        with suppress(UserError):  # one that is not there is no other
            found = find_model(place) / MANIFEST
            if external.get(key) and external[key] != {MANIFEST: _hash_of(found)}:
                return True
    return False


def _of_these_data(made_of: dict[str, str | None], then: RunSettings, now: RunSettings, written: float) -> bool:
    """Whether a test was of the annotation and the images of today. made_of: their hashes in its recipe; without one of
    the annotation, whether it was drawn or prepared anew since the report was `written`. Images are read again only
    where they lie elsewhere."""
    if made_of.get("annotation") is None:
        return now.data.annotation.stat().st_mtime <= written
    if made_of["annotation"] != _hash_of(now.data.annotation):
        return False
    if real_path(then.data.images) == real_path(now.data.images) or made_of.get("images") is None:
        return True
    images = recipes.data_fingerprint(now, now.data, now.data.test_split, _hash_of)["images"]
    return images in (None, made_of["images"])


# The rows of a grid share their data: a file is read once, until its size or time changes.
@cache
def _hash(path: Path, state: tuple[int, ...]) -> str:
    return sha256(path)


def _hash_of(path: Path) -> str:
    return _hash(path, tuple(state_of(path)))
