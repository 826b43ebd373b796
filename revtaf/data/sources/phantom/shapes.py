"""Findings of shape: what they do to a patient's measures before drawing, and where to see it afterwards.

`reshape` enlarges hearts, raises diaphragms, bends spines and breaks ribs. The functions below it return the
regions of these findings, one map per side, and add the little that is not shape (calcium, spurs).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from revtaf.data.sources.phantom.anatomy import SIDE_SIGN, Anatomy, step
from revtaf.data.sources.phantom.cases import Finding
from revtaf.data.sources.phantom.chest import Chest
from revtaf.data.sources.phantom.lines import REAR, RIBS, rib_line

Regions = dict[str, np.ndarray]  # side ("" for the midline) -> map (S, S), where the finding is above zero


def sides(finding: Finding) -> tuple[str, ...]:
    """The sides that a finding is on; ("",) for one of the midline."""
    return ("right", "left") if finding.side == "bilateral" else (finding.side,)


def reshape(anatomy: Anatomy, finding: Finding, rng: np.random.Generator) -> Anatomy:
    """The patient's measures under a finding that is one of shape; unchanged under any other."""
    severity, domes = finding.severity, dict(anatomy.domes)
    match finding.category:
        case "cardiomegaly":
            return replace(anatomy, heart=0.525 + 0.16 * severity + rng.normal(0, 0.006))
        case "enlarged cardiomediastinum":
            return replace(anatomy, mediastinum=1.14 + 0.85 * severity)
        case "atelectasis":
            for side in sides(finding):
                domes[side] -= 0.01 + 0.02 * severity
            return replace(anatomy, domes=domes)
        case "hemidiaphragm abnormality":
            domes[finding.side] -= 0.06 + 0.08 * severity
            return replace(anatomy, domes=domes)
        case "lung volume abnormality":
            down = -0.075 - 0.06 * severity if "low" in finding.kinds else 0.045 + 0.035 * severity
            domes = {side: y + down for side, y in domes.items()}
            return replace(anatomy, domes=domes, height=anatomy.height + down)
        case "aorta abnormality":
            if "tortuous" in finding.kinds:
                return replace(anatomy, knob=0.058 + 0.02 * severity, tortuosity=0.035 + 0.05 * severity)
        case "bone/spine abnormality":
            if "scoliosis" in finding.kinds:
                bend = (0.025 + 0.035 * severity) * rng.choice((-1, 1))
                return replace(anatomy, scoliosis=bend)
        case "fracture":
            return replace(anatomy, broken_ribs=_breaks(finding, rng))
    return anatomy


def _breaks(finding: Finding, rng: np.random.Generator):
    first = {"upper": 2, "mid": 4, "lower": 6}[finding.zone]
    count = 1 + int(finding.severity > 0.4) + int(finding.severity > 0.75)
    where, shift = rng.uniform(0.5, 0.8), 0.016 + 0.016 * finding.severity
    return tuple((finding.side, min(first + i, RIBS - 1), where, shift) for i in range(count))


def fracture(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """The step itself is part of the ribs (see `reshape`); here, where it is."""
    region = np.zeros_like(chest.air)
    for side, rib, where, shift in chest.anatomy.broken_ribs:
        line = rib_line(chest.anatomy, side, rib)[int(where * REAR)]
        across = (chest.u[side] - line[0]) * chest.anatomy.width
        region += np.hypot(across, chest.y - line[1] - shift / 2) < 0.045
    return {finding.side: region}


def aorta(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """The knob where it is calcified, else the whole arch; the calcium, a bright arc, is added here."""
    a = chest.anatomy
    x, y = a.knob_position
    off = np.hypot(chest.x - x, chest.y - y)
    if "calcified" in finding.kinds:
        arc = step(0.0075 - np.abs(off - 0.85 * a.knob), 0.005) * (chest.x - x > -0.2 * a.knob)
        chest.added += (0.1 + 0.12 * finding.severity) * arc
        return {"left": step(1.35 * a.knob - off, 0.004)}
    reach = a.center + 0.25 * a.width + a.tortuosity
    band = (chest.y > y - a.knob) * (chest.y < y + 0.5 * a.height) * (chest.x < reach + 0.03) * (chest.x > a.center)
    return {"left": band.astype(np.float32)}


def spine(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """Scoliosis is one of shape; degenerative change adds bright spurs beside the lower disc spaces."""
    a = chest.anatomy
    off = np.abs(chest.x - a.center - a.spine(chest.y))
    if "scoliosis" in finding.kinds:
        return {"": (off < 0.055) * (chest.y > 0.15) * (chest.y < 0.85)}
    phase = ((chest.y + 0.02) / 0.066 + 0.5) % 1 - 0.5
    spurs = step(0.02 - np.hypot(off - 0.05, phase * 0.066 * 1.6), 0.012) * (chest.y > 0.42)
    plates = step(0.05 - off, 0.006) * step(0.1 - np.abs(phase), 0.06) * (chest.y > 0.42)
    chest.added += (0.06 + 0.12 * finding.severity) * np.maximum(spurs, plates)
    return {"": (off < 0.065) * (chest.y > 0.42)}


def heart(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """The whole heart: its size is one of the measures (see `reshape`)."""
    return {"": chest.heart}


def wide_mediastinum(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """The upper half of the mediastinum, whose width is one of the measures."""
    a = chest.anatomy
    return {"": chest.mediastinum * (chest.y > a.apex) * (chest.y < a.apex + 0.5 * a.height)}


def diaphragm(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """The raised dome of one side, down to the base of the lungs."""
    a, u = chest.anatomy, chest.u[finding.side]
    dome = a.domes[finding.side]
    return {finding.side: (u > 0.15) * (u < 1.0) * (chest.y > dome - 0.02) * (chest.y < a.apex + a.height)}


def volumes(chest: Chest, finding: Finding, rng: np.random.Generator) -> Regions:
    """Both lungs: their height is one of the measures."""
    return {side: chest.lungs[side] for side in SIDE_SIGN}
