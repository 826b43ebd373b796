"""Which phantom patient has which finding in which study: a latent sickness model with exact prevalences.

Every category gets a standard normal score per study, made of shared factors (acute sickness, heart failure,
infection, age) and of its own noise. The highest scores are positive, the next ones uncertain, so that the
set has the asked prevalence to the study while the findings that belong together still occur together.
The part of a score that belongs to the patient makes chronic findings persist from study to study.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from revtaf.labels import BLANK, CATEGORIES, NO_FINDING, POSITIVE, UNCERTAIN

# category: (positive share, supplement, Table 4; the last four are chosen), uncertain share (chosen),
# share of the score that belongs to the patient, loadings on (sickness, heart failure, infection, age).
RATES = {
    "enlarged cardiomediastinum": (0.189, 0.015, 0.85, (0.2, 0.5, 0.0, 0.3)),
    "cardiomegaly": (0.329, 0.02, 0.9, (0.1, 0.65, 0.0, 0.2)),
    "lung opacity": (0.361, 0.01, 0.3, (0.3, 0.2, 0.5, 0.0)),
    "lung lesion": (0.052, 0.01, 0.9, (0.0, 0.0, 0.0, 0.3)),
    "edema": (0.146, 0.035, 0.3, (0.3, 0.7, 0.0, 0.0)),
    "consolidation": (0.046, 0.015, 0.2, (0.25, 0.0, 0.6, 0.0)),
    "pneumonia": (0.043, 0.06, 0.2, (0.15, 0.0, 0.65, 0.0)),
    "atelectasis": (0.218, 0.045, 0.4, (0.55, 0.1, 0.1, 0.0)),
    "pneumothorax": (0.019, 0.005, 0.2, (0.4, 0.0, 0.0, 0.0)),
    "pleural effusion": (0.274, 0.03, 0.45, (0.5, 0.45, 0.0, 0.0)),
    "pleural other": (0.032, 0.005, 0.9, (0.0, 0.0, 0.0, 0.3)),
    "fracture": (0.038, 0.005, 0.85, (0.0, 0.0, 0.0, 0.2)),
    "support devices": (0.349, 0.0, 0.5, (0.65, 0.1, 0.0, 0.0)),
    "aorta abnormality": (0.10, 0.0, 0.95, (0.0, 0.0, 0.0, 0.6)),
    "bone/spine abnormality": (0.11, 0.0, 0.97, (0.0, 0.0, 0.0, 0.6)),
    "hemidiaphragm abnormality": (0.06, 0.005, 0.85, (0.1, 0.0, 0.0, 0.1)),
    "lung volume abnormality": (0.12, 0.0, 0.6, (0.1, 0.0, 0.0, 0.2)),
}
NO_FINDING_RATE = 0.084
FACTOR_PERSISTENCE = (0.5, 0.8, 0.2, 1.0)
STUDIES_PER_PATIENT = (0.45, 0.27, 0.15, 0.08, 0.05)  # one to five studies, two on average
STYLE_RATES = (0.36, 0.24, 0.17, 0.13, 0.10)
MOST_FINDINGS = 7  # more would not fit in a report of nine sentences
# The four auxiliary categories come last and are pulled towards studies that have no other finding: old but
# otherwise well patients. Without it these studies would double the share of "no finding".
AUXILIARY_PULL = 1.5
# What is hedged in a study that is neither healthy nor has any finding.
HEDGED = ("lung opacity", "pneumonia", "atelectasis", "edema", "pleural effusion", "lung lesion")
HEDGED_RATES = (0.25, 0.25, 0.2, 0.1, 0.15, 0.05)
UNCERTAIN_SEVERITY = 0.12  # an uncertain finding that is drawn at all is a mild one

SIDES = ("right", "left", "bilateral")
# category: (rates of right, left, bilateral), (rates of upper, mid, lower); nothing where it has no place.
PLACES = {
    "lung opacity": ((0.4, 0.35, 0.25), (0.2, 0.25, 0.55)),
    "lung lesion": ((0.55, 0.45, 0.0), (0.45, 0.3, 0.25)),
    "edema": ((0.0, 0.0, 1.0), None),
    "consolidation": ((0.5, 0.42, 0.08), (0.25, 0.15, 0.6)),
    "pneumonia": ((0.5, 0.4, 0.1), (0.2, 0.25, 0.55)),
    "atelectasis": ((0.28, 0.37, 0.35), (0.0, 0.0, 1.0)),
    "pneumothorax": ((0.55, 0.45, 0.0), (1.0, 0.0, 0.0)),
    "pleural effusion": ((0.28, 0.34, 0.38), (0.0, 0.0, 1.0)),
    "pleural other": ((0.45, 0.35, 0.2), (0.6, 0.4, 0.0)),
    "fracture": ((0.5, 0.5, 0.0), (0.2, 0.5, 0.3)),
    "hemidiaphragm abnormality": ((0.7, 0.3, 0.0), None),
}
ZONES = ("upper", "mid", "lower")
KINDS = {
    "aorta abnormality": (("tortuous", "calcified"), (0.55, 0.45)),
    "bone/spine abnormality": (("degenerative", "scoliosis"), (0.6, 0.4)),
    "lung volume abnormality": (("low", "hyperinflated"), (0.65, 0.35)),
}
# An opacity that one of these explains is the same shadow under two names. (category, how often)
OPACITY_CHILDREN = (("pneumonia", 1.0), ("consolidation", 1.0), ("atelectasis", 0.65), ("edema", 0.5))


@dataclass(frozen=True)
class Finding:
    """One category of one study. `severity` in [0, 1]; `drawn` is False for a hedge without substance;
    `shown_by` names the category whose shadow this one shares."""

    category: str
    status: int
    severity: float
    side: str = ""
    zone: str = ""
    kinds: tuple[str, ...] = ()
    drawn: bool = True
    shown_by: str = ""


@dataclass(frozen=True)
class Case:
    """One study before it is written and drawn. `style` is the reading room: wording, order and marker."""

    index: int
    patient: int
    visit: int
    style: int
    findings: tuple[Finding, ...]
    seed: int = 0

    @property
    def subject_id(self) -> str:
        """Two sets of different seeds have no patient in common, and no name of one either."""
        return f"p{self.patient + 1:04d}" + (f"x{self.seed}" if self.seed else "")

    @property
    def id(self) -> str:
        """The study's id: the patient's and the number of the visit, from 1."""
        return f"{self.subject_id}_s{self.visit + 1:02d}"

    def finding(self, category: str) -> Finding | None:
        """The first finding of a category, or None."""
        return next((f for f in self.findings if f.category == category), None)


def stream(seed: int, *keys: int) -> np.random.Generator:
    """A random stream of its own for every purpose: drawing one thing never shifts another."""
    return np.random.default_rng(np.random.SeedSequence([seed, *keys]))


def sample_cases(count: int, seed: int) -> list[Case]:
    """`count` studies, patient by patient."""
    rng = stream(seed, 0)
    patients, visits = _visits(count, rng)
    statuses, severities = _statuses(patients, rng)
    styles = rng.choice(len(STYLE_RATES), size=patients[-1] + 1, p=STYLE_RATES)
    return [
        Case(i, int(p), int(v), int(styles[p]), _findings(seed, i, int(p), statuses[i], severities[i]), seed)
        for i, (p, v) in enumerate(zip(patients, visits, strict=True))
    ]


def _visits(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Patient and visit number of every study, each (count,)."""
    sizes = rng.choice(len(STUDIES_PER_PATIENT), size=count, p=STUDIES_PER_PATIENT) + 1
    patients = np.repeat(np.arange(count), sizes)[:count]
    visits = np.concatenate([np.arange(size) for size in sizes])[:count]
    return patients, visits


