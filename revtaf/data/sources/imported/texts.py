"""The texts of an import, each stored once: local texts as codes of a table, reports as lists of sentences.

Rows are compared after rounding to float16, as they are stored; tables that may be large are gathered on disk.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from tqdm import tqdm

from revtaf.data.sources.imported.artefacts import half, json_rows, load_embeddings, number_rows
from revtaf.errors import UserError
from revtaf.labels import ENTITIES

MOST_CODES = 256  # texts of one entity: a code is one byte


def stored_vectors(path: Path, count: int, scratch: Path) -> np.ndarray:
    """The N memory vectors of a file -> (N, V) float16, on disk in `scratch`."""
    with open(scratch / "vectors", "wb") as file:
        for where, row in number_rows(json_rows(path), path, "memory texts", count):
            file.write(half(where, row).tobytes())
    return np.memmap(scratch / "vectors", np.float16, "r").reshape(count, -1)


def stored_local_texts(files: list[Path], width: int) -> tuple[np.ndarray, np.ndarray]:
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


def stored_reports(files: list[Path], width: int, vectors: np.ndarray, scratch: Path) -> dict[str, np.ndarray]:
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
