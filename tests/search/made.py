"""Indices of invented rows, for the tests of this folder."""

from __future__ import annotations

import numpy as np

from revtaf.search.build import Entries, Material
from revtaf.search.index import IMAGES, REPORTS

MODEL = {"system": "toy", "digest": "d1", "folder": "/nowhere"}


def unit(rows: int, width: int = 16, seed: int = 0) -> np.ndarray:
    """Unit vectors about a few directions."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((12, width))[draw.integers(0, 12, rows)] + 0.4 * draw.standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def material(rows: int = 60, start: int = 0, width: int = 16, patients: bool = True, **more) -> Material:
    """Studies number `start` to `start + rows`, two images each, two studies a patient."""
    reports, images = [], []
    for row in range(rows):
        number = start + row
        whose = {"id": f"s{number}", "study": f"s{number}", "patient": f"p{number // 2}" if patients else ""}
        whose["split"] = "train"
        files = [f"{number}-{view}.png" for view in (0, 1)]
        reports.append({**whose, "text": f"The heart is normal. Finding {number}.", "images": files})
        images += [{**whose, "image": file, "report": row} for file in files]
    galleries = {
        IMAGES: Entries(unit(2 * rows, width, start + 1), images),
        REPORTS: Entries(unit(rows, width, start + 2), reports),
    }
    source = {"annotation": "a.json", "images": "", "splits": ["train"]}
    return Material(galleries, dict(MODEL), source, **more)
