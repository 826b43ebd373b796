"""The report of a phantom study, and the labels that follow from what it says.

Five reading rooms write differently: each has its favourite phrasings, its order of sections and its habits
of what to deny. The labels are read off the sentences as these are chosen: positive when stated, negative
when denied, uncertain when hedged, blank when not mentioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from revtaf.data.sources.phantom import normals, phrases
from revtaf.data.sources.phantom.cases import Case, Finding
from revtaf.labels import BLANK, CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN

FEWEST, MOST = 4, 9  # sentences of a report
FAVOURITE_RATE = 0.8
HABIT_RATE, WHIM_RATE = 0.9, 0.04  # how often a room denies what it usually denies, and anything else
VIEW_RATE = 0.15
SECTIONS = {
    "devices": ("support devices",),
    "volumes": ("lung volume abnormality", "hemidiaphragm abnormality"),
    "lungs": ("lung opacity", "consolidation", "pneumonia", "atelectasis", "lung lesion", "edema"),
    "pleura": ("pleural effusion", "pneumothorax", "pleural other"),
    "heart": ("cardiomegaly", "enlarged cardiomediastinum", "aorta abnormality"),
    "bones": ("fracture", "bone/spine abnormality"),
}
SECTION_OF = {category: section for section, names in SECTIONS.items() for category in names}


@dataclass(frozen=True)
class Room:
    """How one reading room writes: the order of its sections, and what it denies as a habit."""

    order: tuple[str, ...]
    denies: tuple[tuple[str, ...], ...]


_PLEURA, _HEART = ("pleural effusion", "pneumothorax"), ("cardiomegaly", "enlarged cardiomediastinum")
_TRIAD = ("consolidation", *_PLEURA)
_SINGLES = (("pneumothorax",), ("pleural effusion",), ("consolidation",), *((c,) for c in _HEART))
ROOMS = (
    Room(("devices", "heart", "volumes", "lungs", "pleura", "bones"), (_TRIAD, _PLEURA, _HEART, *_SINGLES)),
    Room(("devices", "volumes", "lungs", "pleura", "heart", "bones"), (_TRIAD, _HEART, ("edema",), *_SINGLES)),
    Room(("heart", "lungs", "volumes", "pleura", "bones", "devices"), (_PLEURA, ("edema",), *_SINGLES)),
    Room(
        ("volumes", "lungs", "pleura", "heart", "bones", "devices"),
        (_PLEURA, _HEART, ("pneumonia",), ("lung volume abnormality",), *_SINGLES),
    ),
    Room(
        ("lungs", "pleura", "heart", "volumes", "devices", "bones"),
        (_TRIAD, _PLEURA, ("fracture",), ("lung lesion",), *_SINGLES),
    ),
)
INDICATIONS = {
    "pneumonia": ("fever and cough", "evaluate for pneumonia", "cough and elevated white count"),
    "edema": ("shortness of breath", "congestive heart failure", "dyspnea and leg swelling"),
    "pneumothorax": ("chest pain and dyspnea", "evaluate for pneumothorax"),
    "fracture": ("status post fall", "trauma with chest wall pain"),
    "support devices": ("line placement", "interval change", "intubated patient"),
    "lung lesion": ("weight loss", "follow up of nodule"),
}
COMMON_INDICATIONS = ("chest pain", "shortness of breath", "cough", "preoperative evaluation", "weakness")


@dataclass(frozen=True)
class Sentence:
    """A sentence, where it belongs, and the statuses that it states."""

    section: str
    text: str
    says: tuple[tuple[str, int], ...] = ()


def write_report(case: Case, rng: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """The report's text and the 18 statuses that it states."""
    found = {f.category for f in case.findings}
    said = _findings(case, rng)
    said += _normals(case.style, found, MOST - len(said), rng)
    if len(said) < FEWEST:
        said += _fillers(found, said, FEWEST - len(said), case.style, rng)
    if len(said) < MOST and rng.random() < VIEW_RATE:
        said.append(Sentence("view", _choose(normals.VIEWS, case.style, rng)))
    order = ("view", *ROOMS[case.style].order)
    said.sort(key=lambda sentence: order.index(sentence.section))  # stable within a section
    labels = [BLANK] * len(CATEGORIES)
    for sentence in said:
        for category, status in sentence.says:
            labels[CATEGORIES.index(category)] = status
    sick = (s in (POSITIVE, UNCERTAIN) for c, s in zip(CATEGORIES, labels, strict=True) if c != "support devices")
    labels[NO_FINDING] = POSITIVE if not any(sick) else BLANK
    return " ".join(sentence.text for sentence in said), tuple(labels)


def write_indication(case: Case, rng: np.random.Generator) -> str:
    """Why the study was asked for: often, but not always, what it then shows."""
    fitting = [text for f in case.findings for text in INDICATIONS.get(f.category, ())]
    return str(rng.choice(fitting if fitting and rng.random() < 0.6 else COMMON_INDICATIONS))


def _choose(sentences: Sequence[str], style: int, rng: np.random.Generator) -> str:
    if rng.random() < FAVOURITE_RATE:
        return sentences[style % len(sentences)]
    return sentences[rng.integers(len(sentences))]


