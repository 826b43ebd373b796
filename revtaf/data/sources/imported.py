"""Artefacts of the REVTAF authors or of PromptMRG -> our store, each one checked.

For a researcher who has them: entity scores, the classifier's memory and its indices, local texts, sentences of the
training reports, nearest training samples (METHOD sections 1 to 4). What repeats is stored once: 230 kB of local texts
an image become 75 bytes, as they come from a finite set of triplets, and a report is kept once for all its images.
What the files cannot say (were memory or local texts made from the answer?) no import can find out.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist
from tqdm import tqdm

from revtaf.data.annotations import Annotations, Study, load_annotations, save_annotations
from revtaf.data.sources.artefacts import (
    SCORE_KINDS,
    clip_indices,
    common_width,
    describe_file,
    describe_tree,
    files_of,
    half,
    json_rows,
    load_embeddings,
    number_rows,
    read_indices,
    read_neighbours,
    read_scores,
)
from revtaf.data.sources.placing import place_images
from revtaf.data.store import Features, ReferenceTexts, save_arrays
from revtaf.errors import UserError
from revtaf.files import atomic_folder
from revtaf.labels import ENTITIES
from revtaf.lre.labels import nearest_by_status

MOST_CODES = 256  # texts of one entity: a code is one byte


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
    images: folder; `out/images` becomes a link to it, or a copy with `copy`. None: nothing is done about images.
    scores, memory_indices: paths with "{split}" in them: 75 numbers a sample, and indices into the training samples.
        Without memory_indices, each study's field `clip_indices` in the annotation.
    memory_texts: (N_train, V) numbers in JSON, one vector of the classifier's memory for each training sample.
    local: a .npy (75, W) for every image. reference: a .npy (sentences, W) for every training image; zero rows are
        padding. A study with several images is described by those of its first one.
    neighbours: for each training sample its nearest ones, nearest first; the first one of another patient is taken.
        None: computed from the statuses, ties drawn with `seed`.
    score_kind: "prob" or "logit", see `read_scores`.
    Every check comes before the first of these files is in place. Nothing but the annotation is held as a whole; the
    rest stays below 1 GB for the size of MIMIC-CXR (an estimate).
    """
    out, annotation, local, reference = Path(out), Path(annotation), Path(local), Path(reference)
    annotations = {split: studies for split, studies in load_annotations(annotation).items() if studies}
    statuses = _statuses(annotation, annotations)
    images = None if images is None else Path(images)
    names = [name for studies in annotations.values() for study in studies for name in study.image_path]
    _check_places(out, annotation, images, names, copy)
    train, splits = annotations["train"], list(annotations)
    files = _artefact_files(annotation, splits, scores, memory_texts, memory_indices, neighbours)
    paths = {split: [s.image_path[0] for s in studies] for split, studies in annotations.items()}
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
    if neighbours:
        nearest = read_neighbours(files["neighbours"], train)
        origin = describe_file(files["neighbours"], nearest.shape)
    else:
        nearest = _nearest(annotation, train, statuses["train"], seed)
        origin = {"computed": "by statuses, own patient excluded", "seed": seed}

    with atomic_folder(out / "imported") as partial, tempfile.TemporaryDirectory(dir=partial) as scratch:
        vectors = _vectors(files["memory_texts"], len(train), Path(scratch))
        codes, triplets = _local(local_files, width)
        texts = _reference(reference_files, width, vectors, Path(scratch))
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
        rows = np.split(codes, np.cumsum([len(studies) for studies in annotations.values()])[:-1])
        for (split, studies), part in zip(annotations.items(), rows, strict=True):
            ids, patients = [s.id for s in studies], [s.patient for s in studies]
            record = Features(ids, patients, statuses[split], scored[split], part, memory[split])
            save_arrays(partial / split, record, {"imported": artefacts, "split": split})
        record = ReferenceTexts(**texts, triplets=triplets, nearest=nearest)
        save_arrays(partial / "texts", record, {"imported": artefacts, "split": "texts"})
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


