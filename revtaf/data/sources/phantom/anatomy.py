"""The measures of a phantom patient's chest, and the coordinates in which everything is drawn.

Coordinates are fractions of the image, x to the right and y down; the image's left is the patient's right.
Each half of the chest has its own coordinate u: 0 at the midline, 1 at the widest chest wall. A lung is the
region between four curves: chest wall, mediastinum, apex and diaphragm.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

SIDE_SIGN = {"right": -1.0, "left": 1.0}

# Curves through (position, value): chest wall and mediastinal border of a lung in u, over the height t (0 at
# the apex, 1 at the costophrenic angle), and half the width of the body over y.
_WALL = PchipInterpolator(
    (-0.02, 0.0, 0.03, 0.08, 0.16, 0.3, 0.5, 0.75, 1.1),
    (0.42, 0.5, 0.62, 0.72, 0.81, 0.9, 0.965, 1.0, 1.0),
)
_MEDIAL = PchipInterpolator(
    (-0.02, 0.0, 0.03, 0.08, 0.2, 0.35, 0.5, 0.8, 1.1), (0.42, 0.36, 0.25, 0.19, 0.15, 0.15, 0.16, 0.2, 0.22)
)
_BODY = PchipInterpolator(
    (-0.1, 0.03, 0.08, 0.13, 0.2, 0.32, 0.5, 0.75, 1.1), (0.13, 0.14, 0.2, 0.36, 0.52, 0.56, 0.515, 0.5, 0.51)
)


@dataclass(frozen=True)
class Anatomy:
    """The measures of one patient in one study. Lengths in fractions of the image, angles in radians."""

    seed: int  # of the vessels' branching
    center: float = 0.5
    width: float = 0.4  # half of the chest's
    apex: float = 0.11
    height: float = 0.73  # from the apex to the costophrenic angle
    domes: dict[str, float] = field(default_factory=dict)  # y of each hemidiaphragm
    tilt: float = 0.0
    body: float = 1.0
    breast: float = 0.0
    fat: float = 0.0
    heart: float = 0.44  # cardiothoracic ratio
    heart_tilt: float = 0.5
    mediastinum: float = 1.0  # width of the upper mediastinum, relative
    knob: float = 0.045
    tortuosity: float = 0.0
    rib_slope: float = 0.075
    vessels: float = 1.0
    scoliosis: float = 0.0
    broken_ribs: tuple[tuple[str, int, float, float], ...] = ()  # side, rib, where (0..1), displacement

    @staticmethod
    def sample(rng: np.random.Generator) -> Anatomy:
        """A patient without findings."""
        female = rng.random() < 0.5
        apex, height = rng.uniform(0.09, 0.125), rng.uniform(0.69, 0.765)
        dome = apex + height * rng.uniform(0.83, 0.88)
        return Anatomy(
            seed=int(rng.integers(2**31)),
            width=rng.uniform(0.375, 0.425) - 0.012 * female,
            apex=apex,
            height=height,
            domes={"right": dome, "left": dome + rng.uniform(0.012, 0.028)},
            body=rng.uniform(0.95, 1.06),
            breast=rng.uniform(0.3, 1.0) if female else 0.0,
            fat=rng.uniform(0.0, 1.0),
            heart=rng.uniform(0.40, 0.475),
            heart_tilt=rng.uniform(0.35, 0.7),
            mediastinum=rng.uniform(0.88, 1.1),
            knob=rng.uniform(0.034, 0.046),
            rib_slope=rng.uniform(0.06, 0.1),
            vessels=rng.uniform(0.8, 1.2),
        )

    def positioned(self, rng: np.random.Generator) -> Anatomy:
        """The same patient on another day: placed, turned and breathing in a little differently."""
        breath = rng.normal(0, 0.006)
        return replace(
            self,
            center=self.center + rng.normal(0, 0.008),
            apex=self.apex + rng.normal(0, 0.006),
            domes={side: y + breath for side, y in self.domes.items()},
            tilt=rng.normal(0, 0.012),
            heart=self.heart + rng.normal(0, 0.006),
        )

    def point(self, side: str, u, y) -> np.ndarray:
        """Image points (..., 2) of (u, y) on one side, turned by the patient's tilt."""
        u, y = np.broadcast_arrays(np.asarray(u, float), np.asarray(y, float))
        x = self.center + SIDE_SIGN[side] * self.width * u - 0.5
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return np.stack([0.5 + cos * x - sin * (y - 0.5), 0.5 + sin * x + cos * (y - 0.5)], -1)

    def wall(self, y) -> np.ndarray:
        """u of the inner chest wall at the height y."""
        return _WALL(np.clip((np.asarray(y) - self.apex) / self.height, -0.02, 1.1))

    def medial(self, y) -> np.ndarray:
        """u of the mediastinal border of the lungs at the height y."""
        return _MEDIAL(np.clip((np.asarray(y) - self.apex) / self.height, -0.02, 1.1))

    def half_body(self, y) -> np.ndarray:
        """Half of the body's width at y."""
        return self.body * _BODY(np.clip(y, -0.1, 1.1))

    def diaphragm(self, side: str, u) -> np.ndarray:
        """y of the diaphragm at u: a dome that falls steeply to the costophrenic angle."""
        u = np.asarray(u)
        outer, inner = np.clip((u - 0.5) / 0.5, 0, 1.3), np.clip((0.45 - u) / 0.45, 0, 1)
        angle, middle = self.apex + self.height, max(self.domes.values()) + 0.03
        dome = self.domes[side]
        # Both sides meet at the midline, behind heart and spine, however high one of them is.
        return dome + (angle - dome) * 0.95 * outer**2.8 + (middle - dome) * inner**2 * (3 - 2 * inner)

    @property
    def carina(self) -> float:
        """y of the fork of the trachea."""
        return self.apex + 0.36 * self.height

    @property
    def knob_position(self) -> tuple[float, float]:
        """Center of the aortic knob, in the patient's x and y."""
        x = self.center + (0.12 * self.mediastinum + 0.02) * self.width + 0.3 * self.knob
        return x, self.apex + 0.265 * self.height

    def spine(self, y) -> np.ndarray:
        """Offset of the spine from the midline at y (a curve to one side, where there is scoliosis)."""
        return self.scoliosis * np.sin(np.pi * (np.asarray(y) - 0.15) / 0.7) * (np.asarray(y) > 0.15)


def step(distance: np.ndarray, softness: float) -> np.ndarray:
    """0 below, 1 above zero, soft over +-`softness`; a clipped smoothstep, cheaper than a sigmoid."""
    t = np.multiply(distance, 0.5 / softness, dtype=np.float32)
    t += 0.5
    np.clip(t, 0, 1, out=t)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    centers = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(centers - 0.5, centers - 0.5)
    return x, y


def patient_grid(anatomy: Anatomy, size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel in the coordinates of the patient, who may lie tilted; (S, S) float32 each."""
    x, y = _grid(size)
    cos, sin = np.float32(np.cos(anatomy.tilt)), np.float32(np.sin(anatomy.tilt))
    return 0.5 + cos * x + sin * y, 0.5 - sin * x + cos * y
