"""Labels that are kept: a labeler is slow (CheXbert: a third of a CPU second a report), its texts repeat.

References are the same in every evaluation, and a killed run has labelled most of them already. One SQLite file for
any number of labelers and processes. The key is the exact text, because even blank lines mean something to a labeler.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.knowledge.base import Labeler
from revtaf.labels import CATEGORIES, STATUSES

_BATCH = 256  # texts a transaction: what a kill costs at most
_PATIENCE = 60.0  # seconds to wait for another process's transaction, which takes milliseconds
_REMEDY = "delete the file, it is filled again"
_SCHEMA = "CREATE TABLE IF NOT EXISTS labels (key BLOB PRIMARY KEY, statuses BLOB NOT NULL) WITHOUT ROWID"


class CachedLabeler:
    """Labels what `labeler` labels, each text once for all processes and runs that share `path`."""

    categories = CATEGORIES

    def __init__(self, labeler: Labeler, path: str | Path):
        self.labeler = labeler
        self.name = labeler.name
        self.path = Path(path)

    def label(self, reports: Sequence[str]) -> np.ndarray:
        """(N, 18) uint8, equal to the labeler's own."""
        if isinstance(reports, str):
            raise TypeError("expected a sequence of reports, got one string")
        keys = [hashlib.sha256(f"{self.name}\0{report}".encode()).digest() for report in reports]
        texts = dict(zip(keys, reports, strict=True))
        known = self._find(list(texts))
        missing = [key for key in texts if key not in known]
        with tqdm(total=len(missing), desc=self.name, unit="report", leave=False, delay=5) as bar:
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                rows = self.labeler.label([texts[key] for key in batch])
                new = {key: row.astype(np.uint8).tobytes() for key, row in zip(batch, rows, strict=True)}
                with self._open() as database, database:
                    database.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?)", new.items())
                known |= new
                bar.update(len(batch))
        joined = b"".join(known[key] for key in keys)
        return np.frombuffer(joined, dtype=np.uint8).reshape(len(reports), len(CATEGORIES)).copy()

    def _find(self, keys: list[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        with self._open() as database:
            for start in range(0, len(keys), _BATCH):
                part = keys[start : start + _BATCH]
                places = ",".join("?" * len(part))
                found |= database.execute(f"SELECT key, statuses FROM labels WHERE key IN ({places})", part).fetchall()
        for statuses in found.values():
            sound = isinstance(statuses, bytes) and len(statuses) == len(CATEGORIES)
            if not sound or max(statuses) >= len(STATUSES):
                raise UserError(f"label cache {self.path} is damaged: not {len(CATEGORIES)} statuses; {_REMEDY}")
        return found

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one step: none is held while a report is labelled, or carried into a forked process."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as database:
                database.execute(_SCHEMA)
                yield database
        except sqlite3.OperationalError as error:  # locked, read-only, disk full: the file itself may be sound
            raise UserError(f"label cache {self.path} cannot be used: {error}") from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"label cache {self.path} is damaged ({error}); {_REMEDY}") from None
