"""Size and speed of the packed features at MIMIC-CXR's size, with invented content.

    python scripts/benchmark/store.py                      276,778 images, as in R2Gen's selection
    python scripts/benchmark/store.py --rows 20000

How many distinct sentences and reports MIMIC-CXR has is not known before it is read. The default extrapolates IU
X-Ray: n reports have about 3,768 (n / 2,048)^0.82 distinct sentences; of 152,000 reports nine in ten are distinct.
"Cold" opens files that the page cache has just been asked to forget.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from revtaf.features.arrays import Features, TextTables, load_arrays, save_arrays
from revtaf.labels import CATEGORIES, ENTITIES
from revtaf.prompts.bank import PromptBank
from revtaf.prompts.local import PER_ENTITY

BATCH = 18
CPU = torch.device("cpu")


def invent(rows: int, reports: int, sentences: int, width: int) -> tuple[Features, TextTables]:
    draw = np.random.default_rng(0)

    def vectors(n: int) -> np.ndarray:
        return draw.standard_normal((n, width), dtype=np.float32).astype(np.float16)

    def below(n: int, shape, dtype) -> np.ndarray:
        return draw.integers(0, n, shape).astype(dtype)

    features = Features(
        ids=[f"{i:08x}-{i * 7:08x}-{i * 11:08x}-{i * 13:08x}-{i:08x}" for i in range(rows)],
        patients=[str(10_000_000 + i // 4) for i in range(rows)],
        statuses=below(4, (rows, len(CATEGORIES)), np.uint8),
        scores=draw.random((rows, len(ENTITIES)), dtype=np.float32).astype(np.float16),
        codes=below(PER_ENTITY, (rows, len(ENTITIES)), np.uint8),
        memory=below(rows, (rows, 21), np.int32),
    )
    lengths = draw.integers(1, 12, reports)
    texts = TextTables(
        report_ids=below(reports, rows, np.int32),
        offsets=np.r_[0, np.cumsum(lengths)],
        sentence_ids=below(sentences, int(lengths.sum()), np.int32),
        sentences=vectors(sentences),
        reports=np.zeros((0, 0), np.float16),
        triplets=vectors(len(ENTITIES) * PER_ENTITY),
        nearest=below(rows, rows, np.int32),
    )
    return features, texts


def open_store(folder: Path) -> tuple[Features, TextTables, PromptBank]:
    features, texts = load_arrays(folder / "train", Features), load_arrays(folder / "texts", TextTables)
    return features, texts, PromptBank(texts, 20, CPU)


def batch(features: Features, bank: PromptBank, rows: np.ndarray) -> float:
    """Everything that one training step reads; returns seconds of CPU."""
    start = time.process_time()
    features.scores[rows].astype(np.float32), features.statuses[rows]
    bank.local(torch.from_numpy(features.codes[rows].astype(np.int64)))
    bank.memory(torch.from_numpy(features.memory[rows].astype(np.int64)))
    bank.retrieved(torch.from_numpy(rows))
    return time.process_time() - start


def forget(folder: Path) -> None:
    for path in folder.rglob("*.npy"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=276_778)
    parser.add_argument("--reports", type=int, help="distinct ones; half of the rows by default")
    parser.add_argument("--sentences", type=int, help="distinct ones; by the law above by default")
    parser.add_argument("--width", type=int, default=768)
    options = parser.parse_args()
    reports = options.reports or options.rows // 2
    sentences = options.sentences or round(3768 * (options.rows * 0.55 / 2048) ** 0.82)
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place)
        features, texts = invent(options.rows, reports, sentences, options.width)
        save_arrays(folder / "train", features, {"made": "benchmark"})
        save_arrays(folder / "texts", texts, {"made": "benchmark"})
        del features, texts
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{options.rows:,} rows, {reports:,} reports, {sentences:,} sentences of width {options.width}")
        print(f"size                      {size / 1e6:8.0f} MB; 100,000 sentences: {2e5 * options.width / 1e6:.0f} MB")
        for name in ("cold", "warm"):
            if name == "cold":
                forget(folder)
            start = time.perf_counter()
            features, _, bank = open_store(folder)
            print(f"open, {name}                {time.perf_counter() - start:8.2f} s, every file hashed")
        draw = np.random.default_rng(1)
        torch.set_num_threads(1)
        ms = [1e3 * batch(features, bank, draw.integers(0, options.rows, BATCH)) for _ in range(200)]
        print(f"a batch of {BATCH}, random rows  {np.median(ms):8.2f} ms of CPU (worst {max(ms):.2f})")


if __name__ == "__main__":
    main()
