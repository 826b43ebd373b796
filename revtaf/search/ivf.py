"""The engine beyond exact search: FAISS's inverted lists over float16 vectors (extra `faiss`).

Each shard has lists of its own over the same centroids, so that rows are added without touching others. Only `nprobe`
of the lists are looked at; what they hold is scored again from the stored vectors in float64, as in exact search.
How many lists is decided by measuring: queries that are kept with the index are answered both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from revtaf.errors import UserError
from revtaf.search.exact import best_of, check_enough, rescored

LANES = 16  # FAISS reads float16 in groups of 16 values; other widths are ten times slower and are padded with zeros
LEAST_IN_LIST = 39  # training vectors for each centroid, below which FAISS warns
TRAINED_ON = 256  # vectors for each centroid; more do not move it


def default_lists(rows: int) -> int:
    """The power of two nearest to twice the square root, as far as there are rows to fit as many centroids."""
    wanted = 2 ** round(np.log2(2 * max(rows, 1) ** 0.5))
    return max(1, min(wanted, rows // LEAST_IN_LIST))


def check_installed() -> None:
    """UserError where FAISS is not."""
    _faiss()


def check_lists(lists: int, rows: int) -> None:
    """UserError where there are more lists than rows to fit them on."""
    if lists > rows:
        raise UserError(f"--nlist {lists}: there are only {rows} rows to fit the lists on")


def train(vectors: np.ndarray, lists: int) -> Any:
    """Centroids for `vectors` (N, W), as an index without rows."""
    check_lists(lists, len(vectors))
    faiss = _faiss()
    width = -(-vectors.shape[1] // LANES) * LANES
    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, lists, kind, faiss.METRIC_INNER_PRODUCT, False
    )
    sample = np.random.default_rng(0).permutation(len(vectors))[: TRAINED_ON * lists]
    index.cp.min_points_per_centroid = 1  # a small gallery is no mistake
    index.train(_padded(vectors[np.sort(sample)]))
    return index


def write_lists(path: Path, trained: Path, vectors: np.ndarray) -> None:
    """Sort `vectors` (n, W) into the lists of `trained`."""
    index = open_lists(trained, mapped=False)
    for start in range(0, len(vectors), 65536):
        index.add(_padded(vectors[start : start + 65536]))
    save_lists(path, index)


def save_lists(path: Path, index: Any) -> None:
    """As a file of FAISS."""
    _faiss().write_index(index, str(path))


def open_lists(path: Path, mapped: bool = True) -> Any:
    """A file of FAISS. Raises UserError where it is damaged."""
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP if mapped else 0)
    except RuntimeError as error:
        reason = str(error).split(": ", 1)[-1]
        raise UserError(f"{path} is damaged ({reason}); copy the index again, or build it again") from None


@dataclass
class Lists:
    """The lists of all shards of a gallery. parts: the stored vectors that hits are scored with, shard by shard."""

    indices: Sequence[Any]
    parts: Sequence[np.ndarray]
    count: int  # lists

    def nearest(
        self, queries: np.ndarray, k: int, nprobe: int, skip: Sequence[np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `revtaf.search.exact.nearest`, among the rows of the `nprobe` nearest lists. A query whose lists hold
        fewer than k rows looks into twice as many, until it has k."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        left = sum(len(part) for part in self.parts) - sum(int(mask.sum()) for mask in skip or ())
        check_enough(k, left, "rows" if skip is None else "rows that are not excluded")
        score, row = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        waiting = np.arange(len(queries))
        while len(waiting):
            asking, scores, rows = self._pairs(queries[waiting], k, nprobe, skip)
            enough = np.bincount(asking, minlength=len(waiting)) >= k
            kept = enough[asking]
            place = np.cumsum(enough) - 1
            best = best_of(place[asking[kept]], scores[kept], rows[kept], int(enough.sum()), k)
            score[waiting[enough]], row[waiting[enough]] = scores[kept][best], rows[kept][best]
            if nprobe >= self.count and not enough.all():  # NaN alone is in no list
                raise UserError("the lists of the index lack rows; look for damage with --verify, or build it again")
            waiting, nprobe = waiting[~enough], min(2 * nprobe, self.count)
        return score, row

    def _pairs(
        self, queries: np.ndarray, k: int, nprobe: int, skip: Sequence[np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What every shard finds: query, score in float64 and row, each (n,)."""
        faiss = _faiss()
        asking, scores, rows, first = [], [], [], 0
        for number, (index, part) in enumerate(zip(self.indices, self.parts, strict=True)):
            options = {}
            if skip is not None and skip[number].any():
                barred = faiss.IDSelectorBatch(np.flatnonzero(skip[number]).astype(np.int64))
                options["sel"] = faiss.IDSelectorNot(barred)
            parameters = faiss.SearchParametersIVF(nprobe=min(nprobe, self.count), **options)
            _, found = index.search(_padded(queries), min(k, len(part)), params=parameters)
            query, place = np.nonzero(found >= 0)
            within = found[query, place]
            asking.append(query)
            scores.append(rescored(queries, query, part, within))
            rows.append(within + first)
            first += len(part)
        return np.concatenate(asking), np.concatenate(scores), np.concatenate(rows)


def _padded(vectors: np.ndarray) -> np.ndarray:
    """float32, the width filled up to a multiple of `LANES` with zeros, which change no product."""
    missing = -vectors.shape[1] % LANES
    return np.ascontiguousarray(np.pad(vectors.astype(np.float32), ((0, 0), (0, missing))))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise UserError("FAISS is not installed: pip install 'revtaf[faiss]', or build an exact index") from None
    return faiss
