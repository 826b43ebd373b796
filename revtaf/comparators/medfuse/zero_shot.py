"""Zero-shot classification (section III-C): how near is an image to the words for a finding?

The paper gives no wording. Templates, each read as one score of an image and a category:

    name      cosine with "{disease}"
    sentence  cosine with "a chest x-ray showing {disease}"
    pair      cosine with "{disease}" minus that with "no {disease}" (CheXzero's pair: a softmax of the two ranks alike)
    phrases   the same for the phrases by which the CheXpert labeler finds the category, on average
    reports   cosine with the training reports that state it, on average, minus that with the others: whole reports are
              what the text encoder has read, and a report labeler says what they state. No image's label is used

"No finding" has no sensible "no ..." and gets words of its own. Uncertain statuses are left out; a category that is
everywhere, or nowhere, has no AUROC, is left out of the mean, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from revtaf.eval.classified import ENOUGH, RULE, auc_components, mean_auc
from revtaf.eval.metric import Metric
from revtaf.knowledge.scope import load_phrases
from revtaf.labels import CHEXPERT_CATEGORIES, NO_FINDING, POSITIVE, UNCERTAIN

WORDED = ("name", "sentence", "pair", "phrases")
REPORTS = "reports"
TEMPLATES = (*WORDED, REPORTS)
_NORMAL = (("no acute cardiopulmonary abnormality",), ("acute cardiopulmonary abnormality",))
# The labeler's lists of these name the anatomy, and its patterns decide; so they have phrases of their own here.
_OWN_PHRASES = {
    "enlarged cardiomediastinum": ("enlarged cardiomediastinum", "mediastinal widening", "widened mediastinum"),
    "cardiomegaly": ("cardiomegaly", "enlarged heart", "cardiac enlargement"),
}

Prompts = tuple[tuple[str, ...], tuple[str, ...]]  # for a finding, and against it


def prompts(template: str, category: int) -> Prompts:
    """The texts of one of WORDED for one of CheXpert's 14 categories."""
    name = CHEXPERT_CATEGORIES[category]
    if template == "name":
        return (name,), ()
    if template == "sentence":
        return (f"a chest x-ray showing {name}",), ()
    if category == NO_FINDING:
        return _NORMAL
    found = (name,) if template == "pair" else _phrases(name)
    return found, tuple(f"no {phrase}" for phrase in found)


def scores(images: np.ndarray, embed: Callable[[Sequence[str]], np.ndarray]) -> dict[str, np.ndarray]:
    """Each of WORDED -> (N, 14), of images (N, D) of length 1. embed: texts -> (n, D) of length 1."""
    asked = {t: [prompts(t, c) for c in range(len(CHEXPERT_CATEGORIES))] for t in WORDED}
    texts = list(dict.fromkeys(text for each in asked.values() for pair in each for side in pair for text in side))
    vectors = dict(zip(texts, embed(texts), strict=True))

    def side(of: tuple[str, ...]) -> np.ndarray:
        return images @ np.mean([vectors[text] for text in of], axis=0) if of else np.zeros(len(images), np.float32)

    return {t: np.stack([side(found) - side(against) for found, against in each], 1) for t, each in asked.items()}


def by_reports(images: np.ndarray, texts: np.ndarray, statuses: np.ndarray) -> np.ndarray:
    """REPORTS: (N, 14) of images (N, D), training texts (M, D) and what these state (M, 14 or 18). Uncertain ones are
    left out; a category that all state, or none, is 0 throughout: an AUROC of .5."""
    directions = np.zeros((len(CHEXPERT_CATEGORIES), texts.shape[1]), np.float32)
    for category, direction in enumerate(directions):
        stated = statuses[:, category] == POSITIVE
        others = ~stated & (statuses[:, category] != UNCERTAIN)
        if stated.any() and others.any():
            direction += texts[stated].mean(0) - texts[others].mean(0)
    return images @ directions.T


def auroc(name: str, values: np.ndarray, statuses: np.ndarray, least: int = 1) -> Metric | None:
    """The mean AUROC over the categories that have one and at least `least` positives, of values (N, 14) and statuses
    (N, 14 or 18); None where none has. Intervals and tests: `revtaf.eval.classified.mean_auc`."""
    cells = []
    for category in defined(statuses, least):
        known = statuses[:, category] != UNCERTAIN
        cell = np.zeros((len(values), 4))
        cell[known] = auc_components(values[known, category], statuses[known, category] == POSITIVE)
        cells.append(cell)
    return Metric(name, np.concatenate(cells, axis=1), mean_auc) if cells else None


def defined(statuses: np.ndarray, least: int = 1) -> list[int]:
    """The categories that are positive of at least `least` samples and blank or negative of others."""
    found = []
    for category in range(len(CHEXPERT_CATEGORIES)):
        there = statuses[:, category] == POSITIVE
        if there.sum() >= least and (~there & (statuses[:, category] != UNCERTAIN)).any():
            found.append(category)
    return found


def only(statuses: np.ndarray, category: str) -> np.ndarray:
    """(N, 14): those of one category, all others uncertain and so left out."""
    alone = np.full_like(statuses[:, : len(CHEXPERT_CATEGORIES)], UNCERTAIN)
    place = CHEXPERT_CATEGORIES.index(category)
    alone[:, place] = statuses[:, place]
    return alone


def table(values: dict[str, np.ndarray], statuses: np.ndarray) -> list[list[str | int | float]]:
    """By category with an AUROC: its name, how many samples have it, and the AUROC of each template; at last the means
    over all of them and over those of `revtaf.eval.classified.RULE`, by which a classifier's is the mean."""
    lines: list[list[str | int | float]] = []
    for category in defined(statuses):
        areas = [auroc(t, values[t], only(statuses, CHEXPERT_CATEGORIES[category])).corpus for t in TEMPLATES]
        count = int((statuses[:, category] == POSITIVE).sum())
        lines.append([CHEXPERT_CATEGORIES[category], count, *areas])
    for what, least in (("mean", 1), (f"mean of {RULE}", ENOUGH)):
        if found := defined(statuses, least):
            means = [auroc(t, values[t], statuses, least).corpus for t in TEMPLATES]
            lines.append([f"{what} ({len(found)})", "", *means])
    return lines


def _phrases(category: str) -> tuple[str, ...]:
    if category in _OWN_PHRASES:
        return _OWN_PHRASES[category]
    listed = load_phrases(f"chexpert/mention/{category.replace(' ', '_')}.txt")
    return tuple(dict.fromkeys(phrase.strip("_").replace("_", " ").replace("-", " ") for phrase in listed))