def _fill(template: str, finding: Finding, **more: str) -> str:
    """A template with this finding's side, zone and severity; the first letter is made a capital."""
    level = min(2, int(3 * finding.severity))
    size, grade = phrases.SIZES[level], phrases.GRADES[level]
    where, lung, region = phrases.PLACES.get((finding.side, finding.zone), ("", "", ""))
    both = finding.side == "bilateral"
    text = template.format(
        size=size,
        a_size=size if both else f"a {size}",
        grade=grade,
        side=finding.side,
        where=where,
        lung=lung,
        region=region,
        kind=finding.kinds[0] if finding.kinds else "",
        s="s" if both else "",
        are="are" if both else "is",
        there="There are" if both else "There is",
        **more,
    )
    return text[0].upper() + text[1:]


def _findings(case: Case, rng: np.random.Generator) -> list[Sentence]:
    """One sentence per finding, or per opacity with its cause; devices have one per kind."""
    said, done = [], set()
    opacity = case.finding("lung opacity")
    if opacity is not None and opacity.status == POSITIVE:
        sentence = _opacity(case, opacity, rng)
        said.append(sentence)
        done = {category for category, _ in sentence.says}
    for finding in case.findings:
        category, kind = finding.category, finding.kinds[:1]
        if category in done:
            continue
        if category == "support devices":
            said += _devices(finding, case.style, rng)
            continue
        if finding.status == UNCERTAIN:
            templates = phrases.UNCERTAIN_SENTENCES[category]
        else:
            sentences = phrases.POSITIVE_SENTENCES
            templates = sentences.get(category) or sentences[(category, *kind)]
        text = _fill(_choose(templates, case.style, rng), finding)
        said.append(Sentence(SECTION_OF[category], text, ((category, finding.status),)))
    return said


def _opacity(case: Case, opacity: Finding, rng: np.random.Generator) -> Sentence:
    if opacity.shown_by:
        text = _choose(phrases.CAUSED_SENTENCES[opacity.shown_by], case.style, rng)
        says = (("lung opacity", POSITIVE), (opacity.shown_by, POSITIVE))
        return Sentence("lungs", _fill(text, opacity), says)
    causes = [
        f.category
        for f in case.findings
        if f.category in ("atelectasis", "pneumonia", "consolidation")
        and f.status == UNCERTAIN
        and (f.side, f.zone) == (opacity.side, opacity.zone)
    ]
    if causes:
        text = _choose(phrases.HEDGED_CAUSE_SENTENCES, case.style, rng)
        says = (("lung opacity", POSITIVE), *((cause, UNCERTAIN) for cause in causes))
        return Sentence("lungs", _fill(text, opacity, causes=" or ".join(causes)), says)
    text = _choose(phrases.POSITIVE_SENTENCES["lung opacity"], case.style, rng)
    return Sentence("lungs", _fill(text, opacity), (("lung opacity", POSITIVE),))


def _devices(finding: Finding, style: int, rng: np.random.Generator) -> list[Sentence]:
    tubes = [kind for kind in finding.kinds if kind.endswith("tube")]
    texts = [_choose(phrases.TUBES_SENTENCES, style, rng)] if tubes else []
    for kind in finding.kinds:
        if kind not in tubes:
            texts.append(_choose(phrases.DEVICE_SENTENCES[kind], style, rng))
    return [Sentence("devices", text, (("support devices", POSITIVE),)) for text in texts]


def _normals(style: int, found: set[str], room_left: int, rng: np.random.Generator) -> list[Sentence]:
    """What the reading room denies; nothing twice, and nothing that was found."""
    said, denied = [], set()
    habits = ROOMS[style].denies
    others = [group for group in normals.NORMAL_SENTENCES if group not in habits]
    if not found & set(SECTIONS["lungs"]) and rng.random() < HABIT_RATE:
        said.append(Sentence("lungs", _choose(normals.CLEAR_LUNGS, style, rng)))
    for group in (*habits, *others):
        usual = rng.random() < (HABIT_RATE if group in habits else WHIM_RATE)
        if usual and not set(group) & (found | denied):
            denied |= set(group)
            section = "pleura" if "pneumothorax" in group else SECTION_OF[group[0]]
            text = _choose(normals.NORMAL_SENTENCES[group], style, rng)
            said.append(Sentence(section, text, tuple((category, NEGATIVE) for category in group)))
    return said[: max(0, room_left)]


def _fillers(
    found: set[str], said: list[Sentence], wanted: int, style: int, rng: np.random.Generator
) -> list[Sentence]:
    """Sentences about what has no category, for a report that would be too short."""
    candidates = [Sentence("heart", _choose(normals.NORMAL_HILA, style, rng))]
    if not found & set(SECTIONS["bones"]) and not any(s.section == "bones" for s in said):
        candidates.insert(0, Sentence("bones", _choose(normals.INTACT_BONES, style, rng)))
    if found <= {"support devices"}:
        candidates.insert(0, Sentence("bones", normals.NO_PROCESS))
    candidates += [Sentence("bones", text) for text in normals.PLAIN_SENTENCES]
    return candidates[:wanted]
