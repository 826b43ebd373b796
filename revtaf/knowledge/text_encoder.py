"""Sentence and triplet embeddings fitted on the training reports: TF-IDF and truncated SVD.

Stands in for Bio_ClinicalBERT's [CLS] vector (the paper's f_medklip, Eq. 9) behind the same interface.
Words and character n-grams share one matrix, so that "effusions" meets "effusion"; the triplet texts take
part in the fit, so that sentences (GRP) and triplets (LRP) lie in one space, which Eq. 12 needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

FIT_LIMIT = 60_000  # texts in the SVD: more do not change the leading directions, only the time


def _vectorizers() -> tuple[TfidfVectorizer, TfidfVectorizer]:
    options = {"sublinear_tf": True, "dtype": np.float32}
    return (
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", max_features=40_000, **options),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), max_features=20_000, **options),
    )


class TfidfEncoder:
    """Texts -> L2-normalised vectors (N, width); zero columns fill up where the texts span less."""

    name = "tfidf-svd-v1"

    def __init__(self, width: int):
        self.width = width
        self.vectorizers = _vectorizers()
        self.components = np.zeros((0, 0), dtype=np.float32)  # (rank, features)

    def fit(self, texts: Sequence[str], always: Sequence[str] = (), seed: int = 0) -> TfidfEncoder:
        """Fit on `texts` (a sample of them where they are very many) and on every text of `always`."""
        unique = sorted(set(texts))
        if len(unique) > FIT_LIMIT:
            chosen = np.random.default_rng(seed).choice(len(unique), FIT_LIMIT, replace=False)
            unique = [unique[i] for i in sorted(chosen)]
        unique += sorted(set(always) - set(unique))
        for vectorizer in self.vectorizers:
            vectorizer.fit(unique)
        matrix = self._matrix(unique)
        rank = min(self.width, min(matrix.shape) - 1)
        svd = TruncatedSVD(rank, n_iter=3, random_state=seed).fit(matrix)
        self.components = np.ascontiguousarray(svd.components_, dtype=np.float32)
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.zeros((0, self.width), dtype=np.float32)
        vectors = np.asarray(self._matrix(texts) @ self.components.T, dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, 1e-6)  # a text without a known word stays the zero vector
        missing = self.width - vectors.shape[1]
        return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors

    def _matrix(self, texts: Sequence[str]):
        return hstack([v.transform(texts) for v in self.vectorizers], format="csr")
