"""ROUGE-L: the bit-parallel subsequence against the textbook's table, and the score against the COCO evaluation."""

import numpy as np
import pytest
from pycocoevalcap.rouge.rouge import Rouge

from revtaf.eval import rouge


def table_lcs(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return table[-1, -1]


@pytest.mark.parametrize("seed", range(20))
def test_bits_and_table_find_the_same_length(seed):
    """Up to 150 words, so that more bits than one machine word take part."""
    rng = np.random.default_rng(seed)
    first, second = (list(rng.choice(list("abcdefgh")[: 1 + seed % 8], rng.integers(0, 150))) for _ in range(2))
    assert rouge.lcs_length(first, second) == table_lcs(first, second) == rouge.lcs_length(second, first)


@pytest.mark.parametrize("seed", range(3))
def test_random_texts_with_odd_blanks_score_as_in_coco(seed):
    rng = np.random.default_rng(seed)

    def text():
        return "".join(rng.choice(list("ab.    "), rng.integers(0, 20)))

    references = [[text() for _ in range(rng.integers(1, 4))] for _ in range(30)]
    hypotheses = [text() for _ in references]
    corpus, samples = Rouge().compute_score(dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)})
    metric = rouge.metric(references, hypotheses)
    assert metric.corpus == pytest.approx(corpus, abs=1e-12)
    assert metric.per_sample == pytest.approx(samples, abs=1e-12)
