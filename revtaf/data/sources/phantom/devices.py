"""Tubes, lines and pacemakers of a phantom patient: bright polylines on their usual courses."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from revtaf.data.sources.phantom.anatomy import Anatomy
from revtaf.data.sources.phantom.cases import Finding
from revtaf.data.sources.phantom.chest import Chest
from revtaf.data.sources.phantom.lines import canvas, flatten, polyline

TUBE_WIDTH, LINE_WIDTH = 0.013, 0.009
# Courses through (u, t): u is positive to the side named, t the height in the chest (apex 0, angle 1).
COURSES = {
    "jugular": ("right", ((0.3, -0.25), (0.24, 0.0), (0.17, 0.15), (0.16, 0.3), (0.15, 0.47))),
    "port": ("right", ((0.62, 0.26), (0.55, 0.12), (0.36, 0.06), (0.18, 0.17), (0.16, 0.32), (0.15, 0.5))),
    "picc": ("left", ((1.27, 0.3), (1.0, 0.13), (0.6, 0.07), (0.2, 0.13), (-0.12, 0.24), (-0.15, 0.45))),
    "endotracheal tube": ("right", ((0.02, -0.3), (0.01, 0.0), (0.0, 0.16), (0.0, 0.27))),
    "enteric tube": (
        "left",
        ((0.03, -0.3), (0.02, 0.1), (0.05, 0.4), (0.05, 0.8), (0.14, 0.97), (0.35, 1.09), (0.5, 1.12)),
    ),
}
LEADS = (
    ((0.66, 0.17), (0.5, 0.06), (0.25, 0.09), (-0.1, 0.2), (-0.17, 0.45), (-0.2, 0.66)),
    ((0.66, 0.19), (0.5, 0.08), (0.25, 0.12), (-0.06, 0.24), (-0.14, 0.5), (0.0, 0.78), (0.42, 0.86)),
)


def paint_devices(chest: Chest, finding: Finding, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All devices of one patient; the region is where they absorb."""
    a = chest.anatomy
    image, draw = canvas(chest.size)
    for kind in finding.kinds:
        if kind == "pacemaker":
            _pacemaker(draw, a, rng)
            continue
        side, knots = COURSES[kind]
        width = TUBE_WIDTH if kind.endswith("tube") else LINE_WIDTH
        path = _course(a, side, knots, rng)
        if kind == "endotracheal tube":
            polyline(draw, path, 0.022, 90)
        polyline(draw, path, width, 190 if kind != "endotracheal tube" else 60)
        if kind == "endotracheal tube":  # the radiopaque stripe along its wall
            polyline(draw, path + np.array([0.008, 0.0]), 0.006, 230)
        if kind == "enteric tube":
            polyline(draw, path, 0.004, 245)
        if kind == "port":
            x, y = path[0] * draw.im.size[0]
            r = 0.026 * draw.im.size[0]
            draw.ellipse((x - r, y - r, x + r, y + r), fill=225)
            draw.ellipse((x - 0.5 * r, y - 0.5 * r, x + 0.5 * r, y + 0.5 * r), fill=120)
    metal = flatten(image)
    np.maximum(chest.devices, metal, out=chest.devices)
    return {"": metal}


def _course(a: Anatomy, side: str, knots, rng: np.random.Generator) -> np.ndarray:
    """A smooth path (80, 2) through the knots, each a little off."""
    points = np.array(knots) + rng.normal(0, 0.008, (len(knots), 2))
    steps = np.linspace(0, len(points) - 1, 80)
    u, t = CubicSpline(np.arange(len(points)), points)(steps).T
    return a.point(side, u, a.apex + t * a.height)


def _pacemaker(draw, a: Anatomy, rng: np.random.Generator) -> None:
    corner = a.point("left", 0.72, a.apex + 0.2 * a.height) * draw.im.size[0]
    wide, high = np.array([0.058, 0.047]) * draw.im.size[0] * rng.uniform(0.92, 1.08)
    box = (corner[0] - wide, corner[1] - high, corner[0] + wide, corner[1] + high)
    draw.rounded_rectangle(box, radius=0.7 * high, fill=240)
    draw.rounded_rectangle((box[0], box[1], box[2], box[1] + 0.45 * high), radius=0.2 * high, fill=190)
    for knots in LEADS[: rng.integers(1, 3)]:
        path = _course(a, "left", knots, rng)
        polyline(draw, path, 0.007, 210)
        polyline(draw, path[-5:], 0.011, 245)
