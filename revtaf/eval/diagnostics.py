"""What the scores do not say: do the reports have the right length, and does a system write more than one of them?

BLEU and ROUGE-L forgive a system that answers every image with one report; its share of repeated reports does not.
Texts are the scored ones (`revtaf.eval.protocol`), and a word is what BLEU counts: blank-separated, full stops among
them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

BIN_WORDS = 10
LAST_BIN = 150  # words; the last bin of the histogram is open


def diagnose(
    references: Sequence[str],
    hypotheses: Sequence[str],
    train_reports: Sequence[str] = (),
    studies: Sequence[str] | None = None,
    max_words: int | None = 100,
) -> dict[str, Any]:
    """Lengths, collapse and copying of N > 0 scored texts.

    train_reports: in the references' spacing; without them the share of copies is None. studies: (N,), each sample its
    own if not given. Texts are compared word by word, blanks and case aside.

    Shares are of N. `share_truncated_references`: as long as `max_words`, so that the protocol cut them (one that ends
    exactly there counts, too); `share_long_hypotheses`: longer than any reference may be.
    `share_repeated_hypotheses`: identical to the hypothesis of another study; two views of one study may well get the
    same report. `brevity_ratio` is BLEU's c / r, and `brevity_penalty` the factor that BLEU takes from it.
    """
    if len(references) != len(hypotheses) or not len(references):
        raise ValueError(f"expected as many references as hypotheses; got {len(references)} and {len(hypotheses)}")
    n = len(hypotheses)
    studies = list(studies) if studies is not None else [str(i) for i in range(n)]
    reference_words = [r.lower().split() for r in references]
    words = [h.lower().split() for h in hypotheses]
    lengths, reference_lengths = _lengths(words), _lengths(reference_words)
    texts = [" ".join(w) for w in words]
    written_for = defaultdict(set)
    for text, study in zip(texts, studies, strict=True):
        written_for[text].add(study)
    known = {" ".join(r.lower().split()) for r in train_reports}
    cut = [max_words is not None and len(r.split(" ")) >= max_words for r in references]  # as the protocol counts
    ratio = float(lengths.sum() / max(reference_lengths.sum(), 1))
    return {
        "samples": n,
        "studies": len(set(studies)),
        "hypothesis_words": _spread(lengths),
        "reference_words": _spread(reference_lengths),
        "brevity_ratio": ratio,
        "brevity_penalty": 1.0 if ratio >= 1 else math.exp(1 - 1 / ratio) if ratio else 0.0,
        "share_truncated_references": _share(cut),
        "share_long_hypotheses": _share(lengths > max_words) if max_words else 0.0,
        "share_empty_hypotheses": _share([not text.strip(" .") for text in texts]),
        "share_repeated_hypotheses": _share([len(written_for[text]) > 1 for text in texts]),
        "share_most_frequent_hypothesis": Counter(texts).most_common(1)[0][1] / n,
        "share_copied_from_training": _share([text in known for text in texts]) if known else None,
        "distinct_hypotheses": len(written_for),
        "distinct_references": len({" ".join(r) for r in reference_words}),
        "hypothesis_vocabulary": len({w for text in words for w in text}),
        "reference_vocabulary": len({w for text in reference_words for w in text}),
        "length_histogram": length_histogram(reference_lengths, lengths),
    }


def length_histogram(reference_lengths: np.ndarray, hypothesis_lengths: np.ndarray) -> dict[str, list[int]]:
    """Reports by number of words: `from` is the lower edge of each bin of ten words, the last bin has no upper edge."""
    edges = np.arange(0, LAST_BIN + 1, BIN_WORDS)
    both = {"reference": reference_lengths, "hypothesis": hypothesis_lengths}
    bins = {side: np.minimum(np.asarray(values) // BIN_WORDS, len(edges) - 1) for side, values in both.items()}
    counts = {side: np.bincount(rows, minlength=len(edges)).tolist() for side, rows in bins.items()}
    return {"from": edges.tolist(), **counts}


def by_length(references: Sequence[str], scores: np.ndarray) -> list[dict[str, float]]:
    """The mean of scores (N,) in each quarter of the references by length: [{from, to (words), n, mean}].

    Equal lengths stay in one quarter, so that quarters differ in size, and there are fewer where lengths hardly vary.
    """
    lengths = _lengths([r.split() for r in references])
    scores = np.asarray(scores, dtype=float)
    quarter = np.searchsorted(np.quantile(lengths, (0.25, 0.5, 0.75)), lengths, side="left")  # (N,) in 0..3
    rows = []
    for q in np.unique(quarter):
        members = quarter == q
        held = lengths[members]
        mean = float(scores[members].mean())
        rows.append({"from": int(held.min()), "to": int(held.max()), "n": int(members.sum()), "mean": mean})
    return rows


def extremes(
    ids: Sequence[str], scores: np.ndarray, k: int = 10, higher_is_better: bool = True
) -> dict[str, list[tuple[str, float]]]:
    """The k best and the k worst samples by scores (N,), (id, score) each; equal scores in the order of their ids."""
    sign = -1 if higher_is_better else 1
    pairs = [(sample, float(score)) for sample, score in zip(ids, scores, strict=True)]
    return {
        "best": sorted(pairs, key=lambda pair: (sign * pair[1], pair[0]))[:k],
        "worst": sorted(pairs, key=lambda pair: (-sign * pair[1], pair[0]))[:k],
    }


def study_rows(
    studies: Sequence[str], subjects: Sequence[str] | None = None, references: Sequence[str] | None = None
) -> np.ndarray:
    """(S,) the first row of each study, in order: a report that was written once is scored once.

    The paper counts images, and a report with three views three times. subjects: where study ids are only unique
    within a subject. references: processed; the first row whose reference holds a word, where the study has one.
    """
    keys = list(zip(subjects, studies, strict=True)) if subjects is not None else list(studies)
    first: dict[Any, int] = {}
    for row, key in enumerate(keys):
        silent = references is not None and key in first and not _has_words(references[first[key]])
        if key not in first or (silent and _has_words(references[row])):
            first[key] = row
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def _has_words(text: str) -> bool:
    """An empty report is processed to a full stop, or to nothing."""
    return any(character.isalnum() for character in text)


def _lengths(words: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([len(w) for w in words], dtype=np.int64)


def _spread(lengths: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "min": int(lengths.min()),
        "max": int(lengths.max()),
    }


def _share(holds) -> float:
    return float(np.mean(holds))
