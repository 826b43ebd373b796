"""Sentence and triplet embeddings fitted on the training reports: TF-IDF and truncated SVD.

Stands in for Bio_ClinicalBERT's [CLS] vector (the paper's f_medklip, Eq. 9) behind the same interface.
Words and character n-grams share one matrix, so that "effusions" meets "effusion"; the triplet texts take
part in the fit, so that sentences (GRP) and triplets (LRP) lie in one space, which Eq. 12 needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from revtaf.errors import UserError
from revtaf.files import read_json, regular_file, told_as_damage, write_json

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
        rank = max(1, min(self.width, min(matrix.shape) - 1))
        with np.errstate(invalid="ignore"):  # one text has no variance to explain
            svd = TruncatedSVD(rank, n_iter=3, random_state=seed).fit(matrix)
        self.components = np.ascontiguousarray(svd.components_, dtype=np.float32)
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) texts -> (N, width) float32 of length 1; zero for a text without a known word."""
        if not len(texts):
            return np.zeros((0, self.width), dtype=np.float32)
        vectors = np.asarray(self._matrix(texts) @ self.components.T, dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, 1e-6)  # a text without a known word stays the zero vector
        missing = self.width - vectors.shape[1]
        return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors

    def save(self, folder: Path) -> None:
        """Into a folder, as JSON (terms) and safetensors; `load` gives the same vectors to the last bit."""
        folder.mkdir(parents=True, exist_ok=True)
        terms = [[str(term) for term in v.get_feature_names_out()] for v in self.vectorizers]
        write_json(folder / "terms.json", {"name": self.name, "width": self.width, "terms": terms}, indent=None)
        idf = {f"idf.{i}": torch.from_numpy(np.array(v.idf_)) for i, v in enumerate(self.vectorizers)}
        save_file(idf | {"components": torch.from_numpy(self.components)}, folder / "tfidf.safetensors")

    @classmethod
    def load(cls, folder: Path) -> TfidfEncoder:
        """What `save` wrote; UserError where it is of another kind."""
        content = read_json(folder / "terms.json", "text encoder")
        if not isinstance(content, dict):
            raise UserError(f"{folder / 'terms.json'} is damaged; copy the folder again")
        if content.get("name") != cls.name:
            raise UserError(f"{folder} is a text encoder of kind {content.get('name')}, expected {cls.name}")
        with told_as_damage(folder, "copy the folder again"):
            tensors = load_file(regular_file(folder / "tfidf.safetensors"))
            encoder = cls(content["width"])
            for i, (vectorizer, terms) in enumerate(zip(encoder.vectorizers, content["terms"], strict=True)):
                vectorizer.vocabulary = {term: column for column, term in enumerate(terms)}
                vectorizer.idf_ = tensors[f"idf.{i}"].numpy()
            encoder.components = tensors["components"].numpy()
            encoder.encode(["lung"])  # terms, weights and components belong together
        return encoder

    def _matrix(self, texts: Sequence[str]):
        return hstack([v.transform(texts) for v in self.vectorizers], format="csr")
