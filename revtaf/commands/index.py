"""`revtaf index`: the images and reports of an annotation, embedded by a trained model, as a folder to search."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import revtaf
from revtaf.config_file import load_settings
from revtaf.data.annotations import Annotations, Study, load_annotations
from revtaf.data.blocks import WHOLE, Blocks
from revtaf.data.image_names import find_file, why_absent
from revtaf.engine.checkpoint import SETTINGS
from revtaf.engine.folder import MANIFEST, find_model, model_identity
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import digest, read_json, sha256, state_of
from revtaf.locks import alone
from revtaf.search import ivf
from revtaf.search.build import Entries, IndexOptions, Material, check_new, create, extend
from revtaf.search.index import HELD, IMAGES, REPORTS, SearchIndex
from revtaf.search.place import check_place

AT_ONCE = 64  # images, or texts, that the model gets in one call
log = logging.getLogger("revtaf")


@dataclass
class IndexRequest:
    """What the command line asks for; see `revtaf index --help`."""

    checkpoint: Path
    data: Path
    out: Path
    images: Path | None = None
    split: Sequence[str] = ("train",)
    add: bool = False
    engine: str | None = None
    svd: int | None = None
    svd_centred: bool | None = None
    shard_rows: int | None = None
    recall: float | None = None
    nlist: int | None = None
    device: str = "auto"

    def options(self) -> IndexOptions:
        """How it is built. UserError for choices that contradict each other."""
        names = ("engine", "svd", "svd_centred", "shard_rows", "recall", "nlist")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.add and given:
            option = next(iter(given)).replace("_", "-")
            raise UserError(f"--add keeps how the index was built; leave out --{option}, or build it anew")
        if self.svd_centred and self.svd is None:
            raise UserError("--svd-centred goes with --svd WIDTH")
        if self.engine != "faiss" and (set(given) & {"recall", "nlist"}):
            raise UserError("--recall and --nlist go with --engine faiss")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise UserError(f"--recall: expected a share above 0 and up to 1, got {self.recall}")
        return IndexOptions(**given)


def index(request: IndexRequest) -> SearchIndex:
    """Embed, build or extend, say what was made. What a killed build has embedded is not embedded again."""
    options = request.options()
    check_place(request.out)
    place = find_model(request.checkpoint)
    annotations = _split_as_trained(load_annotations(request.data), request.data, place)
    split = list(dict.fromkeys(request.split))
    if empty := [name for name in split if not annotations.get(name)]:
        raise UserError(f"{request.data}: no study in split '{empty[0]}'")
    root = request.images or request.data.parent / "images"
    model = model_identity(place)
    earlier = SearchIndex.open(request.out) if request.add else None
    if earlier:
        earlier.check_model(model, place)
        options = IndexOptions(**earlier.manifest["options"])
    studies = {name: annotations[name] for name in split}
    chosen = [study for name in split for study in studies[name]]
    fitted = annotations.get("train", []) if options.svd and not earlier and "train" not in split else []
    held_split, held = _held(annotations, split, earlier) if options.engine == "faiss" else ("", [])
    for some in (chosen, fitted, held):
        _check_images(some, root, request.data)
    _check_before(options, chosen, earlier)
    system = revtaf.load(place, device=request.device)
    out = request.out.resolve()  # `.` has no name
    parts = out.parent / f".{out.name}.parts"
    if options.svd and not earlier and options.svd > (width := system.embed_texts(["."]).shape[1]):
        raise UserError(f"--svd {options.svd}: the vectors of {place} have {width} numbers")
    with alone(parts, "indexing", wait=False):
        embed = _Embedder(system, model["digest"], root, parts)
        galleries = embed.galleries(studies)
        fit = []
        if options.svd and not earlier:
            train = embed.galleries({"train": fitted}) if fitted else galleries
            fit = [entries.vectors[_of_train(entries)] for entries in train.values()]
        queries = None
        if held:
            queries = {
                IMAGES: embed.images([root / study.image_path[0] for study in held]),
                REPORTS: embed.texts(system.texts(held)),
            }
        source = {"annotation": str(request.data.resolve()), "images": str(root.resolve()), "splits": split}
        model = model | {"folder": str(place.resolve())}
        material = Material(galleries, model, source, fit, queries, held_split if held else "")
        made = extend(request.out, material) if earlier else create(request.out, material, options)
        shutil.rmtree(parts, ignore_errors=True)
    _say(made)
    if cut := system.truncation([record["text"] for record in galleries[REPORTS].records]):
        print(f"  {cut}")
    return made


def _split_as_trained(annotations: Annotations, path: Path, model: Path) -> Annotations:
    """By the splits of the model where it was trained on this very annotation, else by the annotation's own."""
    settings = load_settings(model / SETTINGS, bases=False)
    known = sha256(path) == read_json(model / MANIFEST, "model").get("annotation")
    return settings.splits(annotations) if known else annotations


