"""The shadows that findings of lung and pleura cast on a phantom chest.

Every painter changes the layers in place and returns one map per side, from which the boxes are read. What
fills the lung (edema, consolidation, fluid) takes its air away, so that overlapping findings saturate.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from revtaf.data.sources.phantom.anatomy import step
from revtaf.data.sources.phantom.cases import Finding
from revtaf.data.sources.phantom.chest import Chest
from revtaf.data.sources.phantom.devices import paint_devices
from revtaf.data.sources.phantom.lines import canvas, flatten, polyline
from revtaf.data.sources.phantom.shapes import (
    Regions,
    aorta,
    diaphragm,
    fracture,
    heart,
    sides,
    spine,
    volumes,
    wide_mediastinum,
)

ZONE_HEIGHT = {"upper": 0.2, "mid": 0.5, "lower": 0.78}  # of the lung, from the apex


def paint(chest: Chest, findings: Iterable[Finding], seeded) -> dict[str, Regions]:
    """Paint what is drawn; `seeded(category)` gives every finding its own random stream."""
    return {f.category: PAINTERS[f.category](chest, f, seeded(f.category)) for f in findings}


def _veil(chest: Chest, mask: np.ndarray, strength: float) -> None:
    """Fill air with water: the lung loses the share `strength` of its air where the mask is 1."""
    chest.air *= 1 - strength * mask
    chest.vessels *= 1 - 0.7 * strength * mask  # seen against air only


def _texture(size: int, grain: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (S, S) with mean 0 and deviation about 1; `grain` in fractions of the image."""
    cells = max(4, round(1 / grain))
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    fine = zoom(coarse, size / cells, order=1, grid_mode=True, mode="nearest")
    return fine[:size, :size]


def _blob(chest: Chest, side: str, u: float, y: float, wide: float, high: float) -> np.ndarray:
    """A Gaussian spot; `wide` and `high` in fractions of the image."""
    across = (chest.u[side] - u) * (chest.anatomy.width / wide)
    return np.exp(-(across**2) - ((chest.y - y) / high) ** 2)


def _lung_y(chest: Chest, side: str, t: float) -> float:
    """y at the share t of the lung's height, apex 0, dome 1."""
    a = chest.anatomy
    return a.apex + t * (a.domes[side] + 0.03 - a.apex)


def _patchy(chest: Chest, finding: Finding, rng: np.random.Generator, size: float, density: float) -> Regions:
    regions = {}
    for side in sides(finding):
        y = _lung_y(chest, side, ZONE_HEIGHT[finding.zone] + rng.uniform(-0.06, 0.06))
        u = rng.uniform(0.48, 0.7)
        wide = size * (0.75 + 0.6 * finding.severity) * rng.uniform(0.85, 1.15)
        spot = _blob(chest, side, u, y, wide, wide * rng.uniform(0.75, 1.1))
        clumps = np.clip(0.75 + 0.55 * _texture(chest.size, 0.045, rng), 0, 1.5)
        mask = np.clip(spot * clumps * 1.3, 0, 1) * chest.lungs[side]
        _veil(chest, mask, density * (0.45 + 0.55 * finding.severity))
        regions[side] = mask
    return regions


