"""Where do the attention maps look, and is it where the finding is? The paper's central claim, measured on known boxes.

A map gives each of P patches a weight; a box says where the finding was drawn. Three scores of a map, all in [0, 1]:

- pointing (Zhang et al. 2018, the pointing game): whether the patch of the largest weight hits the box;
- iou: sum of minima / sum of maxima of the map, scaled to [0, 1] by its own extremes as in Eq. 13, and of the share of
  each patch that the box covers;
- mass: the share of the map's weight that lies in the box. A uniform map gets the box's share of the image.

Rows that look at no image stand beside every model: the uniform map, and for each finding the mean box of the training
set. Chance differs by the size of a finding, so that only rows of one table compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from revtaf.eval.metric import Metric
from revtaf.fvtaf.fcc import FLAT, soft_iou, unit_maps
from revtaf.labels import ENTITIES

SCORES = ("pointing", "iou", "mass")
FINE = 16  # points per patch and axis at which the cover of a box is sampled
# A patch hits a box that covers half of it, or of which it holds half; the best covered patch always does.
HIT = 0.5
FEWEST = 5  # boxes of a finding below which the mean over findings leaves it out

# Which entities' maps stand for a finding: the one that the image's own scores call most probable is taken.
ENTITIES_OF = {
    "enlarged cardiomediastinum": ("widen",),
    "cardiomegaly": ("cardiomegaly", "enlarge"),
    "lung opacity": ("opacity", "density", "infiltrate"),
    "lung lesion": ("nodule", "mass", "lesion"),
    "edema": ("edema", "congestion", "engorgement", "redistribution"),
    "consolidation": ("consolidation",),
    "pneumonia": ("pneumonia", "infiltrate"),
    "atelectasis": ("atelectasis", "collapse", "loss"),
    "pneumothorax": ("pneumothorax",),
    "pleural effusion": ("effusion", "fluid", "blunt"),
    "pleural other": ("thicken", "scar"),
    "fracture": ("fracture",),
    "support devices": ("tube", "catheter", "line", "picc", "pacemaker", "lead", "device", "wire", "tip"),
    "aorta abnormality": ("tortuous", "calcification"),
    "bone/spine abnormality": ("degenerative", "deformity"),
    "hemidiaphragm abnormality": ("elevation",),
    "lung volume abnormality": ("low", "hyperinflate"),
}
FINDINGS = tuple(ENTITIES_OF)


def entity_of(finding: str, scores: np.ndarray) -> int:
    """The entity whose map stands for `finding` in an image with entity scores (75,)."""
    candidates = [ENTITIES.index(name) for name in ENTITIES_OF[finding]]
    return max(candidates, key=lambda i: scores[i])


def coverage(boxes: Sequence[Sequence[float]], grid: int) -> np.ndarray:
    """Boxes (left, top, right, bottom) in fractions of the image -> share of each patch that they cover, (grid^2,).

    Row-major from the top left, as the encoder's patches.
    """
    at = (np.arange(grid * FINE) + 0.5) / (grid * FINE)
    inside = np.zeros((len(at), len(at)), dtype=bool)
    for left, top, right, bottom in boxes:
        inside |= ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))[None]
    return inside.reshape(grid, FINE, grid, FINE).mean((1, 3)).ravel()


def hits(covers: Sequence[np.ndarray]) -> np.ndarray:
    """Covers (P,) of the single boxes of a finding -> which patches hit one of them, (P,) bool."""
    found = np.zeros(len(covers[0]), dtype=bool)
    for cover in covers:
        if cover.any():
            found |= (cover >= HIT) | (cover >= HIT * cover.sum()) | (cover == cover.max())
    return found


def score_map(weights: np.ndarray, cover: np.ndarray, hit: np.ndarray | None = None) -> tuple[float, float, float]:
    """pointing, iou, mass of a map (P,), 0 or more, against the cover (P,) of all boxes and the patches that hit one
    (`hits`; those of a single box where not given). Equal largest weights share the hit.

    Raises ValueError for a cover of nothing.
    """
    if not cover.any():
        raise ValueError("no patch is covered by the box")
    hit = hits([cover]) if hit is None else hit
    top = weights >= weights.max() - FLAT * abs(weights.max())
    total = weights.sum()
    mass = float((weights * cover).sum() / total) if total > 0 else float(cover.mean())
    return float(hit[top].mean()), map_iou(weights, cover), mass


def map_iou(weights: np.ndarray, other: np.ndarray) -> float:
    """Soft IoU (Eq. 13) of two maps (P,), the first scaled to [0, 1], the second taken as it is."""
    a = unit_maps(torch.from_numpy(np.asarray(weights, dtype=np.float64))[None, None])
    return float(soft_iou(a, torch.from_numpy(np.asarray(other, dtype=np.float64))[None, None]))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Soft IoU of two maps (P,), both scaled: what FCC rewards for a sentence and an entity of the same finding."""
    scaled = unit_maps(torch.from_numpy(np.asarray(b, dtype=np.float64)))
    return map_iou(a, scaled.numpy())


class Tally:
    """Sums of scores by sample and finding: what an alignment study stores, and what its metrics are made of."""

    def __init__(self, samples: int):
        self.counts = np.zeros((samples, len(FINDINGS)))
        self.sums = {name: np.zeros((samples, len(FINDINGS))) for name in SCORES}

    def add(self, sample: int, finding: str, scores: Sequence[float]) -> None:
        """Count one map. sample: its row. finding: one of FINDINGS. scores: in the order of SCORES."""
        column = FINDINGS.index(finding)
        self.counts[sample, column] += 1
        for name, value in zip(self.sums, scores, strict=True):
            self.sums[name][sample, column] += value

    def content(self) -> dict:
        """Plain lists, for a file."""
        return {"counts": self.counts.tolist(), **{name: np.round(s, 6).tolist() for name, s in self.sums.items()}}


def metrics(content: dict, prefix: str = "") -> dict[str, Metric]:
    """The metrics of a stored tally: `pointing`, `iou`, `mass` over all maps, their mean over the findings with FEWEST
    maps or more (`macro_pointing`, ..), and each finding's own (`pointing/edema`, ..).

    Statistics (N, 2 F): sums and counts, so that a resample of patients resamples the findings they have.
    """
    counts = np.array(content["counts"], dtype=float)
    kept = np.flatnonzero(counts.sum(0) >= FEWEST)
    found: dict[str, Metric] = {}
    for name in SCORES:
        table = np.concatenate([np.array(content[name], dtype=float), counts], axis=1)
        found[f"{prefix}{name}"] = Metric(name, table, _pooled(np.arange(len(FINDINGS))))
        found[f"{prefix}macro_{name}"] = Metric(name, table, _mean_of(kept))
        for column in kept:
            key = f"{prefix}{name}/{FINDINGS[column]}"
            found[key] = Metric(key, table, _pooled(np.array([column])))
    return found


def _pooled(columns: np.ndarray):
    def value(sums: np.ndarray) -> np.ndarray:
        scores, counts = np.split(sums, 2, axis=-1)
        return _ratio(scores[..., columns].sum(-1), counts[..., columns].sum(-1))

    return value


def _mean_of(columns: np.ndarray):
    def value(sums: np.ndarray) -> np.ndarray:
        scores, counts = (part[..., columns] for part in np.split(sums, 2, axis=-1))
        present = counts > 0  # a resample without this finding leaves it out of the mean
        ratios = np.where(present, _ratio(scores, counts), 0)
        return _ratio(ratios.sum(-1), present.sum(-1))

    return value


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
