"""SembScore: do CheXbert's vectors of the two reports point the same way? (Yu et al. 2023; supplement, Table 5)

The vectors are [CLS] of CheXbert before its heads, made here (`CheXbertLabeler.embed`) or elsewhere and kept in files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from revtaf.data.array_file import read_array
from revtaf.errors import UserError
from revtaf.eval.keyed import in_order, require_file, require_files
from revtaf.eval.metric import Metric, mean_metric
from revtaf.files import read_json

_WHAT = "SembScore vectors"
_SIDES = ("reference", "prediction")
_LAYOUT = (
    "expected a folder with ids.json (a list), reference.npy and prediction.npy, or one .safetensors file "
    'with the tensors "reference" and "prediction" and the ids as a JSON list in its metadata'
)


def score(reference: np.ndarray, prediction: np.ndarray) -> Metric:
    """The mean cosine of vectors (N, D) and (N, D). A vector of length 0 has cosine 0 with everything."""
    reference, prediction = np.asarray(reference, dtype=float), np.asarray(prediction, dtype=float)
    if reference.shape != prediction.shape or reference.ndim != 2:
        raise ValueError(f"expected vectors (N, D) of both sides, got {reference.shape} and {prediction.shape}")
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(prediction, axis=1)
    products = (reference * prediction).sum(axis=1)
    return mean_metric("SembScore", np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))


def check_vectors(path: Path) -> None:
    """UserError where the files are not there; nothing is read."""
    if Path(path).is_dir():
        require_files(Path(path), [["ids.json"], ["reference.npy"], ["prediction.npy"]], _WHAT, _LAYOUT)
    else:
        require_file(path, _WHAT)


def read_vectors(path: Path, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction vectors (N, D), in the order of `ids`. UserError where ids or shapes do not fit."""
    path = Path(path)
    check_vectors(path)
    held, sides = _from_folder(path) if path.is_dir() else _from_safetensors(path)
    if not isinstance(held, list) or not all(isinstance(i, str) for i in held):
        raise UserError(f"{_WHAT}: {path}: the ids are not a list of texts; {_LAYOUT}")
    by_id = {i: row for row, i in enumerate(held)}
    if len(by_id) < len(held):
        twice = next(i for row, i in enumerate(held) if by_id[i] != row)
        raise UserError(f"{_WHAT}: {path}: the id {twice!r} occurs twice")
    rows = in_order(by_id, ids, path)
    for name, vectors in sides.items():
        if vectors.ndim != 2 or len(vectors) != len(held) or vectors.dtype.kind != "f":
            raise UserError(
                f"{_WHAT}: {path}: {name} is {vectors.dtype} {vectors.shape}, expected floats of shape "
                f"({len(held)}, D), one row an id"
            )
        if (bad := ~np.isfinite(vectors).all(axis=1)).any():
            raise UserError(f"{_WHAT}: {path}: {name} of id {held[int(bad.argmax())]!r} is not finite")
    reference, prediction = (sides[name] for name in _SIDES)
    if reference.shape != prediction.shape:
        raise UserError(f"{_WHAT}: {path}: reference is {reference.shape}, prediction {prediction.shape}")
    return reference[rows], prediction[rows]


def _from_folder(folder: Path) -> tuple[object, dict[str, np.ndarray]]:
    sides = {}
    for name in _SIDES:
        file = folder / f"{name}.npy"
        sides[name] = read_array(file, f"{_WHAT}: it has to be one array of numbers")
    return read_json(folder / "ids.json", _WHAT), sides


def _from_safetensors(path: Path) -> tuple[object, dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="np") as file:
            ids = json.loads((file.metadata() or {})["ids"])
            return ids, {name: file.get_tensor(name) for name in _SIDES}
    except (KeyError, json.JSONDecodeError):
        raise UserError(f"{_WHAT}: {path} has no JSON list of ids in its metadata; {_LAYOUT}") from None
    except (OSError, SafetensorError, TypeError) as error:
        raise UserError(f"{_WHAT}: cannot read {path}: {error}; {_LAYOUT}") from None
