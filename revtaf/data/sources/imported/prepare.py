"""Artefacts of the REVTAF authors or of PromptMRG -> our store, each one checked.

For a researcher who has them: entity scores, the classifier's memory and its indices, local texts, sentences of the
training reports, nearest training samples (docs/method.md sections 2 to 4). What repeats is stored once: 230 kB of
local texts an image become 75 bytes, as they come from a finite set of triplets, and a report is kept once for all its
images.
What the files cannot say (were memory or local texts made from the answer?) no import can find out.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from revtaf.data.annotations import Annotations, Study, load_annotations, save_annotations, silent
from revtaf.data.image_names import find_file, why_absent
from revtaf.data.sources.access import inside, is_file
from revtaf.data.sources.imported.artefacts import (
    SCORE_KINDS,
    clip_indices,
    common_width,
    describe_file,
    describe_tree,
    files_of,
    json_rows,
    read_indices,
    read_neighbours,
    read_scores,
)
from revtaf.data.sources.imported.texts import stored_local_texts, stored_reports, stored_vectors
from revtaf.data.sources.placing import IMPORTED_MARK, check_annotation, check_out, check_place, place_images
from revtaf.errors import UserError
from revtaf.features.arrays import Features, TextTables, save_arrays
from revtaf.files import atomic_folder, real_path
from revtaf.labels import ENTITIES
from revtaf.lre.labels import nearest_by_status


def prepare_import(
    out: Path,
    annotation: Path,
    *,
    images: Path | None = None,
    scores: str,
    memory_texts: Path,
    memory_indices: str | None = None,
    local: Path,
    reference: Path,
    neighbours: Path | None = None,
    seed: int = 0,
    copy: bool = False,
    score_kind: str = "prob",
) -> Path:
    """Check the artefacts and write `out/annotation.json` and `out/imported/{train,val,test,texts}`.

    N samples of a split, N_train training samples; rows are in the annotation's order. Returns the annotation's path.
    annotation: with 18 or 14 statuses for every study, all alike, and a train split.
    images: folder; `out/images` becomes a link to it, or a copy with `copy`. None: nothing is done about images. Only
        a link, a copy made here and an earlier import are ever replaced.
    scores, memory_indices: paths with "{split}" in them: 75 numbers a sample, and indices into the training samples.
        Without memory_indices, each study's field `clip_indices` in the annotation.
    memory_texts: (N_train, V) numbers in JSON, one vector of the classifier's memory for each training sample.
    local: a .npy (75, W) for every image. reference: a .npy (sentences, W) for every training image; zero rows are
        padding. A study with several images is described by those of its first one.
    neighbours: for each training sample its nearest ones, nearest first; the first one of another patient is taken.
        None: computed from the statuses, ties drawn with `seed`.
    score_kind: "prob" or "logit", see `read_scores`.
    A sample of val and test whose report says nothing is dropped; one of train stays, as other artefacts name it by its
    row. Both are counted.
    Every check comes before the first of these files is in place. Nothing but the annotation is held as a whole; the
    rest stays below 1 GB for the size of MIMIC-CXR (an estimate).
    """
    out, annotation, local, reference = Path(out), Path(annotation), Path(local), Path(reference)
    annotations = {split: studies for split, studies in load_annotations(annotation).items() if studies}
    statuses = _statuses(annotation, annotations)
    images = None if images is None else Path(images)
    names = [name for studies in annotations.values() for study in studies for name in study.image_path]
    _check_places(out, annotation, images, names, (local, reference), copy)
    train, splits = annotations["train"], list(annotations)
    files = _artefact_files(annotation, splits, scores, memory_texts, memory_indices, neighbours)
    rows = {split: _telling(split, studies) for split, studies in annotations.items()}
    paths = {split: [annotations[split][row].image_path[0] for row in kept] for split, kept in rows.items()}
    local_files = files_of(local, [path for split in splits for path in paths[split]], "local texts")
    reference_files = files_of(reference, paths["train"], "reference sentences")
    width = common_width(local_files[0], reference_files[0])
    if score_kind not in SCORE_KINDS:
        raise UserError(f"score kind {score_kind!r}: expected one of {', '.join(SCORE_KINDS)}")

    clip = {} if memory_indices else clip_indices(annotation)
    memory = {split: _memory(annotation, split, annotations, files, clip) for split in splits}
    if len(set(sizes := [m.shape[1] for m in memory.values()])) > 1:
        raise UserError(f"memory indices: expected as many a sample in {', '.join(splits)}, got {sizes}")
    scored = {s: read_scores(files[f"scores/{s}"], len(annotations[s]), score_kind) for s in splits}
    for split, kept in rows.items():
        annotations[split] = [annotations[split][row] for row in kept]
        memory[split], scored[split], statuses[split] = (part[split][kept] for part in (memory, scored, statuses))
    if neighbours:
        nearest = read_neighbours(files["neighbours"], train)
        origin = describe_file(files["neighbours"], nearest.shape)
    else:
        nearest = _nearest(annotation, train, statuses["train"], seed)
        origin = {"computed": "by statuses, own patient excluded", "seed": seed}

    with atomic_folder(out / "imported") as partial, tempfile.TemporaryDirectory(dir=partial) as scratch:
        vectors = stored_vectors(files["memory_texts"], len(train), Path(scratch))
        codes, triplets = stored_local_texts(local_files, width)
        texts = stored_reports(reference_files, width, vectors, Path(scratch))
        artefacts: dict[str, Any] = {"annotation": describe_file(annotation, (len(local_files),))}
        for split in splits:
            artefacts[f"scores/{split}"] = describe_file(files[f"scores/{split}"], scored[split].shape)
            indices = files.get(f"memory_indices/{split}", annotation)
            artefacts[f"memory_indices/{split}"] = describe_file(indices, memory[split].shape)
        artefacts |= {
            "score_kind": score_kind,
            "memory_texts": describe_file(files["memory_texts"], vectors.shape),
            "local": describe_tree(local, local_files, (len(local_files), len(ENTITIES), width)),
            "reference": describe_tree(reference, reference_files, (len(train), width)),
            "neighbours": origin,
        }
        parts = np.split(codes, np.cumsum([len(studies) for studies in annotations.values()])[:-1])
        for (split, studies), part in zip(annotations.items(), parts, strict=True):
            ids, patients = [s.id for s in studies], [s.patient for s in studies]
            record = Features(ids, patients, statuses[split], scored[split], part, memory[split])
            save_arrays(partial / split, record, {"imported": artefacts, "split": split})
        record = TextTables(**texts, triplets=triplets, nearest=nearest)
        save_arrays(partial / "texts", record, {"imported": artefacts, "split": "texts"})
        # Gone first, written last: after an interruption, an old one never stands beside new features or images.
        (out / "annotation.json").unlink(missing_ok=True)
    if images is not None:
        place_images(images, out / "images", names, copy)
    save_annotations(out / "annotation.json", annotations)
    return out / "annotation.json"


def _statuses(annotation: Path, annotations: Annotations) -> dict[str, np.ndarray]:
    if "train" not in annotations:
        raise UserError(f"{annotation}: no study in split 'train'; the memory consists of the training samples")
    counts = Counter(len(s.labels) for studies in annotations.values() for s in studies)
    if 0 in counts:
        first = next(s.id for studies in annotations.values() for s in studies if not s.labels)
        raise UserError(f"{annotation}: {counts[0]:,} studies have no 'labels', the first is {first}; each needs them")
    if len(counts) > 1:
        raise UserError(f"{annotation}: {counts[14]:,} studies have 14 statuses and {counts[18]:,} have 18; all alike")
    return {split: np.array([s.labels for s in studies], dtype=np.uint8) for split, studies in annotations.items()}


def _telling(split: str, studies: list[Study]) -> list[int]:
    """The rows of the samples that are kept. UserError where no report of the split says anything."""
    empty = {study.id for study in silent(studies)}
    if len(empty) == len(studies):
        raise UserError(f"split '{split}': every report says nothing (None, See impression, ___); give the reports")
    if empty and split == "train":
        print(f"train: {len(empty):,} reports say nothing (None, See impression, ___); kept, as files name their rows")
        return list(range(len(studies)))
    if empty:
        print(f"{split}: dropped {len(empty):,} studies whose report says nothing (None, See impression, ___)")
    return [row for row, study in enumerate(studies) if study.id not in empty]


def _artefact_files(
    annotation: Path,
    splits: list[str],
    scores: str,
    memory_texts: Path,
    memory_indices: str | None,
    neighbours: Path | None,
) -> dict[str, Path]:
    """Every JSON file by the artefact's name; one UserError for all that are missing."""
    files = {}
    for name, pattern in (("scores", scores), ("memory_indices", memory_indices)):
        if pattern and "{split}" not in str(pattern):
            raise UserError(f"{name}: expected a path with {{split}} in it, got {pattern}")
        files |= {f"{name}/{s}": Path(str(pattern).replace("{split}", s)) for s in splits if pattern}
    files |= {name: Path(p) for name, p in (("memory_texts", memory_texts), ("neighbours", neighbours)) if p}
    if missing := [f"{name} ({path})" for name, path in files.items() if not path.is_file()]:
        raise UserError(
            f"{len(missing)} of {len(files)} artefacts are missing: {', '.join(missing)}; {annotation} has the splits "
            f"{', '.join(splits)}, and each needs its own files"
        )
    return files


