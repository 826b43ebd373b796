"""The recipe of a test: what report.json holds so that somebody else can make it again (`revtaf reproduce`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from revtaf.config import DataSettings, RunSettings
from revtaf.config_file import load_settings
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.image_names import find_file
from revtaf.engine.folder import BEST, model_identity
from revtaf.features.build import select
from revtaf.files import digest, sha256

ENTRY = "recipe"  # of report.json
SETTINGS, TRAINING, MODEL, DATA, TRAINING_DATA, PREDICTIONS = (
    *("settings", "training settings", "model", "data", "training data", "predictions"),
)
PREDICTED = "predictions.jsonl"


def make_recipe(settings: RunSettings) -> dict[str, Any]:
    """Of a test whose predictions are written: all settings, which model, which data, the predictions' hash.

    The tested images count with their bytes, those of the training set, where it is there, by name and size.
    """
    run, written = Path(settings.run), settings.output / PREDICTED
    trained = run / "config.yaml"
    return {
        SETTINGS: settings.model_dump(mode="json"),
        TRAINING: load_settings(trained, bases=False).model_dump(mode="json") if trained.is_file() else None,
        MODEL: model_identity(run / BEST),
        DATA: data_fingerprint(settings, settings.data, settings.data.test_split, sha256),
        TRAINING_DATA: data_fingerprint(settings, settings.training_data, "train", _size),
        PREDICTIONS: sha256(written) if written.is_file() else None,
    }


def data_fingerprint(
    settings: RunSettings, data: DataSettings, split: str, mark: Callable[[Path], Any]
) -> dict[str, Any]:
    """Hashes of a data set's annotation, and of the images of a split by their `mark`; None for what is not there."""
    annotation, root = Path(data.annotation), Path(data.images)
    if not annotation.is_file():
        return {"annotation": None, "images": None}
    annotations = settings.splits(load_annotations(annotation))
    studies = select(annotations, split, data) if split != "train" or annotations.get("train") else []
    return {"annotation": sha256(annotation), "images": _images(root, studies, mark)}


def _size(path: Path) -> int:
    return path.stat().st_size


def _images(root: Path, studies: Iterable[Study], mark: Callable[[Path], Any]) -> str | None:
    marks = []
    for name in dict.fromkeys(study.image_path[0] for study in studies):
        path = find_file(root / name)
        if path is None:
            return None
        marks.append([name, mark(path)])
    return digest(marks)
