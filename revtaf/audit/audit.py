"""`revtaf audit`: could anything of a test sample have reached its report, other than through its image?

The checks are functions of `revtaf.audit.checks` (samples) and `revtaf.audit.labels` (signs of labels); here they are
run on what a configuration would use: train and validation split of the training set, test split of the data set.
Nothing is computed that training would keep: features that are not made yet are reported as not checked.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from revtaf.audit.checks import (
    LEAK,
    NOT_CHECKED,
    NOTE,
    Line,
    Part,
    overlaps,
    references,
    repeated_reports,
    retrieved,
    silent_reports,
)
from revtaf.audit.labels import memory_by_labels, prompts_from_report, sample_rows, scores_in_sample
from revtaf.config import DataSettings, RunSettings
from revtaf.data.annotations import Annotations, Study, load_annotations
from revtaf.data.text import clean_report
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.features import build
from revtaf.features.arrays import Features
from revtaf.files import read_yaml, real_path
from revtaf.knowledge.mentions import entity_mentions
from revtaf.settings import Settings

WIDTH = 120
CONFIG = "config.yaml"  # that a test leaves beside its predictions
_SHORTEST_DETAIL = 40


def audit(settings: RunSettings, hash_images: bool = False) -> list[Line]:
    """Every check that can be made now, in a fixed order. UserError where the annotation or the features are damaged.

    hash_images reads every image file, and so finds an image under two names; else paths are compared.
    """
    training, data = settings.training_data, settings.data
    annotations = {path: settings.splits(load_annotations(path)) for path in {training.annotation, data.annotation}}
    parts, lines = {}, []
    for name, source, split in (
        ("train", training, "train"),
        ("val", training, training.validation_split),
        ("test", data, data.test_split),
    ):
        try:
            studies = build.select(annotations[source.annotation], split, source)
            set_name = training.name if _same_set(source, training) else source.name
            parts[name] = Part(set_name, Path(source.images), studies)
        except UserError as error:
            lines.append(Line("samples", name, 0, 0, NOT_CHECKED, str(error)))
    if _reports_validation(settings) and (tested := parts.pop("test", None)):
        count = len(tested.studies)  # said in every table, and no secret; the other way round is a leak
        what = "tested on the split that selects the checkpoint: validation figures"
        lines.append(Line("samples", "val/test", count, count, NOTE, what))
    if settings.reads_answer:
        count = sum(len(part.studies) for part in parts.values())
        what = f"reads the answer: {', '.join(settings.reads_answer)}"
        lines.append(Line("control", "all", count, count, LEAK, what))
    lines += overlaps(parts, hash_images)
    train = parts["train"].studies if "train" in parts else []
    held_out = [name for name in ("val", "test") if name in parts]
    lines += [silent_reports(name, part.studies) for name, part in parts.items()]
    lines += [repeated_reports(name, parts[name].studies, train) for name in held_out if train]
    if isinstance(settings, Settings):
        lines += _features(settings, held_out)
        lines += _predictions(settings, annotations, train)
    else:
        what = f"system={settings.system}: its features and what its tests retrieved are not looked at"
        lines.append(Line("features", "all", 0, 0, NOT_CHECKED, what))
    return lines


def _same_set(source: DataSettings, training: DataSettings) -> bool:
    return source.annotation == training.annotation or source.name == training.name


def _reports_validation(settings: RunSettings) -> bool:
    """Whether the run is tested on its own validation split, as where the test split is withheld."""
    training, data = settings.training_data, settings.data
    same = (data.annotation, data.test_split) == (training.annotation, training.validation_split)
    return same and data.test_split != "test"


def table(lines: Sequence[Line]) -> str:
    """Aligned columns within 120 characters (a long detail goes on below), and one sentence of conclusion."""
    rows = [("check", "split", "verdict", "count", "detail")]
    for line in lines:
        count = f"{line.count:,} of {line.of:,}" if line.of else "-"
        rows.append((line.check, line.split, line.verdict, count, line.detail))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    room = max(_SHORTEST_DETAIL, WIDTH - sum(widths) - 2 * len(widths))
    text = []
    for row in rows:
        detail = textwrap.wrap(row[4], room) or [""]
        start = "".join(f"{cell:<{width}}  " for cell, width in zip(row[:4], widths, strict=True))
        text += [(start if i == 0 else " " * len(start)) + piece for i, piece in enumerate(detail)]
    return "\n".join(piece.rstrip() for piece in [*text, "", conclusion(lines)])


def conclusion(lines: Sequence[Line]) -> str:
    """The last line of the audit: the checks that found a leak, and how many could not be made."""
    unknown = sum(line.verdict == NOT_CHECKED for line in lines)
    leaks = [f"{line.check} ({line.split})" for line in lines if line.verdict == LEAK]
    if leaks:
        return f"LEAK in {', '.join(leaks)}; {unknown} not checked"
    return f"no leak found in {len(lines) - unknown} checks, {unknown} not checked"


def _features(settings: Settings, held_out: list[str]) -> Iterator[Line]:
    """The checks of what the features hold, where they were made."""
    knowledge = build.find_knowledge(settings, torch.device("cpu"))
    if knowledge is None:
        for check in (
            "classifier memory",
            "training reference",
            "memory chosen by labels",
            "scores of own images",
            "local prompts",
        ):
            yield Line(check, "all", 0, 0, NOT_CHECKED, "no features of these settings; train makes them")
        return
    training, data = settings.training_data, settings.data
    found: dict[str, tuple[Features, list[Study]]] = {"train": (knowledge.train, knowledge.studies)}
    for name, source, split in (("val", training, training.validation_split), ("test", data, data.test_split)):
        if name == "test" and _reports_validation(settings):
            continue
        made = build.find_split(knowledge, settings, source, split) if name in held_out else None
        if made is None:
            yield Line("features", name, 0, 0, NOT_CHECKED, "no features of this split; train or test makes them")
        else:
            found[name] = made
    for name, (features, studies) in found.items():
        same_set = name != "test" or _same_set(data, training)
        yield references("classifier memory", name, features.memory, studies, knowledge.studies, same_set)
    if not settings.knowledge.reads_reports:
        told = f"knowledge.labeler={settings.knowledge.labeler}: nobody reads what the reports mention"
        yield Line("labels and mentions", "all", 0, 0, NOT_CHECKED, told)
        return
    nearest = np.asarray(knowledge.texts.nearest)[:, None]
    yield references("training reference", "train", nearest, knowledge.studies, knowledge.studies)
    by_scores = settings.knowledge.memory == "entities" and not settings.knowledge.imported
    for name, (features, _) in found.items():
        yield memory_by_labels(name, features, knowledge.train, by_scores, settings.seed)

    rows = {name: sample_rows(len(features), settings.seed) for name, (features, _) in found.items()}
    presence = {name: _presence(name, studies, rows[name]) for name, (_, studies) in found.items()}
    own = {name: (features.scores[rows[name]], presence[name]) for name, (features, _) in found.items()}
    fitted = knowledge.scorer is not None  # a model from elsewhere has seen what it has seen
    for name in [name for name in found if name != "train"]:
        same_set = name == "val" or data.annotation == training.annotation
        yield scores_in_sample(name, *own["train"], *own[name], comparable=fitted and same_set)
    if knowledge.triplets is None:
        yield Line("local prompts", "all", 0, 0, NOT_CHECKED, "imported prompts are vectors; what they say is unknown")
        return
    for name, (features, _) in found.items():
        yield prompts_from_report(name, features.codes[rows[name]], presence[name])


def _presence(name: str, studies: list[Study], rows: np.ndarray) -> np.ndarray:
    chosen = tqdm(rows, desc=f"mentions, {name}", leave=False)
    return np.concatenate([entity_mentions([clean_report(studies[i].report)]).presence for i in chosen])


def _predictions(settings: Settings, annotations: dict[Path, Annotations], train: list[Study]) -> Iterator[Line]:
    """The reports that each test of the run retrieved."""
    files = sorted(Path(settings.run).glob("*/predictions.jsonl"))
    for path in files:
        name, source = path.parent.name, _made_on(path, settings)
        if source is None:
            told = f"made on a set that this configuration does not name ({path.with_name(CONFIG)})"
            yield Line("retrieved report", name, 0, 0, NOT_CHECKED, told)
            continue
        queries = [study for studies in annotations[source.annotation].values() for study in studies]
        yield retrieved(name, read_jsonl(path), queries, train, _same_set(source, settings.training_data))
    if not files:
        yield Line("retrieved report", "all", 0, 0, NOT_CHECKED, f"{settings.run} holds no predictions yet")


def _made_on(predictions: Path, settings: Settings) -> DataSettings | None:
    """Of the sets of the configuration, the one that predictions are about, by the settings that the test left beside
    them: the same annotation, else the same name. Without such settings, the only one. None where it is neither."""
    sources, path = (settings.data, settings.training_data), predictions.with_name(CONFIG)
    if not path.is_file():
        return sources[0] if sources[0].annotation == sources[1].annotation else None
    content = read_yaml(path)
    told = content.get("data") if isinstance(content, dict) else None
    if not isinstance(told, dict):
        return None
    place = real_path(str(told.get("annotation")))
    by_place = [source for source in sources if real_path(source.annotation) == place]
    by_name = [source for source in sources if source.name == told.get("name")]
    return next(iter(by_place + by_name), None)
