"""Hard negatives: the same patient, another study, other labels; the most similar first, weighed by similarity."""

import numpy as np
import pytest

from revtaf.comparators.medfuse.negatives import hard_negatives
from revtaf.data.annotations import Study


def embed(texts):
    """By their letters."""
    return np.array([[text.count(c) for c in "abcdefgh"] for text in texts], dtype=float) + 0.1


@pytest.fixture(scope="module")
def samples():
    """60 samples of 9 patients, of up to 8 studies of up to 2 images; the last has no patient."""
    rng = np.random.default_rng(4)
    studies, texts, labels = [], [], []
    for patient in range(9):
        for study in range(rng.integers(1, 9)):
            text = "".join(rng.choice(list("abcdefgh"), 12))
            status = rng.integers(0, 2, 3)
            for image in range(rng.integers(1, 3)):
                name = f"p{patient}s{study}"
                subject = "" if patient == 8 else f"p{patient}"
                studies.append(Study(f"{name}i{image}", ("x.png",), text, (), subject, name))
                texts.append(text)
                labels.append(status)
    return studies, texts, np.array(labels)


@pytest.mark.parametrize("least", [1, 2])
def test_no_negative_shares_study_or_labels_and_all_are_of_the_patient(samples, least):
    studies, texts, labels = samples
    found = hard_negatives(*samples, embed, 4, least)
    some = 0
    for row, chosen in enumerate(found.rows):
        own = studies[row]
        chosen = chosen[chosen >= 0]
        others = {
            s.study_id
            for s, text, status in zip(studies, texts, labels, strict=True)
            if own.subject_id
            and s.subject_id == own.subject_id
            and s.study_id != own.study_id
            and text != own.report
            and (status != labels[row]).sum() >= least
        }
        assert len(chosen) == min(4, len(others)) == len({studies[c].study_id for c in chosen})
        assert {studies[c].study_id for c in chosen} <= others
        some += len(chosen)
    assert some > 20


def test_the_most_similar_come_first_and_weigh_by_a_softmax(samples):
    """Eq. 7's ranking, Eq. 8's weights: they sum to 1; a small tau makes them uneven, none makes them equal."""
    studies, texts, _ = samples
    few, many = hard_negatives(*samples, embed, 2), hard_negatives(*samples, embed, 50, tau=0.05)
    vectors = embed(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for row in range(len(studies)):
        chosen = many.rows[row][many.rows[row] >= 0]
        if not len(chosen):
            assert (many.weights[row] == 0).all()
            continue
        alike = vectors[chosen] @ vectors[row]
        assert (np.diff(alike) <= 1e-9).all()
        np.testing.assert_allclose(
            many.weights[row][: len(chosen)], np.exp(alike / 0.05) / np.exp(alike / 0.05).sum(), rtol=1e-4
        )
        assert few.rows[row][few.rows[row] >= 0].tolist() == chosen[:2].tolist()
    equal = hard_negatives(*samples, embed, 4, tau=None)
    counts = (equal.rows >= 0).sum(1)
    np.testing.assert_allclose(equal.weights.sum(1), counts > 0, atol=1e-6)
    np.testing.assert_allclose(equal.weights.max(1)[counts > 0], 1 / counts[counts > 0])


def test_patients_of_one_study_have_none():
    """And the line for the report says so."""
    studies = [Study(f"s{i}", ("x.png",), f"text {i}", (), f"p{i}", f"s{i}") for i in range(5)]
    found = hard_negatives(studies, [s.report for s in studies], np.arange(5)[:, None], embed, 4)
    assert (found.rows == -1).all() and (found.weights == 0).all()
    assert "no patient has two studies" in str(found)
