"""What a system that never looks at the image would score: the rows that a table must beat.

Chest X-ray reports are so alike that one constant report reaches the BLEU-4 of published systems. The
constants are chosen from the training reports only. `nearest_reports` looks at the reference and is the
opposite: about the ceiling of any system that copies a whole training report. `clinical_floors` are the same for
clinical efficacy: statuses that no report was written for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from revtaf.eval.protocol import reference_text
from revtaf.labels import BLANK, CHEXPERT_CATEGORIES, NO_FINDING, POSITIVE

MOST_FREQUENT = "most frequent report"
MEDOID = "medoid report"
RANDOM = "random training report"
NEAREST = "nearest training report (oracle)"
RETRIEVED = "retrieved report"  # the answer of a system that copies what its retriever finds
ALWAYS_NO_FINDING = 'always "no finding"'
TOP_K = range(1, 6)

Clean = Callable[[str], str]


def rows(
    train_reports: Sequence[str], references: Sequence[str], seed: int = 0, clean: Clean = reference_text
) -> dict[str, list[str]]:
    """Every row that needs no image, name -> N texts ready to be scored against the N references (all given raw).

    clean: what the protocol does to a reference. The random reports are dealt to the references in the order of their
    texts, so that the order of the samples changes no score.
    """
    n = len(references)
    constants = constant_rows(train_reports, seed, clean=clean)
    result = {name: [text] * n for name, text in constants.items()}
    result[RANDOM] = random_rows(train_reports, references, seed, clean)
    result[NEAREST] = nearest_reports(train_reports, references, clean=clean)
    return result


def clinical_floors(reference_statuses: np.ndarray, train_statuses: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Constant answers to all N reports as (N, 14) statuses: nothing found, and the k most frequent findings, k = 1..5.

    The findings are counted in train_statuses (M, 14 or 18) where given. Chosen by the references themselves they are
    an oracle, and named so. "No finding" is not among them: with a finding beside it the answer contradicts itself.
    """
    reference_statuses = np.asarray(reference_statuses)
    counted = reference_statuses if train_statuses is None else np.asarray(train_statuses)
    chosen_by = "references, oracle" if train_statuses is None else "training"
    support = (counted[:, : len(CHEXPERT_CATEGORIES)] == POSITIVE).sum(axis=0)
    support[NO_FINDING] = -1
    most_frequent = np.argsort(-support, kind="stable")  # equal counts: in the order of the categories

    def always(positive) -> np.ndarray:
        statuses = np.full((len(reference_statuses), len(CHEXPERT_CATEGORIES)), BLANK, dtype=np.uint8)
        statuses[:, positive] = POSITIVE
        return statuses

    result = {ALWAYS_NO_FINDING: always([NO_FINDING])}
    for k in TOP_K:
        result[f"always the top {k} ({chosen_by})"] = always(most_frequent[:k])
    return result


def constant_rows(
    train_reports: Sequence[str], seed: int = 0, limit: int = 200_000, clean: Clean = reference_text
) -> dict[str, str]:
    """The most frequent training report and the medoid, both cleaned and ready to be scored.

    train_reports: raw. Where there are more than `limit`, the medoid is sought in a random draw (`seed`) of
    so many. Ties go to the first report.
    """
    cleaned = _cleaned(train_reports, clean)
    most_frequent = Counter(cleaned).most_common(1)[0][0]  # equal counts: in the order of first appearance
    if len(cleaned) > limit:
        drawn = np.random.default_rng(seed).choice(len(cleaned), limit, replace=False)
        cleaned = [cleaned[i] for i in np.sort(drawn)]
    return {MOST_FREQUENT: most_frequent, MEDOID: cleaned[_medoid(cleaned)]}


def random_rows(
    train_reports: Sequence[str], references: Sequence[str], seed: int = 0, clean: Clean = reference_text
) -> list[str]:
    """A random training report for each reference, dealt in the order of the references' texts."""
    drawn = random_reports(train_reports, len(references), seed, clean)
    result = [""] * len(references)
    for i, text in zip(sorted(range(len(references)), key=references.__getitem__), drawn, strict=True):
        result[i] = text
    return result


def random_reports(train_reports: Sequence[str], n: int, seed: int = 0, clean: Clean = reference_text) -> list[str]:
    """n cleaned training reports, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(len(train_reports), size=n)
    return _cleaned([train_reports[i] for i in drawn], clean)


def nearest_reports(
    train_reports: Sequence[str], references: Sequence[str], chunk: int = 64, clean: Clean = reference_text
) -> list[str]:
    """For each raw reference the cleaned training report with the largest TF-IDF cosine to it (an oracle).

    Ties go to the first report, and so does a reference that shares no word with any of them.
    """
    train = _cleaned(train_reports, clean)
    queries = _cleaned(references, clean)
    try:
        # The weighting of the rows measured first (BLEU-4 .563 on IU X-Ray val): every word, counts damped.
        vectorizer, vectors = _tfidf(train, token_pattern=r"\S+", sublinear_tf=True)
    except ValueError:  # no training report holds a word: none is nearer than the first
        return [train[0]] * len(queries)
    # Reports repeat, above all where a study has several images: each distinct one is compared once.
    first = list({text: i for i, text in reversed(list(enumerate(train)))}.values())
    candidates = np.sort(first)
    vectors = vectors[candidates]
    distinct = list(dict.fromkeys(queries))
    nearest: dict[str, str] = {}
    starts = range(0, len(distinct), chunk)  # a chunk's similarities: chunk x training reports
    for start in tqdm(starts, desc="nearest reports", unit_scale=chunk, leave=False, disable=len(starts) < 10):
        texts = distinct[start : start + chunk]
        similarity = (vectorizer.transform(texts) @ vectors.T).toarray()
        nearest |= {t: train[candidates[i]] for t, i in zip(texts, similarity.argmax(axis=1), strict=True)}
    return [nearest[text] for text in queries]


def _medoid(cleaned: list[str]) -> int:
    """Index of the report with the largest mean cosine to the others.

    With unit vectors x_i, sum_j x_i x_j = x_i s with s = sum_j x_j: one pass, no N x N matrix.
    """
    try:
        _, vectors = _tfidf(cleaned)
    except ValueError:  # no report holds a word of two letters: any is as central as the others
        return 0
    total = np.asarray(vectors.sum(axis=0)).ravel()
    own = np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()
    return int(np.argmax(np.round(vectors @ total - own, 9)))  # rounded: ties go to the first


def _tfidf(cleaned: list[str], **options):
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(**options)
    return vectorizer, vectorizer.fit_transform(cleaned)


def _cleaned(reports: Sequence[str], clean: Clean) -> list[str]:
    if not len(reports):
        raise ValueError("no training reports: the constant rows are chosen among them")
    return [clean(r) for r in reports]
