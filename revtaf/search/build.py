"""Building an index and adding to one: what is written, in which order, and what is cleared away.

Files are never changed: a build, or an addition, writes new ones beside those that the manifest names, then replaces
the manifest, then removes what it no longer names. Whoever is killed before leaves the earlier index whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from revtaf import __version__
from revtaf.errors import UserError
from revtaf.files import atomic_folder, write_json
from revtaf.locks import alone
from revtaf.search import ivf, projection
from revtaf.search.index import (
    DEPTH,
    FILES,
    FORMAT,
    HELD,
    IMAGES,
    KINDS,
    MANIFEST,
    REPORTS,
    SearchIndex,
    checked,
)
from revtaf.search.place import check_place, clean, generation
from revtaf.search.shards import LISTS, describe, write_shard


@dataclass(frozen=True)
class IndexOptions:
    """How an index is built. svd: its width, None for that of the encoder. recall: what FAISS must reach on the held
    queries; it decides how many lists are looked at. nlist: number of lists, None: by the number of rows."""

    engine: str = "exact"
    svd: int | None = None
    svd_centred: bool = False
    shard_rows: int = 131_072
    recall: float = 0.95
    nlist: int | None = None


@dataclass
class Entries:
    """Rows of a gallery to be: vectors (n, D) float32 of unit length, and for each row a record.

    Records have `id`, `study`, `patient` and `split`; those of images `image`, its path, and `report`, a row of the
    reports beside them; those of reports `text` and `images`, paths.
    """

    vectors: np.ndarray
    records: list[dict]


@dataclass
class Material:
    """What an index is made of. model: `system`, `digest` and `folder` of the encoder. source: where rows come from.

    fit: training vectors for the projection, (n, D) each; held: queries (Q, D) that are not in the index, by kind, and
    which split they are of. Where none are given they are drawn from the rows, whose own row then does not count.
    """

    galleries: dict[str, Entries]
    model: dict[str, str]
    source: dict[str, Any] = field(default_factory=dict)
    fit: Sequence[np.ndarray] = ()
    held: dict[str, np.ndarray] | None = None
    held_split: str = ""


def create(folder: str | Path, material: Material, options: IndexOptions = IndexOptions()) -> SearchIndex:  # noqa: B008
    """Build an index, in the place of an earlier one if there is any. Raises UserError where `folder` holds something
    else, or another process works on it."""
    return _write(Path(folder), material, options, add=False)


def extend(folder: str | Path, material: Material) -> SearchIndex:
    """Add rows to an index with its own engine, projection and centroids; at most the last shard is written again.
    Raises UserError where an id is there already, or the rows are of another model."""
    return _write(Path(folder), material, None, add=True)


def _write(folder: Path, material: Material, options: IndexOptions | None, add: bool) -> SearchIndex:
    check_place(folder)
    with alone(folder, "indexing", wait=False):
        earlier = SearchIndex.open(folder) if add else None
        if earlier is None:
            old = generation(folder)
            options = options or IndexOptions()
        else:
            old = earlier.manifest["generation"]
            options = IndexOptions(**earlier.manifest["options"])
            earlier.check_model(material.model, "the one that is given")
            check_new(earlier, [(row["id"], row["image"]) for row in material.galleries[IMAGES].records])
        clean(folder)
        try:
            manifest = _Writer(folder, material, options, old + 1, earlier).manifest()
            write_json(folder / MANIFEST, manifest)  # from here on the new one counts
        finally:
            clean(folder)  # the earlier one, or what was made of the new one before an error
    return SearchIndex.open(folder)


class _Writer:
    """One build: writes the files of generation `generation` and says what the manifest is."""

    def __init__(
        self, folder: Path, material: Material, options: IndexOptions, generation: int, earlier: SearchIndex | None
    ):
        self.folder, self.material, self.options = folder, material, options
        self.generation, self.earlier = generation, earlier
        width = earlier.encoder_width if earlier else None
        for kind in KINDS:
            entries = material.galleries[kind]
            entries.vectors = checked(entries.vectors, width, str(folder))
            width = entries.vectors.shape[1]
            if options.engine == "faiss" and not earlier:
                _check_lists(kind, len(entries.vectors), options.nlist)
        self.encoder_width = width

    def manifest(self) -> dict:
        made, kept = self._projection()
        width = self.encoder_width if made is None else made.basis.shape[1]
        galleries = {kind: self._gallery(kind, made) for kind in KINDS}
        before = self.earlier.manifest["sources"] if self.earlier else []
        manifest = {
            "format": FORMAT,
            "revtaf": __version__,
            "generation": self.generation,
            "model": self.material.model,
            "encoder_width": self.encoder_width,
            "width": width,
            "engine": self.options.engine,
            "options": self.options.__dict__,
            "projection": kept,
            "galleries": galleries,
            "held": None,
            "sources": [*before, self.material.source],
        }
        if self.options.engine == "faiss":
            manifest["held"] = self._held(manifest, made)
            self._choose_nprobe(manifest)
        return manifest

    def _projection(self) -> tuple[projection.Projection | None, dict | None]:
        if self.earlier:
            return self.earlier.projection, self.earlier.manifest["projection"]
        if self.options.svd is None:
            return None, None
        if not sum(len(part) for part in self.material.fit):
            raise UserError("--svd is fitted on the training split, and the annotation has none")
        made, share = projection.fit(self.material.fit, self.options.svd, self.options.svd_centred)
        name, files = self._folder("projection", lambda path: made.save(path / "projection.safetensors"))
        fitted = sum(len(part) for part in self.material.fit)
        record = {"name": name, "files": files, "centred": self.options.svd_centred, "kept": round(share, 6)}
        return made, record | {"fitted_on": f"{fitted} vectors of the training split"}

    def _gallery(self, kind: str, made: projection.Projection | None) -> dict:
        entries = self.material.galleries[kind]
        vectors = entries.vectors if made is None else made.apply(entries.vectors)
        before = self.earlier.manifest["galleries"][kind] if self.earlier else None
        vectors, records = vectors.astype(np.float16), [self._placed(record) for record in entries.records]
        shards, start, nameless = [], 0, 0
        if before:
            shards, start, nameless = list(before["shards"]), before["rows"], before["without_patient"]
        nameless += sum(not record["patient"] for record in records)
        if shards and shards[-1]["rows"] < self.options.shard_rows and records:  # it is filled up, in a new shard
            last = self.earlier.galleries[kind].shards[-1]
            vectors, records = np.concatenate([last.vectors, vectors]), [*last.records(), *records]
            start -= shards.pop()["rows"]
        lists = self._lists(kind, vectors, before) if self.options.engine == "faiss" else None
        for begin in range(0, len(records), self.options.shard_rows):
            rows = slice(begin, begin + self.options.shard_rows)
            name = f"{kind}-{self.generation:04d}-{start + begin:09d}"
            more = None
            if lists:
                trained = self.folder / FILES / lists["name"] / LISTS
                more = partial(_add_lists, trained=trained, vectors=vectors[rows])
            files = write_shard(self.folder / FILES / name, vectors[rows], records[rows], more)
            shards.append({"name": name, "rows": len(records[rows]), "files": files})
        rows = sum(shard["rows"] for shard in shards)
        return {"rows": rows, "without_patient": nameless, "shards": shards} | ({"ivf": lists} if lists else {})

    def _placed(self, record: dict) -> dict:
        """With the number of its source; an image's report as a row of the whole gallery."""
        placed = record | {"source": len(self.earlier.manifest["sources"]) if self.earlier else 0}
        if "report" in record and self.earlier:
            placed["report"] += self.earlier.manifest["galleries"][REPORTS]["rows"]
        return placed

    def _lists(self, kind: str, vectors: np.ndarray, before: dict | None) -> dict:
        if before:
            return dict(before["ivf"])
        nlist = self.options.nlist or ivf.default_lists(len(vectors))
        trained = ivf.train(vectors, nlist)
        name, files = self._folder(f"centroids-{kind}", lambda path: ivf.save_lists(path / LISTS, trained))
        return {"name": name, "files": files, "nlist": nlist}

    def _held(self, manifest: dict, made: projection.Projection | None) -> dict:
        """Keep queries: those that are given, those of before, or some of the rows."""
        given = self.material.held
        kept = self.earlier.manifest["held"] if self.earlier else {"split": ""}
        indexed = self.material.source.get("splits", ())  # what was kept apart may be what is added now
        if given is None and kept["split"] and kept["split"] not in indexed:
            return kept
        arrays: dict[str, np.ndarray] = {}
        draw = np.random.default_rng(0)
        index = SearchIndex(self.folder, manifest) if given is None else None
        for kind in KINDS:
            if given is not None:
                vectors = checked(given[kind], self.encoder_width, str(self.folder))
                arrays[kind] = (vectors if made is None else made.apply(vectors)).astype(np.float16)
                arrays[f"{kind}-own"] = np.full(len(vectors), -1)
            else:
                gallery = index.galleries[kind]
                rows = np.sort(draw.permutation(len(gallery))[:HELD])
                shards = np.searchsorted(gallery.starts, rows, side="right") - 1
                within = rows - gallery.starts[shards]
                pairs = zip(shards, within, strict=True)
                arrays[kind] = np.stack([gallery.shards[s].vectors[r] for s, r in pairs])
                arrays[f"{kind}-own"] = rows

        def save(path: Path) -> None:
            for name, array in arrays.items():
                np.save(path / f"{name}.npy", array, allow_pickle=False)

        name, files = self._folder("held", save)
        return {"name": name, "files": files, "split": self.material.held_split if given is not None else ""}

    def _choose_nprobe(self, manifest: dict) -> None:
        """The fewest lists, doubling, with which both kinds of queries reach the recall that is asked for."""
        index = SearchIndex(self.folder, manifest)
        split = manifest["held"]["split"]
        for kind in KINDS:
            entry = manifest["galleries"][kind]["ivf"]
            nprobe = min(2, entry["nlist"])  # FAISS's own default of 1 loses most of the neighbours
            while True:
                recall = {asked: index.recall(kind, asked, nprobe) for asked in KINDS}
                if min(recall.values()) >= self.options.recall or nprobe >= entry["nlist"]:
                    break
                nprobe = min(2 * nprobe, entry["nlist"])
            queries = {asked: len(vectors) for asked, vectors in index.held()[0].items()}
            held = f"split {split}, not indexed" if split else "of the index, own row left out"
            depth = min(DEPTH, len(index.galleries[kind]))
            entry.update(nprobe=nprobe, recall=recall, depth=depth, queries=queries, held=held)

    def _folder(self, what: str, save: Any) -> tuple[str, dict]:
        """A folder of `files/` that `save` fills; its name and what is in it."""
        name = f"{what}-{self.generation:04d}"
        with atomic_folder(self.folder / FILES / name) as path:
            save(path)
            return name, describe(path)


def _check_lists(kind: str, rows: int, nlist: int | None) -> None:
    if not rows:
        raise UserError(f"there are no {kind} to index")
    if nlist:
        ivf.check_lists(nlist, rows)


def _add_lists(path: Path, trained: Path, vectors: np.ndarray) -> None:
    ivf.write_lists(path / LISTS, trained, vectors)


def check_new(earlier: SearchIndex, images: Iterable[tuple[str, str]]) -> None:
    """UserError where one of the images to add, (id, path) each, is there already."""
    known = {(record["id"], record["image"]) for record in earlier.galleries[IMAGES].records()}
    for name, image in images:
        if (name, image) in known:
            raise UserError(f"--add: {name} is in {earlier.folder} already; add studies that are not")
