"""References that no retriever chose: nearest by true statuses, or drawn."""

import pytest
import torch

from revtaf.lre.labels import status_distance
from revtaf.lre.retrieved import fixed_retrieved

SOURCES = ("oracle", "random")


def statuses(n: int, seed: int):
    return torch.randint(0, 4, (n, 6), generator=torch.Generator().manual_seed(seed))


def a_set():
    """Queries (40, 6) and training samples (90, 6): the first 30 queries are training samples of 30 patients."""
    train, patients = statuses(90, 0), [f"p{i // 3}" for i in range(90)]
    queries = torch.cat([train[::3], statuses(10, 1)])
    return queries, patients[::3] + [f"new {i}" for i in range(10)], train, patients


def others(asked, known):
    return torch.tensor([[a != b for b in known] for a in asked])


def test_the_oracle_is_the_nearest_of_another_patient():
    """Against a full scan; each of the first queries is in the database itself, at distance 0."""
    queries, asked, train, known = a_set()
    distance, rows = fixed_retrieved("oracle", queries, asked, train, known, seed=0)
    full = status_distance(queries, train)
    assert torch.equal(distance, full.masked_fill(~others(asked, known), 10**6).min(1).values)
    assert torch.equal(full.gather(1, rows[:, None])[:, 0], distance)
    assert (distance[:30] > 0).any()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["strings", "ints"])
def test_no_query_gets_its_own_patient(source, kind):
    """Nine of ten training samples are one patient's: any draw that forgot to look would give it to itself."""
    train = torch.zeros(50, 6, dtype=torch.long)
    known = ["much"] * 45 + ["other"] * 5 if kind == "strings" else [7] * 45 + [8] * 5
    asked = [known[0]] * 30 + [known[-1]] * 30
    _, rows = fixed_retrieved(source, torch.zeros(60, 6, dtype=torch.long), asked, train, known, seed=0)
    assert all(known[row] != patient for row, patient in zip(rows.tolist(), asked, strict=True))


@pytest.mark.parametrize("source", SOURCES)
def test_the_seed_decides(source):
    """The same seed draws the same rows, another seed others; the oracle's distances are the same for all seeds."""
    queries, asked, train, known = a_set()
    train = train % 2  # many ties, so that the oracle has something to draw
    first, again, other = (fixed_retrieved(source, queries, asked, train, known, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert source == "random" or torch.equal(first[0], other[0])


@pytest.mark.parametrize("source", SOURCES)
def test_the_distance_is_that_of_the_row(source):
    """Equation 6, as int64; rows are int64 too."""
    queries, asked, train, known = a_set()
    distance, rows = fixed_retrieved(source, queries, asked, train, known, seed=3)
    assert distance.dtype == rows.dtype == torch.int64 and distance.shape == rows.shape == (40,)
    assert torch.equal(distance, status_distance(queries, train).gather(1, rows[:, None])[:, 0])


def test_random_rows_reach_every_other_sample():
    """All 87 rows of other patients are drawn, none much more often than the rest."""
    train, known = statuses(90, 0), [f"p{i // 3}" for i in range(90)]
    queries = train[:1].expand(9000, -1)
    _, rows = fixed_retrieved("random", queries, ["p0"] * 9000, train, known, seed=0)
    counts = torch.bincount(rows, minlength=90)
    assert counts[:3].sum() == 0 and counts[3:].min() > 50 and counts[3:].max() < 170


def test_an_unknown_source_is_named():
    queries, asked, train, known = a_set()
    with pytest.raises(ValueError, match="expected oracle or random, got 'retrieved'"):
        fixed_retrieved("retrieved", queries, asked, train, known, seed=0)


@pytest.mark.parametrize("source", SOURCES)
def test_a_database_of_one_patient_has_nothing_for_that_patient(source):
    """It is refused rather than searched for ever; a patient who is not in it may have all of it."""
    train = statuses(5, 0)
    with pytest.raises(ValueError, match="may only see 0 of 5"):
        fixed_retrieved(source, train[:2], ["new", "p"], train, ["p"] * 5, seed=0)
    _, rows = fixed_retrieved(source, train[:1], ["new"], train, ["p"] * 5, seed=0)
    assert 0 <= int(rows) < 5
