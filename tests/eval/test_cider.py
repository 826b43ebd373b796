"""CIDEr: equality with the COCO evaluation, and what a fixed idf makes of it."""

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from revtaf.eval import cider


def random_texts(seed, n):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list("abcde"), rng.integers(0, 12))) for _ in range(n)]


@pytest.mark.parametrize("several", [1, 3])
def test_random_texts_score_as_in_coco(several):
    """Corpus and samples, empty texts and one-word texts included."""
    texts = random_texts(several, 50 * several)
    references = [texts[i : i + several] for i in range(0, len(texts), several)]
    hypotheses = random_texts(9, 50)
    corpus, samples = Cider().compute_score(dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)})
    metric = cider.metric(references, hypotheses)
    assert metric.corpus == pytest.approx(corpus, abs=1e-12) and metric.corpus > 0
    assert metric.per_sample == pytest.approx(samples, abs=1e-12)


def test_idf_of_the_references_given_is_that_of_the_call():
    references, hypotheses = random_texts(1, 30), random_texts(2, 30)
    lists = [[r] for r in references]
    own = cider.metric(lists, hypotheses)
    assert cider.metric(lists, hypotheses, documents=references).per_sample == pytest.approx(own.per_sample)


def test_with_a_fixed_idf_a_sample_scores_the_same_alone_and_among_others():
    """From the references of the call a single sample scores 0, whatever it says."""
    documents, references, hypotheses = random_texts(3, 200), random_texts(4, 20), random_texts(5, 20)
    lists = [[r] for r in references]
    among = cider.metric(lists, hypotheses, documents).per_sample
    alone = [cider.metric([r], [h], documents).corpus for r, h in zip(lists, hypotheses, strict=True)]
    assert alone == pytest.approx(among) and max(alone) > 0
    assert cider.metric(lists[:1], references[:1]).corpus == 0.0


def test_documents_counted_in_parts_give_the_same_idf(monkeypatch):
    documents, lists, hypotheses = random_texts(3, 50), [[r] for r in random_texts(4, 20)], random_texts(5, 20)
    whole = cider.metric(lists, hypotheses, documents).per_sample
    monkeypatch.setattr(cider, "_CHUNK", 7)
    assert cider.metric(lists, hypotheses, documents).per_sample == pytest.approx(whole)


def test_each_text_with_each_report_is_what_a_pair_has_by_itself():
    """Where no word repeats nothing is clipped; words that no report has count in a text's length."""
    rng = np.random.default_rng(0)
    drawn = [" ".join(rng.permutation(list("abcdefgh"))[: rng.integers(0, 9)]) for _ in range(60)]
    reports, texts = drawn[:40], [*drawn[40:], "a b zebra c", "zebra", ""]
    found = cider.Pairwise(reports)(texts)
    expected = [[cider.metric([[r]], [t], documents=reports).corpus for r in reports] for t in texts]
    assert found.shape == (23, 40) and found.max() > 5
    assert found == pytest.approx(np.array(expected), abs=1e-12)


def test_a_repeated_word_gains_nothing_but_what_clipping_takes():
    reports = random_texts(3, 40)
    texts = random_texts(7, 40)
    found = cider.Pairwise(reports)(texts)
    expected = np.array([[cider.metric([[r]], [t], documents=reports).corpus for r in reports] for t in texts])
    assert (found >= expected - 1e-12).all() and np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