def _check_places(
    out: Path, annotation: Path, images: Path | None, names: list[str], trees: tuple[Path, ...], copy: bool
) -> None:
    if real_path(out / "annotation.json") == real_path(annotation):
        raise UserError(f"--out {out}: {annotation} would be overwritten; name another folder")
    check_out(out, (*trees, *([images] if images else [])))
    check_annotation(out)
    place = out / "imported"
    if place.is_dir() and any(place.iterdir()) and not (out / IMPORTED_MARK).is_file():
        raise UserError(f"{place} is a folder already, and no import; move it away, or name another --out")
    if outside := [name for name in names if not inside(name)]:
        raise UserError(f"{annotation}: image_path {outside[0]!r} leaves the image folder")
    if images is None:
        return
    if not images.is_dir():
        raise UserError(f"image folder not found: {images}")
    place = out / "images"
    if real_path(place) == real_path(images) and not place.is_symlink():
        raise UserError(f"{place} is the image folder already: import without --images")
    check_place(images, place, copy)
    if missing := [name for name in names if not (is_file(images / name) or find_file(images / name))]:
        told = f"{images}: {len(missing):,} of {len(names):,} images are missing, the first is {missing[0]}"
        raise UserError(told + why_absent(images / missing[0]))


def _memory(
    annotation: Path, split: str, annotations: Annotations, files: dict[str, Path], clip: dict[str, Any]
) -> np.ndarray:
    """(N, K_m) int32. Entries of the sample's own patient stay, as the model was trained with them, and are counted."""
    studies, train = annotations[split], annotations["train"]
    path = files.get(f"memory_indices/{split}")
    named = ((f"{annotation}: split '{split}', study {s.id}: clip_indices", clip[s.id]) for s in studies)
    rows = named if path is None else json_rows(path)
    memory = read_indices(rows, path or annotation, f"memory indices of '{split}'", len(studies), len(train))
    _, patients = np.unique([s.patient for s in train + studies], return_inverse=True)
    own = patients[: len(train)][memory] == patients[len(train) :, None]
    print(f"{split}: {own.sum():,} of {own.size:,} memory entries are of the sample's own patient", end="")
    print(f", {(memory == np.arange(len(memory))[:, None]).sum():,} the sample itself" if split == "train" else "")
    return memory


def _nearest(annotation: Path, train: list[Study], statuses: np.ndarray, seed: int) -> np.ndarray:
    patients = [s.patient for s in train]
    if len(set(patients)) < 2:
        raise UserError(f"{annotation}: the training split has a single patient; retrieval needs at least two")
    vectors = torch.from_numpy(statuses)
    return nearest_by_status(vectors, vectors, 1, patients, patients, seed)[1][:, 0].numpy().astype(np.int32)
