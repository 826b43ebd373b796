"""MedFuse-CLIP on a split: images asked for reports and reports for images, and rows that learn nothing beside it.

Right is the query's own report, and for a report all its images (`revtaf.eval.ranks`). Useful is another patient's
report that states the same findings (`revtaf.eval.retrieval`, the scale of REVTAF's own retriever); here the query's
patient is out of the gallery.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from revtaf.comparators.medfuse import zero_shot
from revtaf.comparators.medfuse.rows import DUPLICATES, ENTITY_ROW, LABELS, OWN, RANDOM, TFIDF
from revtaf.config import DataSettings
from revtaf.data.annotations import Study
from revtaf.data.unreadable import readable
from revtaf.errors import UserError
from revtaf.eval import ranks as ranking
from revtaf.eval import retrieval
from revtaf.eval.metric import Metric, mean_metric
from revtaf.eval.rankings import Rankings
from revtaf.features import stages
from revtaf.features.arrays import fingerprint
from revtaf.features.store import FeatureStore, Missing
from revtaf.knowledge.mentions import PRESENT, entity_mentions
from revtaf.labels import CHEXPERT_CATEGORIES, ENTITIES
from revtaf.pages.parts import number
from revtaf.pages.section import PageSection
from revtaf.rng import generator
from revtaf.search import projection

if TYPE_CHECKING:
    from revtaf.comparators.medfuse.system import MedFuse

LABELLED = {
    "distance@1": "distance@1",
    "nearest@1": "nearest@1",
    f"nDCG@{retrieval.DEPTH}": f"nDCG@{retrieval.DEPTH}",
    "head_f1": "head F1@1",
    "tail_f1": "tail F1@1",
}
DIRECTIONS = {"i2t": "i→r", "t2i": "r→i"}  # images asked for reports, reports for images
DECIMALS = 6  # of a cosine
SHARED = -1  # in place of a patient
UNREAD = "Nobody reads the reports: no zero-shot AUROC, no row of entity scores; without statuses no useful reports"
NAMES = {"median_rank": "MedR", "mean_rank": "mean rank", "mrr": "MRR"}
PRINTED = ("pneumonia", "cardiomegaly", "pleural effusion", "atelectasis")  # the categories of the paper's Table III
OF_PATIENT = {"i2t_own_patient": "own before the patient's others i→r", "i2t_patient_gap": "gap in cosine to them"}
log = logging.getLogger("revtaf")


@dataclass
class Gallery:
    """A split as it is searched. Samples N, reports R: those with one text of their own (a patient's study's, or, where
    equal texts are one, a text's)."""

    studies: Sequence[Study]
    texts: list[str]  # (N,)
    statuses: np.ndarray  # (N, K)
    report: np.ndarray  # (N,) int: which report is each sample's
    first: np.ndarray  # (R,) int: a sample of each report
    patient: np.ndarray  # (N,) int

    @classmethod
    def of(cls, studies: Sequence[Study], texts: list[str], statuses: np.ndarray, dedupe: str) -> Gallery:
        """dedupe: as `RankingSettings.dedupe`."""
        keys = (
            texts
            if dedupe == "exact_text"
            else [(s.patient, s.study_id or s.id, t) for s, t in zip(studies, texts, strict=True)]
        )
        report, first = ranking.collapse(keys)
        return cls(studies, texts, statuses, report, first, ranking.collapse([s.patient for s in studies])[0])

    @property
    def owner(self) -> np.ndarray:
        """(R,) int: the patient of each report, SHARED where several have it: it is nobody's own then."""
        owner = self.patient[self.first]
        shared = self.patient != owner[self.report]
        owner[self.report[shared]] = SHARED
        return owner

    @property
    def asked_once(self) -> np.ndarray:
        """(N,) bool: the first sample of each report, which stands for its text as a query."""
        asked = np.zeros(len(self.texts), dtype=bool)
        asked[self.first] = True
        return asked

    def ranks(self, scores: Scores, ties: str) -> dict[str, np.ndarray]:
        """Direction -> (N,) rank of the first right answer."""
        return {
            "i2t": ranking.first_ranks(scores.of_images, self.report, np.arange(len(self.first)), ties),
            "t2i": ranking.first_ranks(scores.of_texts, self.report, self.report, ties),
        }

    def of_patient(self, images: np.ndarray, texts: np.ndarray) -> dict[str, Metric]:
        """How well images (N, D) tell their own report from those of texts (R, D) that are of the same patient and
        state something else, the hard negatives of Eq. 7: the share that have it first, ties a half, and by how much
        its cosine exceeds the largest of theirs. Images whose patient has none do not count; nothing where all are so.
        """
        known, own = self.statuses[:, : len(CHEXPERT_CATEGORIES)], defaultdict(list)
        for patient, place in sorted(set(zip(self.patient.tolist(), self.report.tolist(), strict=True))):
            own[patient].append(place)
        first, gap, counted = (np.zeros(len(self.texts)) for _ in range(3))
        for row, right in enumerate(self.report):
            others = [
                place
                for place in own[self.patient[row]]
                if place != right
                and self.texts[self.first[place]] != self.texts[row]
                and (known[self.first[place]] != known[row]).any()
            ]
            if others:
                gap[row] = np.round(texts[right] @ images[row], DECIMALS)
                gap[row] -= np.round(texts[others] @ images[row], DECIMALS).max()
                first[row], counted[row] = (np.sign(gap[row]) + 1) / 2, 1
        if not counted.any():
            return {}
        found = {name: mean_metric(name, v) for name, v in zip(OF_PATIENT, (first, gap), strict=True)}
        return {name: replace(m, statistics=m.statistics * counted[:, None]) for name, m in found.items()}

    def nearest(self, scores: Scores) -> np.ndarray:
        """(N, DEPTH) rows of samples whose reports each image finds first, those of its patient alone left out."""
        found, owner = [], self.owner
        for start in range(0, len(self.texts), ranking.CHUNK):
            part = slice(start, start + ranking.CHUNK)
            table = np.array(scores.of_images(part), dtype=np.float64)
            table[self.patient[part, None] == owner[None]] = -np.inf
            best = np.argsort(-table, axis=1, kind="stable")[:, : retrieval.DEPTH]
            found.append(self.first[best])
        return np.concatenate(found)


@dataclass
class Scores:
    """What compares images and reports: rows of queries against a whole gallery."""

    of_images: ranking.Scores  # (q, R)
    of_texts: ranking.Scores  # (q, N)


def products(images: np.ndarray, texts: np.ndarray, gallery: Gallery) -> Scores:
    """Inner products of images (N, D) and the reports' texts (R, D); what differs by less than float32's error is the
    same, so that equal texts tie."""
    return Scores(
        lambda part: np.round(images[part] @ texts.T, DECIMALS),
        lambda part: np.round(texts[gallery.report[part]] @ images.T, DECIMALS),
    )


def in_any_order(gallery: Gallery, seed: int) -> Scores:
    """Numbers that know nothing; those of a query are the same at every call."""

    def drawn(name: str, width: int) -> ranking.Scores:
        return lambda part: np.stack(
            [
                generator(seed, "random order", name, row).random(width)
                for row in range(*part.indices(len(gallery.texts)))
            ]
        )

    return Scores(drawn("image", len(gallery.first)), drawn("text", len(gallery.texts)))


def entity_evidence(probability: np.ndarray, stated: np.ndarray, prior: np.ndarray, gallery: Gallery) -> Scores:
    """log P(what the report states | image) - log P(it): probability (N, 75) of the entities in each image, stated
    (R, 75) bool by each report, prior (75,) their rates in the training reports. Entities count as independent."""
    p, q = np.clip(probability, 1e-3, 1 - 1e-3).astype(np.float64), np.clip(prior, 1e-3, 1 - 1e-3)
    there, absent = np.log(p / q), np.log((1 - p) / (1 - q))
    weights, bias = there - absent, absent.sum(1)
    said = stated.astype(np.float64)
    return Scores(
        lambda part: weights[part] @ said.T + bias[part, None],
        lambda part: said[gallery.report[part]] @ weights.T + bias,
    )


def evaluate(system: MedFuse) -> Rankings:
    """Every row on the tested split."""
    settings = system.settings
    data, options = settings.data, settings.ranking
    studies = system.studies(data, data.test_split)
    texts = system.texts(studies)
    statuses = system.statuses(studies, data)
    gallery = Gallery.of(studies, texts, statuses, options.dedupe)
    reduced, said = _reduced(system)
    images = reduced(system.encode_images(studies, data))

    def embed(these: Sequence[str]) -> np.ndarray:
        return reduced(system.encode_texts(these))

    reports = embed([texts[i] for i in gallery.first])
    compared = {OWN: products(images, reports, gallery)}
    reads, labelled = settings.knowledge.reads_reports, statuses.shape[1] > 0
    if reads and (scores := entity_scores(system, gallery, studies)) is not None:
        compared[ENTITY_ROW] = scores
    compared[RANDOM] = in_any_order(gallery, settings.seed)
    vectors = system.tfidf(texts)
    compared[TFIDF] = products(vectors, vectors[gallery.first], gallery)

    rows: dict[str, dict[str, Metric]] = {name: {} for name in compared}
    found = {name: gallery.ranks(scores, options.ties) for name, scores in compared.items()}
    for direction in DIRECTIONS:
        counted = gallery.asked_once if direction == "t2i" else np.ones(len(texts), dtype=bool)
        for name, metrics in ranking.retrieval_metrics(
            {name: r[direction] for name, r in found.items()}, direction, counted
        ).items():
            rows[name] |= metrics
    rows[DUPLICATES] = _duplicates(gallery)
    if labelled:
        for name, metrics in _useful(gallery, compared).items():
            rows.setdefault(name, {}).update(metrics)
        rows[OWN] |= gallery.of_patient(images, reports)
    areas: list[list[str | int | float]] = []
    if reads:  # its sentences are English, as the reports have to be
        stated = system.statuses(system.training[0], settings.training_data)
        zero = zero_shot.scores(images, embed) | {
            zero_shot.REPORTS: zero_shot.by_reports(images, reduced(system.training_points), stated)
        }
        areas = zero_shot.table(zero, statuses)
        for template, values in zero.items():
            if (metric := zero_shot.auroc(f"auroc_{template}", values, statuses)) is not None:
                rows[OWN][metric.name] = metric
        for category in PRINTED:
            metric = zero_shot.auroc(f"auroc_name/{category}", zero["name"], zero_shot.only(statuses, category))
            if metric is not None:
                rows[OWN][metric.name] = metric
    about = _about(system, gallery) | ({"dimensions": said} if said else {})
    return Rankings(
        ids=[study.id for study in studies],
        rows=rows,
        ranked=f"image-report,{len(texts)}x{len(gallery.first)},ties:{options.ties},dedupe:{options.dedupe}"
        + settings.variant.replace("-", ",svd:", 1),
        subjects=[study.subject_id for study in studies],
        studies=[study.study_id for study in studies],
        headings=_headings(),
        notes=tuple(about.values()),
        sections=[_zero_shot_section(areas)] if areas else [],
        facts={
            "gallery": about["gallery"],
            "texts": about["texts"],
            "zero-shot AUROC": "; ".join(
                f"{name}: {', '.join(f'{t} {number(a)}' for t, a in zip(zero_shot.TEMPLATES, rest, strict=True))}"
                for name, count, *rest in areas
                if count == ""
            ),
        },
    )


def validation(system: MedFuse, studies: Sequence[Study], data: DataSettings) -> dict[str, Any]:
    """ "score": recall at 10, the mean of both directions; "tie": the mean reciprocal rank likewise."""
    texts = system.texts(studies)
    gallery = Gallery.of(studies, texts, np.zeros((len(studies), 1)), system.settings.ranking.dedupe)
    images = system.encode_images(studies, data)
    reports = system.encode_texts([texts[i] for i in gallery.first])
    found = gallery.ranks(products(images, reports, gallery), system.settings.ranking.ties)
    found["t2i"] = found["t2i"][gallery.asked_once]
    recalls = {f"{direction}_recall_at_10": float((r <= 10).mean()) for direction, r in found.items()}
    score, tie = np.mean(list(recalls.values())), np.mean([(1 / r).mean() for r in found.values()])
    return {"score": float(score), "tie": float(tie), **recalls, "mrr": float(tie)}


def entity_scores(system: MedFuse, gallery: Gallery, studies: Sequence[Study]) -> Scores | None:
    """What REVTAF's entity scores alone find, where its features of these images were made before with the same
    `knowledge` settings, splits and seed; None where they are not there. None are made."""
    settings, components = system.settings, system.components
    data, train = settings.data, settings.training_data
    try:
        known = readable(system.studies(train, "train"), train)
        store = FeatureStore(Path(train.features), make=False)
        if components.medklip:
            identity = components.identity["entities"]
        else:
            stages.fitted_scores(store, known, train, components, settings.seed)
            identity = ["fitted", fingerprint(store.used["entities"])]
        device = system.accelerator.device
        own = FeatureStore(Path(data.features), make=False)
        found = stages.model_scores(own, studies, data, lambda: None, identity, device)["scores"]
    except Missing:
        log.info("no entity scores of these images in %s: their row is left out", data.features)
        return None
    prior = (entity_mentions([study.report for study in known]).presence == PRESENT).mean(0)
    stated = entity_mentions([gallery.studies[i].report for i in gallery.first]).presence == PRESENT
    assert found.shape[1] == len(ENTITIES)
    return entity_evidence(found.astype(np.float64), stated, prior, gallery)


def _duplicates(gallery: Gallery) -> dict[str, Metric]:
    """What knowing the report's very text is worth: it does not tell copies apart."""
    codes = ranking.collapse(gallery.texts)[0]
    # Of the reports that look the same one is right, of the images all of the study.
    reports = np.bincount(codes[gallery.first])[codes], np.ones(len(codes), np.int64)
    images = np.bincount(codes)[codes], np.bincount(gallery.report)[gallery.report]
    rows: dict[str, Metric] = {}
    for direction, alike, counted in (
        ("i2t", reports, np.ones(len(codes), dtype=bool)),
        ("t2i", images, gallery.asked_once),
    ):
        for name, metric in ranking.expected_of_duplicates(*alike).items():
            key = f"{direction}_{name}"
            rows[key] = replace(metric, name=key, statistics=metric.statistics * counted[:, None])
    return rows


def _useful(gallery: Gallery, compared: Mapping[str, Scores]) -> dict[str, dict[str, Metric]]:
    """Row -> metrics of the reports of others that are found; nothing where a query has too few others to see."""
    patients = gallery.owner
    most = max(int((patients == p).sum()) for p in set(gallery.patient.tolist()))
    if len(gallery.first) - most < retrieval.DEPTH:
        log.info("fewer than %d reports of other patients: nothing is said of useful ones", retrieval.DEPTH)
        return {}
    known = gallery.statuses[gallery.first]
    database = retrieval.Database(known, gallery.statuses, patients, gallery.patient)
    by_status = Scores(lambda part: -(gallery.statuses[part, None] != known[None]).sum(-1), lambda part: None)
    place = np.zeros(len(gallery.texts), np.int64)
    place[gallery.first] = np.arange(len(gallery.first))
    found = {}
    for name, scores in {**compared, LABELS: by_status}.items():
        judged = database.judge(place[gallery.nearest(scores)])
        metrics = retrieval.metrics(judged, gallery.statuses)
        found[name] = {key: metrics[key] for key in LABELLED}
    return found


def _headings() -> dict[str, str]:
    headings = {}
    for direction, arrow in DIRECTIONS.items():
        headings |= {f"{direction}_recall_at_{k}": f"R@{k} {arrow}" for k in ranking.AT}
        headings |= {f"{direction}_{key}": f"{name} {arrow}" for key, name in NAMES.items()}
    headings |= LABELLED | OF_PATIENT | {f"auroc_{t}": f"AUROC {t}" for t in zero_shot.TEMPLATES}
    return headings | {f"auroc_name/{category}": f"AUROC {category}" for category in PRINTED}


def _reduced(system: MedFuse) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """What `ranking.dimensions` makes of vectors (n, D), and a sentence on it; all of them, and none, where it is
    null. Fitted on the training images and their reports."""
    width, centred = system.settings.ranking.dimensions, system.settings.ranking.svd_centred
    if width is None:
        return lambda vectors: vectors, ""
    known = [
        system.encode_images(system.training[0], system.settings.training_data),
        system.training_points,
    ]
    count, full = sum(map(len, known)), known[0].shape[1]
    if width > min(count, full):
        raise UserError(f"ranking.dimensions={width}: {count} training vectors of width {full} have fewer directions")
    made, share = projection.fit(known, width, centred)
    mean = "their mean taken off" if centred else "their mean left in"
    return made.apply, (
        f"Searched with {width} of {full} numbers: an SVD of {count:,} training vectors, {mean}, which keeps "
        f"{100 * share:.1f} % of their squared length."
    )


def _about(system: MedFuse, gallery: Gallery) -> dict[str, str]:
    options = system.settings.ranking
    distinct = len(set(gallery.texts))
    equal = {"none": "equal texts of two studies are two", "exact_text": "equal texts are one"}[options.dedupe]
    tie = {"half": "half a place", "pessimistic": "a whole place"}[options.ties]
    chance = min(1, 10 / len(gallery.first))
    sizes = f"{len(gallery.texts):,} images, {len(gallery.first):,} reports, {distinct:,} distinct texts"
    return {
        "gallery": f"Gallery: {sizes}; {equal}.",
        "ties": f"i→r: images asked for reports. An equal score counts {tie}; R@10 by chance is {chance:.3f}.",
        "texts": system.truncation(gallery.texts),
        "useful": f"{UNREAD} ({system.settings.knowledge.labeler})."
        if not system.settings.knowledge.reads_reports
        else (
            "distance@1 (of statuses), nearest@1, nDCG, head and tail F1 are of the first reports of other patients "
            f"in the same gallery. Zero-shot AUROC: mean of {len(zero_shot.defined(gallery.statuses))} of 14 "
            "categories, by template, uncertain statuses left out."
        ),
    }


def _zero_shot_section(areas: list[list[str | int | float]]) -> PageSection:
    head = ["", "positive", *zero_shot.TEMPLATES]
    lines = [
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td>{}</td>").format(number(cell) if isinstance(cell, float) else cell) for cell in line
            )
        )
        for line in areas
    ]
    headings = Markup("").join(Markup("<th>{}</th>").format(cell) for cell in head)
    return PageSection(
        "Zero-shot AUROC by category and template",
        Markup("<table><tr>{}</tr>{}</table>").format(headings, Markup("").join(lines)),
    )