def _normal(patients: np.ndarray, persistence: float, rng: np.random.Generator) -> np.ndarray:
    """Standard normal per study, of which the share `persistence` is the same for all of a patient."""
    own, shared = rng.standard_normal(len(patients)), rng.standard_normal(patients[-1] + 1)[patients]
    return np.sqrt(persistence) * shared + np.sqrt(1 - persistence) * own


def _statuses(patients: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Status and severity per study and category, (N, 18) each; here only blank, positive, uncertain."""
    count = len(patients)
    factors = np.stack([_normal(patients, share, rng) for share in FACTOR_PERSISTENCE])
    statuses = np.full((count, len(CATEGORIES)), BLANK)
    severities = np.zeros((count, len(CATEGORIES)))
    healthy = np.zeros(count, bool)
    healthy[np.argsort(factors.sum(0))[: round(NO_FINDING_RATE * count)]] = True
    devices = CATEGORIES.index("support devices")
    for category, (positive, uncertain, persistence, loadings) in RATES.items():
        column = CATEGORIES.index(category)
        weights = np.array(loadings)
        noise = _normal(patients, persistence, rng)
        score = weights @ factors + np.sqrt(1 - weights @ weights) * noise
        found = statuses != BLANK
        if column > NO_FINDING:
            score = score + AUXILIARY_PULL * ~np.delete(found, devices, axis=1).any(1)
        # Only a device may be seen in a healthy chest.
        closed = (found.sum(1) >= MOST_FINDINGS) | (healthy & (column != devices))
        order = np.argsort(np.where(closed, -np.inf, score))[::-1]
        chosen = order[: round(positive * count)]
        statuses[chosen, column] = POSITIVE
        # The rank among the positives, with some noise: the sickest patients have the worst findings.
        rank = 1 - np.arange(len(chosen)) / max(1, len(chosen))
        severities[chosen, column] = np.clip(rank + rng.normal(0, 0.15, len(chosen)), 0.02, 1)
        doubtful = order[len(chosen) : len(chosen) + round(uncertain * count)]
        statuses[doubtful[~closed[doubtful]], column] = UNCERTAIN
    for i in np.flatnonzero(~healthy & ~np.delete(statuses != BLANK, devices, axis=1).any(1)):
        statuses[i, CATEGORIES.index(rng.choice(HEDGED, p=HEDGED_RATES))] = UNCERTAIN
    severities[statuses == UNCERTAIN] = UNCERTAIN_SEVERITY
    return statuses, severities


def _findings(seed: int, index: int, patient: int, statuses: np.ndarray, severities: np.ndarray) -> tuple[Finding, ...]:
    found: dict[str, Finding] = {}
    for column in np.flatnonzero(statuses):
        category = CATEGORIES[column]
        # A place that belongs to the patient: an effusion that comes back, comes back on the same side.
        home = stream(seed, 1, patient, int(column))
        rng = stream(seed, 2, index, int(column))
        side, zone = _place(category, home if rng.random() < 0.8 else rng)
        status, severity = int(statuses[column]), float(severities[column])
        kinds = _kinds(category, severity, home, rng)
        drawn = status == POSITIVE or rng.random() < 0.5
        found[category] = Finding(category, status, severity, side, zone, kinds, drawn)
    return tuple(_share_shadows(found, stream(seed, 3, index)).values())


def _place(category: str, rng: np.random.Generator) -> tuple[str, str]:
    if category not in PLACES:
        return "", ""
    sides, zones = PLACES[category]
    return str(rng.choice(SIDES, p=sides)), str(rng.choice(ZONES, p=zones)) if zones else ""


def _kinds(category: str, severity: float, home: np.random.Generator, rng: np.random.Generator) -> tuple[str, ...]:
    if category in KINDS:
        names, rates = KINDS[category]
        return (str(home.choice(names, p=rates)),)
    if category == "lung lesion":
        return ("mass" if severity > 0.65 else "nodule",)
    if category != "support devices":
        return ()
    kinds = ["pacemaker"] if home.random() < 0.28 else []
    if severity > 0.6:
        kinds += ["endotracheal tube", "enteric tube"]
    if severity > 0.3 and rng.random() < 0.7 or not kinds:
        kinds.append(str(rng.choice(("jugular", "picc", "port"), p=(0.5, 0.3, 0.2))))
    return tuple(kinds)


def _share_shadows(found: dict[str, Finding], rng: np.random.Generator) -> dict[str, Finding]:
    """Make findings of one cause agree: a pneumonia sits in its consolidation, an opacity in its cause."""
    if "consolidation" in found and "pneumonia" in found:
        cause = found["consolidation"]
        found["pneumonia"] = replace(found["pneumonia"], side=cause.side, zone=cause.zone)
    opacity = found.get("lung opacity")
    if opacity is None or opacity.status != POSITIVE:
        return found
    for child, rate in OPACITY_CHILDREN:
        cause = found.get(child)
        if cause is None or rng.random() >= rate:
            continue
        if cause.status == UNCERTAIN:  # the opacity is certain, its cause is not
            if child == "edema":
                continue  # always on both sides, which an opacity seldom is
            found[child] = replace(cause, side=opacity.side, zone=opacity.zone, drawn=False)
        else:
            place = {"side": cause.side, "zone": cause.zone, "severity": cause.severity}
            found["lung opacity"] = replace(opacity, **place, shown_by=child)
        return found
    return found
