"""What a system that never looks at the image would score: the rows that a table must beat.

Chest X-ray reports are so alike that one constant report reaches the BLEU-4 of published systems. The
constants are chosen from the training reports only. `nearest_reports` looks at the reference and is the
opposite: about the ceiling of any system that copies a whole training report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from revtaf.eval.protocol import reference_text

MOST_FREQUENT = "most frequent report"
MEDOID = "medoid report"


def constant_rows(train_reports: Sequence[str], seed: int = 0, limit: int = 200_000) -> dict[str, str]:
    """The most frequent training report and the medoid, both cleaned and ready to be scored.

    train_reports: raw. Where there are more than `limit`, the medoid is sought in a random draw (`seed`) of
    so many. Ties go to the first report.
    """
    cleaned = _cleaned(train_reports)
    most_frequent = Counter(cleaned).most_common(1)[0][0]  # equal counts: in the order of first appearance
    if len(cleaned) > limit:
        drawn = np.random.default_rng(seed).choice(len(cleaned), limit, replace=False)
        cleaned = [cleaned[i] for i in np.sort(drawn)]
    return {MOST_FREQUENT: most_frequent, MEDOID: cleaned[_medoid(cleaned)]}


def random_reports(train_reports: Sequence[str], n: int, seed: int = 0) -> list[str]:
    """n cleaned training reports, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(len(train_reports), size=n)
    return _cleaned([train_reports[i] for i in drawn])


def nearest_reports(train_reports: Sequence[str], references: Sequence[str], chunk: int = 64) -> list[str]:
    """For each raw reference the cleaned training report with the largest TF-IDF cosine to it (an oracle)."""
    train = _cleaned(train_reports)
    vectorizer, vectors = _tfidf(train)
    queries = vectorizer.transform(_cleaned(references))
    nearest: list[str] = []
    for start in range(0, queries.shape[0], chunk):  # a chunk's similarities: chunk x training reports
        similarity = (queries[start : start + chunk] @ vectors.T).toarray()
        nearest += [train[i] for i in similarity.argmax(axis=1)]
    return nearest


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


def _tfidf(cleaned: list[str]):
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer()
    return vectorizer, vectorizer.fit_transform(cleaned)


def _cleaned(reports: Sequence[str]) -> list[str]:
    if not len(reports):
        raise ValueError("no training reports: the constant rows are chosen among them")
    return [reference_text(r) for r in reports]