def _opacity(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    return {} if finding.shown_by else _patchy(chest, finding, rng, 0.11, 0.85)


def _pneumonia(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    return _patchy(chest, finding, rng, 0.10, 0.95)


def _consolidation(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """A lobe: sharp at the fissure, with dark air bronchograms."""
    regions = {}
    for side in sides(finding):
        middle, half = _lung_y(chest, side, ZONE_HEIGHT[finding.zone]), 0.07 + 0.06 * finding.severity
        slope = (chest.u[side] - 0.6) * rng.uniform(-0.05, 0.05)
        lobe = step(half - np.abs(chest.y + slope - middle), 0.015) * step(chest.u[side] - 0.2, 0.08)
        lobe *= step(0.75 + 0.25 * finding.severity - chest.u[side], 0.15) * chest.lungs[side]
        lobe *= np.clip(0.93 + 0.1 * _texture(chest.size, 0.03, rng), 0, 1)
        image, draw = canvas(chest.size)
        for angle in rng.uniform(-0.5, 0.5, 3):
            reach = np.linspace(0, 1, 8)
            line = chest.anatomy.point(side, 0.3 + 0.4 * reach, middle + angle * 0.14 * reach)
            polyline(draw, line, 0.008, 150)
        _veil(chest, lobe * (1 - 0.4 * flatten(image)), 0.7 + 0.25 * finding.severity)
        regions[side] = lobe
    return regions


def _lesion(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    side = finding.side
    radius = 0.02 + 0.045 * finding.severity
    y = _lung_y(chest, side, ZONE_HEIGHT[finding.zone] + rng.uniform(-0.1, 0.1))
    u = rng.uniform(0.45, 0.8)
    dx, dy = (chest.u[side] - u) * chest.anatomy.width, chest.y - y
    angle = np.arctan2(dy, dx)
    bumps = 1 + 0.1 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.06 * np.sin(5 * angle + rng.uniform(0, 6))
    ball = step(bumps * radius - np.hypot(dx, dy), 0.25 * radius)
    chest.added += (0.16 + 0.12 * finding.severity) * ball
    return {side: ball}


def _edema(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """Perihilar haze, fuller vessels, and Kerley's short horizontal lines at the bases."""
    image, draw = canvas(chest.size)
    regions = {}
    for side in sides(finding):
        wings = _blob(chest, side, 0.38, _lung_y(chest, side, 0.55), 0.15, 0.2)
        haze = np.clip(wings * (1.05 + 0.25 * _texture(chest.size, 0.06, rng)), 0, 1) * chest.lungs[side]
        _veil(chest, haze, 0.12 + 0.7 * finding.severity)
        _veil(chest, chest.lungs[side], 0.02 + 0.14 * finding.severity)
        for _ in range(4 + int(8 * finding.severity)):
            y = _lung_y(chest, side, rng.uniform(0.68, 0.97))
            outer = float(chest.anatomy.wall(y)) - 0.01
            polyline(draw, chest.anatomy.point(side, [outer - rng.uniform(0.05, 0.1), outer], y), 0.004, 190)
        regions[side] = haze
    lungs = chest.lungs["right"] + chest.lungs["left"]
    chest.added += 0.1 * flatten(image) * lungs
    chest.vessels *= 1.1 + 0.7 * finding.severity
    return regions


def _atelectasis(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """Bands across the base, over a little haze."""
    image, draw = canvas(chest.size)
    regions = {}
    for side in sides(finding):
        inner, area = rng.uniform(0.25, 0.4), 0.0
        for band in range(1 + int(finding.severity > 0.3) + int(finding.severity > 0.65)):
            u = np.linspace(inner, inner + 0.35 + 0.25 * finding.severity, 12)
            y = _lung_y(chest, side, 0.93 - 0.06 * band) + rng.uniform(-0.1, 0.06) * (u - inner)
            polyline(draw, chest.anatomy.point(side, u, y), 0.009 + 0.011 * finding.severity, 255)
            area = area + _blob(chest, side, u.mean(), y.mean(), 0.12, 0.045)
        base = np.clip(area, 0, 1) * chest.lungs[side]
        _veil(chest, base, 0.25 + 0.35 * finding.severity)
        regions[side] = base
    bands = gaussian_filter(flatten(image), chest.size * 0.003)
    for side in regions:
        _veil(chest, bands * chest.lungs[side], 0.6 + 0.3 * finding.severity)
    return regions


def _pneumothorax(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """Air without vessels around a shrunken lung, behind a thin pleural line."""
    a, side = chest.anatomy, finding.side
    gap = 0.07 + 0.22 * finding.severity
    share = np.interp(chest.y, (a.apex, a.apex + a.height), (1.0, 0.15 + 0.5 * finding.severity))
    row = chest.y[:, chest.size // 2]
    collapsed = np.interp(chest.y, row, a.wall(row - 0.55 * gap * a.height))
    edge = collapsed - gap * share - chest.u[side]
    extent = chest.lungs[side] * (chest.y < a.apex + (0.45 + 0.5 * finding.severity) * a.height)
    outside = step(-edge, 0.012) * extent
    line = step(0.012 - np.abs(edge), 0.008) * extent
    chest.vessels *= 1 - outside
    chest.air *= 1 + 0.18 * outside - 0.5 * line
    return {side: outside}


def _effusion(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """Fluid up to a meniscus that climbs at the chest wall; a small one only blunts the angle."""
    regions = {}
    for side in sides(finding):
        a = chest.anatomy
        bottom = a.apex + a.height
        level = bottom - 0.05 - (0.36 * finding.severity**1.3 + rng.uniform(0, 0.02))
        climb = 0.06 + 0.05 * finding.severity
        surface = level + climb * (1 - np.clip(chest.u[side], 0, 1) ** 3.5)
        fluid = step(chest.y - surface, 0.016) * chest.lungs[side]
        _veil(chest, fluid, 0.96)
        chest.added += 0.09 * fluid
        regions[side] = fluid
    return regions


def _pleural_other(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """A rind along the chest wall, thickest in its zone."""
    regions = {}
    for side in sides(finding):
        a = chest.anatomy
        row = chest.y[:, chest.size // 2]
        depth = np.interp(chest.y, row, a.wall(row)) - chest.u[side]
        top = chest.y - a.apex if finding.zone == "upper" else 1.0
        depth = np.minimum(depth, top / a.width)
        center, reach = (0.06, 0.16) if finding.zone == "upper" else (0.5, 0.22)
        along = np.exp(-((((chest.y - a.apex) / a.height - center) / reach) ** 2))
        wave = 1 + 0.3 * _texture(chest.size, 0.05, rng)
        rind = step((0.05 + 0.09 * finding.severity) * along * wave - depth, 0.02) * (along > 0.2)
        rind = rind * chest.lungs[side]
        _veil(chest, rind, 0.9)
        regions[side] = rind
    return regions


PAINTERS = {
    "enlarged cardiomediastinum": wide_mediastinum,
    "cardiomegaly": heart,
    "lung opacity": _opacity,
    "lung lesion": _lesion,
    "edema": _edema,
    "consolidation": _consolidation,
    "pneumonia": _pneumonia,
    "atelectasis": _atelectasis,
    "pneumothorax": _pneumothorax,
    "pleural effusion": _effusion,
    "pleural other": _pleural_other,
    "fracture": fracture,
    "support devices": paint_devices,
    "aorta abnormality": aorta,
    "bone/spine abnormality": spine,
    "hemidiaphragm abnormality": diaphragm,
    "lung volume abnormality": volumes,
}
