"""The thin things of a phantom chest, as polylines: vessels, ribs, clavicles; and the vertebrae."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from revtaf.data.sources.phantom.anatomy import SIDE_SIGN, Anatomy, step

SUPERSAMPLING = 2  # lines are drawn on a finer canvas, since PIL does not smooth their edges
RIBS = 10
REAR = 36  # points along the posterior arc of a rib
FORKS = 4  # of a vessel from the hilum to the periphery


def canvas(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty grey image, SUPERSAMPLING times `size` along a side, and what draws on it."""
    image = Image.new("L", (size * SUPERSAMPLING,) * 2)
    return image, ImageDraw.Draw(image)


def polyline(draw: ImageDraw.ImageDraw, points: np.ndarray, width: float, value: int) -> None:
    """Draw image points (n, 2) in fractions with a `width` in fractions."""
    scale = draw.im.size[0]
    pixels = max(1, round(width * scale))
    # The gaps between the segments of a line show only where it is thick; closing them is slow.
    joint = "curve" if width > 0.025 else None
    draw.line((points * scale).ravel().tolist(), fill=value, width=pixels, joint=joint)


def flatten(image: Image.Image) -> np.ndarray:
    """The canvas at the size of the study, (S, S) float32 in [0, 1]."""
    return np.asarray(image.reduce(SUPERSAMPLING), np.float32) / 255


def draw_vessels(a: Anatomy, size: int) -> np.ndarray:
    """Arteries and veins that leave the hila and fork towards the chest wall, (S, S) float32 in [0, ~1]."""
    rng = np.random.default_rng(a.seed)
    image, draw = canvas(size)
    for side in SIDE_SIGN:
        angle = np.linspace(-1.3, 1.4, 7) + rng.normal(0, 0.12, 7)
        start = np.array([0.24, a.apex + 0.44 * a.height]) + rng.normal(0, (0.03, 0.015), (7, 2))
        # Gravity: the vessels of the bases are the wider ones.
        width = 0.0115 * a.vessels * np.where(angle > 0, 1.15, 0.85)
        for generation in range(FORKS + 1):
            points, angle = _grow(a, start, angle, generation, rng)
            ways = a.point(side, points[..., 0], points[..., 1])
            values = np.clip(25 + 170 * width / 0.0115, 30, 225).astype(int).tolist()
            for way, thick, value in zip(ways, width.tolist(), values, strict=True):
                polyline(draw, way, thick, value)
            growing = points[:, -1, 0] < 0.97
            start, angle, width = points[growing, -1], angle[growing], width[growing]
            spread = rng.uniform(0.2, 0.45, len(angle)) * (1 + 0.3 * rng.standard_normal((2, len(angle))))
            angle = np.concatenate([angle + spread[0], angle - spread[1]])
            start, width = np.concatenate([start, start]), np.concatenate([0.78 * width, 0.66 * width])
    tree = flatten(image)
    hila = np.zeros_like(tree)
    centers = (np.arange(size, dtype=np.float32) + 0.5) / size
    for side in SIDE_SIGN:
        x, y = a.point(side, 0.25, a.apex + 0.45 * a.height)
        hila += np.outer(np.exp(-(((centers - y) / 0.055) ** 2)), np.exp(-(((centers - x) / 0.028) ** 2)))
    return gaussian_filter(tree, size * 0.0022, truncate=3) + np.float32(0.55 * a.vessels) * hila


