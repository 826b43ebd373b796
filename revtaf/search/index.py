"""An index: two galleries, images and reports, as a folder that is searched without their files.

    index.json     what made it, and the SHA-256 of every file: written last, in one step
    files/         shards (`revtaf.search.shards`), the projection, centroids and held queries

How it is built: `revtaf.search.build`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from revtaf import __version__
from revtaf.data.array_file import read_array
from revtaf.errors import UserError
from revtaf.files import read_json, told_as_damage
from revtaf.search import ivf, projection
from revtaf.search.exact import check_enough, nearest
from revtaf.search.shards import LISTS, MappedShard, check_files, patient_code

MANIFEST, FILES, FORMAT = "index.json", "files", 1
IMAGES, REPORTS = KINDS = ("images", "reports")
ENGINES = ("exact", "faiss")
DEPTH = 10  # neighbours that recall is counted over
HELD = 256  # queries that it is counted on
READ_AGAIN = 3  # times that an index is opened anew, where it changes while it is opened
UNIT = 1e-2  # how far an embedding's length may be from 1


@dataclass(frozen=True)
class Found:
    """score (Q, k) float64, row (Q, k) int64; engine: how they were found, in words; recall: of FAISS, else None."""

    score: np.ndarray
    row: np.ndarray
    engine: str
    recall: float | None


class IndexedGallery:
    """The rows of one kind."""

    def __init__(self, folder: Path, kind: str, manifest: dict, width: int):
        self.kind, self.manifest = kind, manifest
        self.shards = [MappedShard(folder / FILES / s["name"], s["rows"], width) for s in manifest["shards"]]
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        self.lists: ivf.Lists | None = None  # of all shards, where the engine is FAISS
        if "ivf" in manifest:  # opened now, as the shards are: a later build may remove the files
            indices = [ivf.open_lists(shard.folder / LISTS) for shard in self.shards]
            self.lists = ivf.Lists(indices, self.vectors, manifest["ivf"]["nlist"])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def vectors(self) -> list[np.ndarray]:
        """(n, W) float16 of each shard, mapped."""
        return [shard.vectors for shard in self.shards]

    def record(self, row: int) -> dict:
        """What a row is."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.shards[shard].record(row - int(self.starts[shard]))

    def records(self) -> Iterable[dict]:
        """What all rows are, in order."""
        return (record for shard in self.shards for record in shard.records())

    def skip(self, patients: Sequence[str]) -> list[np.ndarray] | None:
        """For each shard the rows (n,) of these patients; None where there are none to leave out.

        Raises UserError where the index does not know whose its rows are: leaving out nobody would look like safety.
        """
        if not patients:
            return None
        if nameless := self.manifest["without_patient"]:
            raise UserError(
                f"--exclude-patient: {nameless} of {len(self)} {self.kind} in the index name no patient; give the "
                "annotation a subject_id for every study and build the index again"
            )
        codes = np.array([patient_code(patient) for patient in patients], dtype=np.uint64)
        return [np.isin(shard.patients, codes) for shard in self.shards]


