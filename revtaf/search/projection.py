"""Fewer dimensions by a singular value decomposition, fitted on training vectors and applied to all others.

The paper (MedFuse-CLIP, section III-B) stores 256 of 512 dimensions by "PCA" and does not say whether the mean is taken
off. It matters: centring re-orders the neighbours, because the vectors of a contrastive model lie in a narrow cone. The
default leaves the mean where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from revtaf.errors import UserError
from revtaf.files import regular_file

NORM_FLOOR = 1e-12  # of a projected vector, which else might be divided by 0


@dataclass(frozen=True)
class Projection:
    """basis (D, W) orthonormal columns, mean (D,), zero where it is not centred; float32."""

    basis: np.ndarray
    mean: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, W) float32 of unit length."""
        reduced = (vectors - self.mean) @ self.basis
        return reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), NORM_FLOOR)

    def save(self, path: Path) -> None:
        """As safetensors."""
        save_file({"basis": np.ascontiguousarray(self.basis), "mean": self.mean}, path)

    @classmethod
    def load(cls, path: Path) -> Projection:
        """What `save` wrote. Raises UserError where it is damaged."""
        try:
            return cls(**load_file(regular_file(path)))
        except Exception as error:  # safetensors raises many kinds here; all mean: not what was written
            raise UserError(f"{path} is damaged ({error}); build the index again") from None


def fit(parts: Sequence[np.ndarray], width: int, centred: bool) -> tuple[Projection, float]:
    """The projection on the `width` largest directions of all rows of `parts` ((n, D) each), and the share of their
    squared length that it keeps. Deterministic up to rounding: the largest entry of a direction is positive."""
    count, dimensions = sum(len(part) for part in parts), parts[0].shape[1]
    if width > min(count, dimensions):
        raise UserError(f"--svd {width}: {count} training vectors of width {dimensions} have fewer directions")
    moments, mean = np.zeros((dimensions, dimensions)), np.zeros(dimensions)
    for part in parts:
        for start in range(0, len(part), 16384):
            rows = part[start : start + 16384].astype(np.float64)
            moments += rows.T @ rows
            mean += rows.sum(0)
    moments, mean = moments / count, mean / count if centred else np.zeros(dimensions)
    values, directions = np.linalg.eigh(moments - np.outer(mean, mean))
    values, basis = values[::-1], directions[:, ::-1][:, :width]
    basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(width)])
    kept = float(values[:width].sum() / max(values.sum(), NORM_FLOOR))
    return Projection(basis.astype(np.float32), mean.astype(np.float32)), kept
