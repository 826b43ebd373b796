"""A frontal chest as layers of X-ray absorption: soft tissue, air, vessels and bones.

Lungs, heart and mediastinum are products of soft steps on the patient's coordinates; everything thin comes
from `lines`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from revtaf.data.sources.phantom.anatomy import SIDE_SIGN, Anatomy, patient_grid, step
from revtaf.data.sources.phantom.lines import draw_bones, draw_vessels


@dataclass
class Chest:
    """The layers of one study, each (S, S) float32, on the grids x and y of the patient (not tilted).

    `tissue` absorbs; `air` (0..1) says where lung lets the rays through; `vessels`, `bones`, `added` and
    `devices` absorb on top. Findings change the layers in place.
    """

    anatomy: Anatomy
    x: np.ndarray
    y: np.ndarray
    u: dict[str, np.ndarray]  # per side, negative on the other side
    lungs: dict[str, np.ndarray]
    heart: np.ndarray
    mediastinum: np.ndarray
    tissue: np.ndarray
    air: np.ndarray
    vessels: np.ndarray
    bones: np.ndarray
    added: np.ndarray
    devices: np.ndarray

    @property
    def size(self) -> int:
        """Pixels along a side, S."""
        return len(self.x)


def draw_chest(anatomy: Anatomy, size: int) -> Chest:
    """A chest with the given measures, before exposure; findings other than of shape are added later."""
    x, y = patient_grid(anatomy, size)
    row = y[:, size // 2]
    u = {side: (x - anatomy.center) * sign / anatomy.width for side, sign in SIDE_SIGN.items()}
    # The curves of y alone are read off a table: rows are straight lines but for the tilt.
    wall = np.interp(y, row, anatomy.wall(row)).astype(np.float32)
    medial = np.interp(y, row, anatomy.medial(row)).astype(np.float32)
    ys, us = np.linspace(0, 1.3, 200), {}
    for side in SIDE_SIGN:
        us[side] = np.interp(u[side], ys, anatomy.diaphragm(side, ys)).astype(np.float32)
    lungs = {
        side: step(wall - u[side], 0.012)
        * step(u[side] - medial, 0.012)
        * step(y - anatomy.apex - 0.06 * np.abs(u[side] - 0.42) ** 1.5, 0.004)
        * step(us[side] - y, 0.004)
        for side in SIDE_SIGN
    }
    heart = _heart(anatomy, x, y)
    mediastinum = _mediastinum(anatomy, x, y)
    half = np.interp(y, row, anatomy.half_body(row)).astype(np.float32)
    body = step(half - np.abs(x - anatomy.center), 0.02)
    below = np.maximum(*(step(y - us[side], 0.01) * (u[side] > -0.02) for side in SIDE_SIGN))
    inside = step(1.08 - np.maximum(u["left"], u["right"]), 0.08) * step(y - anatomy.apex, 0.03)
    tissue = body * (0.62 + 0.06 * anatomy.fat + 0.1 * inside)
    tissue += body * (0.16 * below * inside + 0.05 * below)
    tissue += body * (0.13 * np.maximum(heart, mediastinum) + 0.05 * heart * mediastinum)
    for side in SIDE_SIGN:
        fold = ((u[side] - 0.62) / 0.42) ** 2 + ((y - anatomy.apex - 0.72 * anatomy.height) / 0.16) ** 2
        tissue += 0.09 * anatomy.breast * step(1 - fold, 0.12) * step(0.8 - fold + (y - 0.5), 0.5)
    bubble = ((u["left"] - 0.42) / 0.2) ** 2 + ((y - anatomy.domes["left"] - 0.06) / 0.03) ** 2
    tissue -= 0.16 * step(1 - bubble, 0.15)
    tissue -= 0.12 * body * _trachea(anatomy, x, y)
    air = np.zeros_like(x)
    for side in SIDE_SIGN:
        air += lungs[side]
    air *= (1 - 0.82 * heart) * (1 - 0.9 * mediastinum)
    vessels = draw_vessels(anatomy, size) * (0.3 + 0.7 * air)
    bones = draw_bones(anatomy, x, y, size) * body
    zero = np.zeros_like(x)
    return Chest(anatomy, x, y, u, lungs, heart, mediastinum, tissue, air, vessels, bones, zero, zero.copy())


def _heart(a: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A tilted egg; the cardiothoracic ratio is its width over that of the chest."""
    half = a.heart * a.width
    middle = a.center + (0.17 + 0.25 * (a.heart - 0.44)) * a.width
    high = 0.13 + 0.11 * (a.heart - 0.3)
    dx, dy = x - middle, y - (max(a.domes.values()) - 0.8 * high)
    lean = a.heart_tilt
    across, along = dx * np.cos(lean * 0.6) + dy * np.sin(lean * 0.6), -dx * np.sin(lean) + dy * np.cos(lean)
    egg = np.abs(across / half) ** 2.3 + np.abs(along / high) ** 2.3
    return step(1 - egg, 0.1)


def _mediastinum(a: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Great vessels: a band with the superior vena cava on the right, the aortic knob on the left."""
    t = (y - a.apex) / a.height
    rows = np.array([-0.3, 0.0, 0.15, 0.3, 0.45, 0.6, 1.2])
    wide = a.mediastinum * np.array([0.8, 0.85, 1.0, 1.0, 0.95, 1.0, 1.0])
    right = np.interp(t, rows, wide * np.array([0.2, 0.2, 0.21, 0.22, 0.21, 0.2, 0.2])) * a.width
    left = np.interp(t, rows, wide * np.array([0.18, 0.17, 0.17, 0.17, 0.2, 0.22, 0.2])) * a.width
    off = x - a.center - 0.6 * a.spine(y)
    band = step(right + off, 0.012) * step(left - off, 0.012)
    knob_x, knob_y = a.knob_position
    knob = (off - knob_x + a.center) ** 2 + (y - knob_y) ** 2
    band = np.maximum(band, step(a.knob - np.sqrt(knob), 0.008))
    # The descending aorta follows the spine; a tortuous one swings out to the left.
    swing = 0.18 * a.width + a.tortuosity * np.sin(np.pi * np.clip((t - 0.2) / 0.7, 0, 1))
    aorta = step(swing + 0.022 - off, 0.01) * step(off, 0.02) * step(y - knob_y, 0.02) * step(1.05 - t, 0.05)
    return np.maximum(band, 0.8 * aorta)


def _trachea(a: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    carina = a.carina
    off = x - a.center - 0.4 * a.spine(y)
    tube = step(0.021 - np.abs(off + 0.008 * (y > 0)), 0.009) * step(carina - y, 0.02)
    for side, slope in (("right", 0.75), ("left", 1.25)):
        lateral = off * SIDE_SIGN[side]
        tube = np.maximum(
            tube,
            0.8 * step(0.015 - np.abs(lateral * 0.75 - slope * (y - carina) * 0.6), 0.008)
            * step(lateral, 0.01) * step(0.085 - lateral, 0.03),
        )  # fmt: skip
    return tube