class SearchIndex:
    """An open index. `SearchIndex.open` maps it; nothing is read before it is asked for."""

    def __init__(self, folder: Path, manifest: dict):
        self.folder, self.manifest = folder, manifest
        self.width, self.encoder_width = manifest["width"], manifest["encoder_width"]
        self.galleries = {kind: IndexedGallery(folder, kind, manifest["galleries"][kind], self.width) for kind in KINDS}
        self.projection: projection.Projection | None = None
        if manifest["projection"]:
            place = folder / FILES / manifest["projection"]["name"]
            self.projection = projection.Projection.load(place / "projection.safetensors")

    @classmethod
    def open(cls, folder: str | Path, verify: bool = False) -> SearchIndex:
        """The index in a folder. Sizes of files are compared with the manifest; `verify` reads them all and compares
        their SHA-256. Raises UserError where it is none, damaged, or of another format."""
        folder = Path(folder)
        manifest = _read_manifest(folder)
        for _ in range(READ_AGAIN):
            try:
                return cls._opened(folder, manifest, verify)
            except UserError:  # another process may have finished a build meanwhile, and removed what was named before
                before, manifest = manifest, _read_manifest(folder)
                if manifest == before:
                    raise
        return cls._opened(folder, manifest, verify)

    @classmethod
    def _opened(cls, folder: Path, manifest: dict, verify: bool) -> SearchIndex:
        with told_as_damage(folder / MANIFEST, "build the index again"):
            for name, files in named_folders(manifest).items():
                check_files(folder / FILES / name, files, verify)
            _check_form(manifest)
            return cls(folder, manifest)

    def check_model(self, model: dict[str, str], place: str | Path) -> None:
        """UserError where `model`, found in `place`, is not the one whose vectors these are."""
        made = self.manifest["model"]
        if (made["system"], made["digest"]) != (model["system"], model["digest"]):
            raise UserError(
                f"{self.folder} was made with another model than {place}: system {made['system']}, digest "
                f"{made['digest']}, from {made['folder']}; the model is system {model['system']}, digest "
                f"{model['digest']}. Their vectors cannot be compared: search with the first, or build the index again"
            )

    def queries(self, vectors: np.ndarray) -> np.ndarray:
        """What the encoder says (Q, D) as vectors of the index (Q, W) float32. Raises UserError for another width."""
        vectors = checked(vectors, self.encoder_width, str(self.folder))
        return vectors if self.projection is None else self.projection.apply(vectors)

    def check(self, kind: str, k: int, exclude: Sequence[str] = ()) -> None:
        """UserError where `search` would refuse, before any query is encoded."""
        gallery = self.galleries[kind]
        if not len(gallery):
            raise UserError(f"{self.folder} holds no {kind}")
        check_enough(k, len(gallery), f"{kind} in {self.folder}")
        if skip := gallery.skip(exclude):
            left = len(gallery) - sum(int(mask.sum()) for mask in skip)
            check_enough(k, left, f"{kind} in {self.folder} of other patients")

    def search(
        self, kind: str, queries: np.ndarray, k: int, exclude: Sequence[str] = (), asked: str = REPORTS
    ) -> Found:
        """The k nearest of a gallery to vectors of the index (see `queries`), without rows of the patients `exclude`.

        asked: what the queries are, images or reports (any text); FAISS has a measured recall for each.
        """
        self.check(kind, k, exclude)
        gallery = self.galleries[kind]
        skip = gallery.skip(exclude)
        if self.manifest["engine"] == "exact":
            recall, score_row = None, nearest(gallery.vectors, queries, k, skip)
        else:
            measured = gallery.manifest["ivf"]
            recall = measured["recall"][asked]
            score_row = gallery.lists.nearest(queries, k, measured["nprobe"], skip)
        if not np.isfinite(score_row[0]).all():
            raise UserError(f"{self.folder} is damaged: scores are no numbers; find the file with --verify")
        return Found(*score_row, self.engine(kind, asked), recall)

    def engine(self, kind: str, asked: str) -> str:
        """How a gallery is searched, in words, with FAISS's measured recall."""
        gallery = self.galleries[kind]
        size = f"{len(gallery):,} {kind} of width {self.width}"
        if self.projection is not None:
            made = self.manifest["projection"]
            size += f" (SVD of {self.encoder_width}, {'centred' if made['centred'] else 'not centred'})"
        if self.manifest["engine"] == "exact":
            return f"exact search of {size}"
        found = gallery.manifest["ivf"]
        what = {IMAGES: "images", REPORTS: "texts"}[asked]
        queries = found["queries"]  # by kind; of indexes that an earlier version made one number for both
        count = queries[asked] if isinstance(queries, dict) else queries
        return (
            f"FAISS search of {size}: {found['nprobe']} of {found['nlist']} lists, recall@{found['depth']} "
            f"{found['recall'][asked]:.3f} of exact search, measured on {count} {what} ({found['held']})"
        )

    def held(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The held queries by kind, (Q, W) float32, and the row (Q,) that each has in its own gallery, or -1."""
        place = self.folder / FILES / self.manifest["held"]["name"]
        try:
            arrays = {path.stem: read_array(path, "build the index again") for path in place.glob("*.npy")}
            return (
                {kind: arrays[kind].astype(np.float32) for kind in KINDS},
                {kind: arrays[f"{kind}-own"] for kind in KINDS},
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{place} is damaged ({error}); build the index again") from None

    def recall(self, kind: str, asked: str, nprobe: int | None = None) -> float:
        """Share of the exact `DEPTH` nearest of the held queries that FAISS finds, own rows left out."""
        gallery, (vectors, own) = self.galleries[kind], self.held()
        owns = own[asked] if asked == kind else np.full(len(own[asked]), -1)
        count = min(DEPTH + 1, len(gallery))
        exact = nearest(gallery.vectors, vectors[asked], count)[1]
        found = gallery.lists.nearest(vectors[asked], count, nprobe or gallery.manifest["ivf"]["nprobe"])[1]
        shares = []
        for truth, answer, mine in zip(exact.tolist(), found.tolist(), owns.tolist(), strict=True):
            truth, answer = ([row for row in rows if row != mine][:DEPTH] for rows in (truth, answer))
            shares.append(len(set(truth) & set(answer)) / max(len(truth), 1))
        return float(np.mean(shares))


def checked(vectors: np.ndarray, width: int | None, what: str) -> np.ndarray:
    """Embeddings as float32. Raises UserError for another width than `width`, ValueError for what is no unit vector."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(f"expected embeddings (N, D), got {vectors.shape}")
    if width is not None and vectors.shape[1] != width:
        raise UserError(f"{what} takes vectors of width {width}, the model gives {vectors.shape[1]}; build it again")
    length = np.linalg.norm(vectors, axis=1)
    if not (np.abs(length - 1) < UNIT).all():  # also where one is no number
        worst = int(np.argmax(np.where(np.isfinite(length), np.abs(length - 1), np.inf)))
        raise ValueError(f"embedding {worst} has length {length[worst]:.3f}, expected 1")
    return vectors


def _read_manifest(folder: Path) -> dict:
    """Raises UserError where there is none, or of another format."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is no index: it has no {MANIFEST}; make one with `revtaf index`")
    manifest = read_json(folder / MANIFEST, "index")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(f"{folder} is an index of format {found}, revtaf {__version__} reads {FORMAT}; build it again")
    return manifest


def _check_form(manifest: dict) -> None:
    """Raises what it happens to meet where something that is asked for later is not there, or is something else."""
    expected = [
        ("generation", manifest["generation"], int),
        ("options", manifest["options"], dict),
        *((f"model.{name}", manifest["model"][name], str) for name in ("system", "digest", "folder")),
        *((f"{kind}.without_patient", manifest["galleries"][kind]["without_patient"], int) for kind in KINDS),
        *(("sources", source, dict) for source in manifest["sources"]),
    ]
    for name, value, kind in expected:
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}")
    for gallery in manifest["galleries"].values() if manifest["engine"] != "exact" else ():
        _ = gallery["ivf"]["nlist"], gallery["ivf"]["nprobe"], dict(gallery["ivf"]["recall"])


def named_folders(manifest: dict) -> dict[str, dict]:
    """Folders of `files/` that a manifest names -> their files."""
    entries = [manifest["projection"], manifest["held"]]
    for gallery in manifest["galleries"].values():
        entries += [*gallery["shards"], gallery.get("ivf")]
    return {entry["name"]: entry["files"] for entry in entries if entry}