def _check_places(out: Path, annotation: Path, images: Path | None, names: list[str], copy: bool) -> None:
    if (out / "annotation.json").resolve() == annotation.resolve():
        raise UserError(f"--out {out}: {annotation} would be overwritten; name another folder")
    outside = [
        n for n in names if not PurePosixPath(n).name or n.startswith(("/", "\\")) or ".." in PurePosixPath(n).parts
    ]
    if outside:
        raise UserError(f"{annotation}: image_path {outside[0]!r} leaves the image folder")
    if images is None:
        return
    if not images.is_dir():
        raise UserError(f"image folder not found: {images}")
    place = out / "images"
    if images.absolute() == place.absolute() or place.is_dir() and not place.is_symlink() and not copy:
        raise UserError(f"{place} is a folder already: import without images, or remove it")
    if missing := [name for name in names if not (images / name).is_file()]:
        raise UserError(f"{images}: {len(missing):,} of {len(names):,} images are missing, the first is {missing[0]}")


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


def _vectors(path: Path, count: int, scratch: Path) -> np.ndarray:
    """(N, V) float16, on disk."""
    with open(scratch / "vectors", "wb") as file:
        for where, row in number_rows(json_rows(path), path, "memory texts", count):
            file.write(half(where, row).tobytes())
    return np.memmap(scratch / "vectors", np.float16, "r").reshape(count, -1)


def _local(files: list[Path], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, 75) uint8 and their table (75 T, width) float16; shorter parts are filled with zeros.

    Texts are the same where every number is, after rounding to float16. The order is that of first appearance.
    """
    tables: list[dict[bytes, int]] = [{} for _ in ENTITIES]
    codes = np.empty((len(files), len(ENTITIES)), dtype=np.uint8)
    for i, path in enumerate(tqdm(files, desc="local texts", leave=False)):
        rows = half(path, load_embeddings(path, len(ENTITIES), width))
        for m, table in enumerate(tables):
            code = table.setdefault(rows[m].tobytes(), len(table))
            if code == MOST_CODES:
                raise UserError(_too_many(path, m, np.frombuffer(b"".join(table), np.float16).reshape(-1, width)))
            codes[i, m] = code
    length = max(map(len, tables))
    triplets = np.zeros((len(ENTITIES), length, width), dtype=np.float16)
    for part, table in zip(triplets, tables, strict=True):
        part[: len(table)] = np.frombuffer(b"".join(table), np.float16).reshape(-1, width)
    return codes, triplets.reshape(-1, width)


def _too_many(path: Path, entity: int, rows: np.ndarray) -> str:
    closest = pdist(rows.astype(np.float32), "chebyshev").min()
    return (
        f"{path}: a local text no. {len(rows)} of the entity '{ENTITIES[entity]}'. An entity has at most {MOST_CODES}, "
        "one for each position where it exists and one where it does not, so these are not embeddings of triplets "
        f"and cannot be imported. The two closest differ by {closest:.1g} in a coordinate; if that is rounding, one "
        "text was encoded several times with other results: encode each text once"
    )


def _reference(files: list[Path], width: int, vectors: np.ndarray, scratch: Path) -> dict[str, np.ndarray]:
    """Sentences and reports, each once. A report is a memory vector with a list of sentences, as stored."""
    report_ids = np.empty(len(files), dtype=np.int32)
    reports: dict[bytes, int] = {}
    owners, lengths, sentence_ids = [], [], []
    with open(scratch / "sentences", "wb") as file:
        known: dict[bytes, int] = {}
        for i, path in enumerate(tqdm(files, desc="reference sentences", leave=False)):
            rows = load_embeddings(path, None, width)
            rows = half(path, rows[rows.any(axis=1)])
            if not len(rows):
                raise UserError(f"{path}: no sentence, every row is zero; a training report has at least one")
            ids = np.array([_number(row, known, file) for row in rows], dtype=np.int32)
            key = _key(vectors[i].tobytes() + ids.tobytes())
            report_ids[i] = reports.setdefault(key, len(reports))
            if report_ids[i] == len(owners):  # not seen before
                owners.append(i)
                lengths.append(len(ids))
                sentence_ids.append(ids)
    return {
        "report_ids": report_ids,
        "offsets": np.r_[0, np.cumsum(lengths)].astype(np.int64),
        "sentence_ids": np.concatenate(sentence_ids),
        "sentences": np.memmap(scratch / "sentences", np.float16, "r").reshape(-1, width),
        "reports": vectors[owners],
    }


def _number(row: np.ndarray, known: dict[bytes, int], file: Any) -> int:
    """The row of a sentence in the table; a new one is appended to the file."""
    content = row.tobytes()
    number = known.setdefault(_key(content), len(known))
    if file.tell() == number * len(content):
        file.write(content)
    return number


def _key(content: bytes) -> bytes:
    """16 bytes that stand for a row: a million rows themselves would fill the memory."""
    return hashlib.blake2b(content, digest_size=16).digest()
