"""Zero-shot classification: the texts, and the areas against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from revtaf.comparators.medfuse import zero_shot
from revtaf.labels import CHEXPERT_CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN


@pytest.fixture(scope="module")
def judged():
    """Scores with ties, and statuses of 80 samples: one category everywhere positive, one nowhere."""
    rng = np.random.default_rng(1)
    statuses = rng.integers(0, 4, (80, 18)).astype(np.uint8)
    statuses[:, 2], statuses[:, 5] = POSITIVE, NEGATIVE
    return np.round(rng.normal(size=(80, 14)), 1), statuses


def test_the_mean_is_scikit_learn_s_without_uncertain_and_undefined_ones(judged):
    values, statuses = judged
    expected = []
    for k in range(14):
        known = statuses[:, k] != UNCERTAIN
        there = statuses[known, k] == POSITIVE
        if 0 < there.sum() < len(there):
            expected.append(roc_auc_score(there, values[known, k]))
    assert len(expected) == 12 == len(zero_shot.defined(statuses))
    assert zero_shot.auroc("a", values, statuses).corpus == pytest.approx(np.mean(expected))
    assert zero_shot.auroc("a", values, np.zeros_like(statuses)) is None
    lines = zero_shot.table(dict.fromkeys(zero_shot.TEMPLATES, values), statuses)
    assert [line[2] for line in lines[:12]] == pytest.approx(expected)
    often = [e for e, line in zip(expected, lines, strict=False) if line[1] >= 10]
    assert [line[2] for line in lines[12:]] == pytest.approx([np.mean(expected), np.mean(often)])


def test_every_category_has_its_texts_in_every_template():
    """The pair of "no finding" is in words of its own: never "no no finding"."""
    for template in zero_shot.WORDED:
        for k, name in enumerate(CHEXPERT_CATEGORIES):
            found, against = zero_shot.prompts(template, k)
            assert found and bool(against) == (template in ("pair", "phrases"))
            assert not any("no no " in text or "_" in text or not text.strip() for text in (*found, *against))
            if template != "phrases" and k != NO_FINDING:
                assert name in found[0]
    assert "opaci" in zero_shot.prompts("phrases", 2)[0][0]


def test_an_image_that_is_nearer_to_a_finding_s_words_scores_higher():
    """Vectors by hand: the first image is what "edema" is."""
    words = {}

    def embed(texts):
        return np.stack([words.setdefault(t, np.eye(200, dtype=np.float32)[len(words)]) for t in texts])

    zero_shot.scores(np.eye(200, dtype=np.float32)[:2], embed)
    images = np.eye(200, dtype=np.float32)[[list(words).index("edema"), 199]]
    found = zero_shot.scores(images, embed)
    edema = CHEXPERT_CATEGORIES.index("edema")
    assert found["name"].shape == (2, 14)
    assert found["name"][:, edema].tolist() == found["pair"][:, edema].tolist() == [1, 0]


def test_reports_that_state_a_finding_point_to_it():
    """As computed for each category alone; uncertain reports have no say, nor has a category without two sides."""
    rng = np.random.default_rng(2)
    images, texts = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32)
    statuses = rng.integers(0, 4, (30, 18)).astype(np.uint8)
    statuses[:, 3], statuses[:, 4] = POSITIVE, NEGATIVE
    found = zero_shot.by_reports(images, texts, statuses)
    for k in range(14):
        there = [t for t, s in zip(texts, statuses[:, k], strict=True) if s == POSITIVE]
        others = [t for t, s in zip(texts, statuses[:, k], strict=True) if s in (0, NEGATIVE)]
        expected = images @ (np.mean(there, 0) - np.mean(others, 0)) if there and others else np.zeros(7)
        assert np.allclose(found[:, k], expected, atol=1e-5)
    assert not found[:, 3].any() and not found[:, 4].any()
    uncertain = statuses[:, 0] == UNCERTAIN
    texts[uncertain] = 9
    assert np.allclose(zero_shot.by_reports(images, texts, statuses)[:, 0], found[:, 0], atol=1e-5)
