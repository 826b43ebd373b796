"""The packed table of what a source held and what became of it: the same bytes for the same rows."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def packed_rows(path: Path) -> Iterator[Any]:
    """Yield a CSV writer whose rows go to `path`, packed by gzip; neither name nor time in the header."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed:
        with io.TextIOWrapper(packed, encoding="utf-8", newline="") as file:
            yield csv.writer(file, lineterminator="\n")