class _Embedder:
    """The model's vectors, in blocks of files so that a killed build goes on where it was."""

    def __init__(self, system: System, model: str, root: Path, parts: Path):
        self.system, self.model, self.root, self.parts = system, model, root, parts

    def galleries(self, studies: dict[str, Sequence[Study]]) -> dict[str, Entries]:
        """Images and texts of these splits; one text for each study, however many samples have it."""
        images, reports, known = [], [], {}
        for split, samples in studies.items():
            for sample, text in zip(samples, self.system.texts(samples), strict=True):
                whose = {"study": sample.study_id, "patient": sample.subject_id, "split": split}
                study = (sample.patient, sample.study_id or sample.id)  # CheXpert's `study1` is one of every patient
                row = known.setdefault((study, text), len(reports))
                if row == len(reports):
                    reports.append({"id": sample.id, **whose, "text": text, "images": []})
                reports[row]["images"] += sample.image_path
                images += [{"id": sample.id, **whose, "image": path, "report": row} for path in sample.image_path]
        return {
            IMAGES: Entries(self.images([self.root / record["image"] for record in images]), images),
            REPORTS: Entries(self.texts([record["text"] for record in reports]), reports),
        }

    def images(self, paths: Sequence[Path]) -> np.ndarray:
        """(N, D) float32."""
        return self._vectors(
            self.system.embed_images, paths, IMAGES, [[str(path), *state_of(find_file(path) or path)] for path in paths]
        )

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32; equal texts are embedded once."""
        distinct = list(dict.fromkeys(texts))
        number = {text: row for row, text in enumerate(distinct)}
        return self._vectors(self.system.embed_texts, distinct, REPORTS, distinct)[[number[text] for text in texts]]

    def _vectors(
        self, embed: Callable[[Sequence], np.ndarray], items: Sequence, what: str, content: Sequence
    ) -> np.ndarray:
        """(N, D) float32. content: what changes with each item; blocks of an earlier build are of the same or left."""

        def arrays_of(rows: slice) -> dict[str, np.ndarray]:
            part = items[rows]
            pieces = [embed(part[start : start + AT_ONCE]) for start in range(0, len(part), AT_ONCE)]
            return {"vectors": np.concatenate(pieces).astype(np.float32)}

        made_of = digest(self.model, content)
        blocks = Blocks(self.parts / f"{what}-{made_of}", len(items), f"embedding {what}")
        blocks.compute(arrays_of, WHOLE)
        return blocks.read()["vectors"]


def _held(
    annotations: dict[str, list[Study]], split: Sequence[str], earlier: SearchIndex | None
) -> tuple[str, list[Study]]:
    """Studies whose images and reports are not in the index: queries that recall is measured on. None where the index
    has such queries, or no split is left."""
    indexed = set(split)
    if earlier:
        indexed |= {name for source in earlier.manifest["sources"] for name in source["splits"]}
        if earlier.manifest["held"]["split"] and earlier.manifest["held"]["split"] not in split:
            return "", []
    for name in ("val", "test", "train"):
        if name not in indexed and annotations.get(name):
            studies = annotations[name]
            rows = np.sort(np.random.default_rng(0).permutation(len(studies))[:HELD])
            return name, [studies[row] for row in rows]
    return "", []


def _check_before(options: IndexOptions, studies: Sequence[Study], earlier: SearchIndex | None) -> None:
    """UserError, before anything is embedded, for what the build would end with."""
    images = [(study.id, path) for study in studies for path in study.image_path]
    if options.engine == "faiss":
        ivf.check_installed()
        if options.nlist and not earlier:
            ivf.check_lists(options.nlist, len(images))
    if earlier:
        check_new(earlier, images)


def _of_train(entries: Entries) -> np.ndarray:
    return np.array([record["split"] == "train" for record in entries.records])


def _check_images(studies: Sequence[Study], root: Path, annotation: Path) -> None:
    paths = [root / path for study in studies for path in study.image_path]
    if missing := [path for path in paths if not find_file(path)]:
        raise UserError(
            f"image not found: {missing[0]}, and {len(missing) - 1} more of {annotation}; their folder: --images"
            f"{why_absent(missing[0])}"
        )


def _say(made: SearchIndex) -> None:
    size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    print(f"{made.folder}: {size / 1e6:.1f} MB")
    for kind in (IMAGES, REPORTS):
        for asked in (IMAGES, REPORTS) if made.manifest["engine"] == "faiss" else (IMAGES,):
            print(f"  {made.engine(kind, asked)}")
    if kept := made.manifest["projection"]:
        share = f"{kept['kept']:.4f} of the squared length"
        print(f"  SVD fitted on {kept['fitted_on']}, keeps {share}{' about the mean' if kept['centred'] else ''}")