def _grow(
    a: Anatomy, start: np.ndarray, angle: np.ndarray, generation: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 4, 2) in (u, y) of n vessel segments from their starts (n, 2), and last headings (n,)."""
    n = len(angle)
    length = 0.095 * (0.6 + 0.8 * rng.random(n)) * (0.75 + 0.08 * (FORKS - generation))
    last = angle + rng.normal(0, 0.18, n)
    headings = angle[:, None] + (last - angle)[:, None] * np.array([1, 2, 3]) / 3
    # u runs over half a chest, y over the image: a length across is a larger number in u.
    ways = np.stack([np.cos(headings) / a.width, np.sin(headings)], -1) * length[:, None, None] / 3
    return start[:, None] + np.concatenate([np.zeros((n, 1, 2)), np.cumsum(ways, axis=1)], axis=1), last


def rib_line(a: Anatomy, side: str, rib: int) -> np.ndarray:
    """(u, y) along one rib, (60, 2): from the spine around the chest wall to the front."""
    start = a.apex - 0.035 + rib * a.height * 0.098
    fall = a.rib_slope * (1.0 - 0.03 * rib) + 0.025
    end = start + fall
    reach = float(a.wall(end)) * 1.005
    t = np.linspace(0, 1, REAR)
    back = np.stack(
        [
            0.13 + (reach - 0.13) * np.sin(t * np.pi / 2) ** 0.95,
            start + fall * t**2.2 - 0.008 * np.sin(np.pi * t),
        ],
        1,
    )
    s = np.linspace(0, 1, 25)[1:]
    drop = a.height * (0.15 + 0.008 * rib)
    front = np.stack([reach - (reach - 0.38) * s**1.25, end + drop * (1 - (1 - s) ** 1.5)], 1)
    return np.vstack([back, front])


def draw_bones(a: Anatomy, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Ribs, clavicles, shoulder blades and spine, (S, S) float32."""
    image, draw = canvas(size)
    broken = {(side, rib): (where, shift) for side, rib, where, shift in a.broken_ribs}
    for side in SIDE_SIGN:
        for rib in range(RIBS):
            line = rib_line(a, side, rib)
            if (side, rib) in broken:
                where, shift = broken[side, rib]
                cut = int(where * REAR)
                # The far fragment is displaced most at the break and rejoins its course further on.
                bent = line[cut:].copy()
                bent[:, 1] += shift * np.exp(-np.arange(len(bent)) / 4)
                pieces = ((line[: cut - 1], REAR), (bent, REAR - cut))
            else:
                pieces = ((line, REAR),)
            for piece, front in pieces:
                _rib(draw, a, side, piece, front)
    ribs = flatten(image)
    image, draw = canvas(size)
    for side in SIDE_SIGN:
        t = np.linspace(0, 1, 24)
        lift = 0.018 * np.sin(2 * np.pi * t) - 0.055 * t
        collar = a.point(side, 0.1 + 0.95 * t, a.apex + 0.075 + lift)
        polyline(draw, collar, 0.03, 230)
        polyline(draw, collar, 0.017, 165)
        blade = a.point(side, [0.86, 0.8, 0.84, 0.98, 1.14, 1.2], a.apex + np.array([0.0, 0.1, 0.24, 0.34, 0.16, 0.0]))
        draw.polygon([tuple(p) for p in blade * draw.im.size[0]], fill=48)
        polyline(draw, blade[:4], 0.008, 80)
        hx, hy = a.point(side, 1.27, a.apex + 0.075) * draw.im.size[0]
        radius = 0.055 * draw.im.size[0]
        draw.ellipse((hx - radius, hy - radius, hx + radius, hy + radius), fill=95)
    girdle = gaussian_filter(flatten(image), size * 0.003)
    return 0.17 * gaussian_filter(ribs, size * 0.0018) + 0.2 * girdle + _spine(a, x, y)


def _rib(draw, a, side, line, front: int) -> None:
    """Part of a rib: bright cortex around a fainter marrow; from the index `front` on it is the front arc."""
    points = a.point(side, line[:, 0], line[:, 1])
    for part, edge, core in ((points[max(front - 1, 0) :], 95, 65), (points[:front], 190, 125)):
        if len(part) > 1:
            polyline(draw, part, 0.019, edge)
            polyline(draw, part, 0.011, core)


def _spine(a: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Vertebrae with end plates and pedicles along the (perhaps curved) spine."""
    off = np.abs(x - a.center - a.spine(y))
    phase = ((y + 0.02) / 0.066) % 1
    plates = step(0.12 - np.minimum(phase, 1 - phase), 0.08)
    waist = 0.047 - 0.006 * np.sin(np.pi * phase)
    column = step(waist - off, 0.006)
    pedicle = ((off - 0.028) / 0.01) ** 2 + ((phase - 0.4) * 0.066 / 0.012) ** 2
    return column * (0.045 + 0.035 * plates + 0.04 * step(1 - pedicle, 0.5))
