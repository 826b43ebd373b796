"""BLEU: its statistics by hand, and equality with the COCO evaluation."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from revtaf.eval import bleu
from revtaf.eval.ngrams import NGrams


def coco(references, hypotheses):
    return Bleu(4).compute_score(dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)}, verbose=0)


def test_statistics_by_hand():
    """ "a b a" against "a b c d" and "b a": closest length 2 (as far as 4, and shorter); each "a" matches once."""
    found = bleu.statistics([["a b c d", "b a"]], ["a b a"])
    assert found.tolist() == [[3, 2, 3, 2, 1, 0, 2, 2, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_random_texts_with_several_references_score_as_in_coco(seed):
    """Three-word alphabet, empty texts and one-word texts included: corpus and samples to 1e-12."""
    rng = np.random.default_rng(seed)

    def text():
        return " ".join(rng.choice(list("abc"), rng.integers(0, 9)))

    references = [[text() for _ in range(rng.integers(1, 4))] for _ in range(40)]
    hypotheses = [text() for _ in references]
    corpus, samples = coco(references, hypotheses)
    for n, metric in enumerate(bleu.metrics(references, hypotheses).values()):
        assert metric.corpus == pytest.approx(corpus[n], abs=1e-12)
        assert metric.per_sample == pytest.approx(samples[n], abs=1e-12)


def test_sums_of_many_resamples_are_scored_at_once():
    metric = bleu.metrics([["a b c d e"], ["a c d e"], ["b"]], ["a b c d", "c d e", "b b"])["BLEU_2"]
    weights = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]])
    assert metric.value(weights @ metric.statistics) == pytest.approx(
        [float(metric.value(row @ metric.statistics)) for row in weights]
    )


def test_ngrams_never_run_over_the_end_of_a_text():
    """Counts equal those of a slow loop, for texts shorter than n and for words unknown to the n-grams as well."""
    known, asked = ["a b a b", "", "c", "b a c a"], ["a b", "b a b a", "a x b", "c", ""]
    ngrams = NGrams(known)
    for n, counts in enumerate(ngrams.counts(asked), start=1):

        def grams(text, n=n):
            words = text.split()
            return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

        seen = {gram for text in known for gram in grams(text)}
        assert counts.shape == (len(asked), len(seen))
        assert counts.sum(axis=1).ravel().tolist()[0] == [sum(g in seen for g in grams(t)) for t in asked]
