"""From a phantom case to its radiograph: absorption, exposure, blur, noise, marker; and the boxes."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from revtaf.data.annotations import Box
from revtaf.data.sources.phantom.anatomy import Anatomy
from revtaf.data.sources.phantom.cases import Case, Finding, stream
from revtaf.data.sources.phantom.chest import Chest, draw_chest
from revtaf.data.sources.phantom.findings import paint
from revtaf.data.sources.phantom.lines import canvas, flatten, polyline
from revtaf.data.sources.phantom.shapes import Regions, reshape
from revtaf.labels import CATEGORIES

BOX_LEVEL = 0.2  # a box holds what a finding's map reaches of its maximum
BOX_MARGIN = 0.012
SMALLEST_REGION = 1e-3
# Letter and corner of the side marker: one per reading room, as hospitals differ in their habits.
MARKERS = (("L", 0.91, 0.07), ("R", 0.07, 0.07), ("L", 0.9, 0.16), ("R", 0.08, 0.16), ("L", 0.87, 0.045))
_LETTERS = {
    "L": (((0, 0), (0, 1), (0.6, 1)),),
    "R": (((0, 1), (0, 0), (0.5, 0.05), (0.62, 0.25), (0.5, 0.48), (0, 0.52)), ((0.3, 0.52), (0.65, 1))),
}


def render(case: Case, seed: int, size: int) -> tuple[np.ndarray, tuple[Box, ...]]:
    """The study's image (size, size) uint8 and a box for every side of every drawn finding."""
    drawn = [f for f in case.findings if f.drawn]

    def seeded(category: str) -> np.random.Generator:
        return stream(seed, 5, case.index, CATEGORIES.index(category))

    anatomy = Anatomy.sample(stream(seed, 4, case.patient)).positioned(stream(seed, 6, case.index))
    for finding in drawn:
        anatomy = reshape(anatomy, finding, seeded(finding.category))
    chest = draw_chest(anatomy, size)
    regions = paint(chest, drawn, seeded)
    boxes = tuple(box for finding in drawn for box in _boxes(finding, regions))
    return expose(chest, case.style, stream(seed, 7, case.index)), boxes


def expose(chest: Chest, style: int, rng: np.random.Generator) -> np.ndarray:
    """The film: what passes through all layers, under this study's exposure; (S, S) uint8."""
    size = chest.size
    depth = gaussian_filter(chest.air, 0.02 * size, truncate=2.5)  # thin at its edges
    absorbed = chest.tissue - 0.52 * np.sqrt(chest.air * depth) + 0.19 * chest.vessels
    absorbed += chest.bones + chest.added + 0.3 * chest.devices
    exposure, contrast = rng.normal(1.0, 0.06), rng.normal(1.35, 0.08)
    film = 1 - np.exp(-1.9 * exposure * np.clip(absorbed, 0, None) ** contrast)
    film = gaussian_filter(film, size * rng.uniform(0.0008, 0.0026), truncate=3)
    noise = gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), 0.5, truncate=2)
    film += rng.uniform(0.008, 0.022) * noise * (0.4 + film)
    film = np.maximum(film, _marker(style, size, rng))
    return (255 * np.clip(film, 0, 1) + 0.5).astype(np.uint8)


def _marker(style: int, size: int, rng: np.random.Generator) -> np.ndarray:
    letter, x, y = MARKERS[style]
    image, draw = canvas(size)
    corner = np.array([x, y]) + rng.normal(0, 0.006, 2)
    for stroke in _LETTERS[letter]:
        polyline(draw, corner + np.array(stroke) * np.array([0.05, 0.05]), 0.009, 235)
    return flatten(image)


def _boxes(finding: Finding, regions: dict[str, Regions]) -> list[Box]:
    """One box per side of a finding; where it is the shadow of another, the boxes of that other."""
    boxes = []
    for side, region in regions[finding.shown_by or finding.category].items():
        peak = float(region.max())
        if peak < SMALLEST_REGION:  # swallowed by another finding, such as a band under an effusion
            region, peak = np.ones_like(region), 1.0
        inside = region > BOX_LEVEL * peak
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        low = np.array([columns[0], rows[0]]) / len(region) - BOX_MARGIN
        high = np.array([columns[-1] + 1, rows[-1] + 1]) / len(region) + BOX_MARGIN
        xyxy = np.round(np.clip(np.concatenate([low, high]), 0, 1), 4)
        boxes.append(Box(finding.category, tuple(xyxy.tolist()), side, finding.zone))
    return boxes
