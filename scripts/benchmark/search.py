"""Size and speed of an index of embeddings: exact and FAISS beside NumPy's own product, in the same run.

    python scripts/benchmark/search.py                       377,110 and 604,945 rows of width 512, as MIMIC-CXR has
    python scripts/benchmark/search.py --rows 50000 --engines exact

The vectors are invented: unit vectors about a common mean with a decaying spectrum, as a contrastive model's are. Real
ones cluster better, so recall here says nothing of any data set. Times are the best of several, on the clock and of the
processor; NumPy and the search take turns, and the target is judged by the median ratio of processor times, which other
work on the machine moves least. The folder is deleted.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from revtaf.search.build import Entries, IndexOptions, Material, create
from revtaf.search.index import IMAGES, REPORTS, SearchIndex

BATCH, K, REPEATS, PIECE = 256, 10, 5, 65536
TARGET, OPENING = 1.3, 0.1  # of NumPy's product; seconds


def invent(rows: int, width: int, seed: int) -> np.ndarray:
    """(rows, width) float32 of unit length: cosine .64 on average, a few strong directions."""
    draw = np.random.default_rng(seed)
    spectrum = (1 + np.arange(width)) ** -0.5
    spectrum *= 0.6 / np.linalg.norm(spectrum)
    mean = np.full(width, 0.8 / width**0.5)
    vectors = np.empty((rows, width), np.float32)
    for start in range(0, rows, PIECE):
        part = vectors[start : start + PIECE]
        part[:] = mean + draw.standard_normal(part.shape, dtype=np.float32) * spectrum
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def measured(*actions: Callable[[], object], repeats: int = REPEATS) -> np.ndarray:
    """Seconds (actions, repeats, 2) on the clock and of the processor; the actions take turns."""
    seconds = np.empty((len(actions), repeats, 2))
    for turn in range(repeats):
        for number, action in enumerate(actions):
            start = time.perf_counter(), time.process_time()
            action()
            seconds[number, turn] = time.perf_counter() - start[0], time.process_time() - start[1]
    return seconds


def product(vectors: np.ndarray, queries: np.ndarray) -> None:
    """NumPy's float32 product with every row, in pieces, nothing else."""
    scores = np.empty((len(queries), PIECE), np.float32)
    for start in range(0, len(vectors), PIECE):
        part = vectors[start : start + PIECE]
        np.matmul(queries, part.T, out=scores[:, : len(part)] if len(part) == PIECE else None)


def material(vectors: np.ndarray, few: np.ndarray, held: np.ndarray) -> Material:
    """The rows as images; a few reports beside them, since an index holds both."""

    def records(count: int, more: dict) -> list[dict]:
        whose = {"study": "s", "split": "train", **more}
        return [{"id": f"{row:08x}", "patient": str(10_000_000 + row // 5), **whose} for row in range(count)]

    galleries = {
        IMAGES: Entries(vectors, records(len(vectors), {"image": "files/p10/p10000032/s50414267.jpg", "report": 0})),
        REPORTS: Entries(few, records(len(few), {"text": "no acute cardiopulmonary process", "images": []})),
    }
    model = {"system": "none", "digest": "none", "folder": "none"}
    return Material(galleries, model, held={kind: held for kind in (IMAGES, REPORTS)}, held_split="invented")


def measure(rows: int, width: int, engines: Sequence[str], svd: int | None, nlist: int | None, root: Path) -> bool:
    """Print one table; whether the targets are met."""
    vectors, few = invent(rows, width, 1), invent(1000, width, 2)
    queries, held = invent(BATCH, width, 3), invent(BATCH, width, 4)
    print(f"\n{rows:,} x {width}; float32 {vectors.nbytes / 1e9:.3f} GB, float16 {vectors.nbytes / 2e9:.3f} GB")
    fine = True
    for engine in engines:
        options = IndexOptions(engine=engine, svd=svd, nlist=nlist if engine == "faiss" else None)
        given = material(vectors, few, held)
        given.fit = [vectors] if svd else []
        start = time.perf_counter()
        create(root / engine, given, options)
        build = time.perf_counter() - start
        opening = measured(lambda place=root / engine: SearchIndex.open(place))[0, :, 0].min()
        index = SearchIndex.open(root / engine)
        gallery = index.galleries[IMAGES]
        files = [shard["files"] for shard in gallery.manifest["shards"]]
        sizes = {name: sum(file[name]["bytes"] for file in files) for name in files[0]}
        print(f"{index.engine(IMAGES, IMAGES)}")
        print("  bytes: " + ", ".join(f"{name} {size / 1e9:.3f} GB" for name, size in sizes.items()))
        print(f"  build {build:.1f} s, opening {opening * 1e3:.1f} ms")
        asked = index.queries(queries)

        def search(count: int, index: SearchIndex = index, asked: np.ndarray = asked) -> None:
            index.search(IMAGES, asked[:count], K, asked=IMAGES)

        start = time.perf_counter()
        search(BATCH)
        first = time.perf_counter() - start
        line = f"{first:.2f} s the first time"
        for count in (1, BATCH):
            seconds = measured(lambda n=count: product(vectors, queries[:n]), lambda n=count: search(n))
            (numpy, _), (clock, processor) = seconds.min(1) * 1e3
            ratio = float(np.median(seconds[1, :, 1] / seconds[0, :, 1]))
            print(
                f"  {count:3d} queries: {clock:8.1f} ms ({clock / count:.2f} ms each; processor {processor:.1f} ms), "
                f"NumPy's product {numpy:8.1f} ms; ratio {clock / numpy:.2f}, of processor times {ratio:.2f}"
                + (f"; {line}" if count == BATCH else "")
            )
            fine &= count == 1 or engine != "exact" or ratio <= TARGET
        fine &= opening <= OPENING
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[377_110, 604_945])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--engines", nargs="+", choices=("exact", "faiss"), default=["exact", "faiss"])
    parser.add_argument("--svd", type=int)
    parser.add_argument("--nlist", type=int)
    parser.add_argument("--out", type=Path, help="where the folder lies meanwhile")
    options = parser.parse_args()
    fine = True
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.out) as root:
            fine &= measure(rows, options.width, options.engines, options.svd, options.nlist, Path(root))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1 / 1024)
    print(f"\npeak memory {peak / 1e9:.1f} GB")
    print(
        f"targets (exact batch <= {TARGET} of NumPy's product, opening <= {OPENING} s): {'met' if fine else 'missed'}"
    )
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
