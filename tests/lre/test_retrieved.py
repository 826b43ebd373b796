"""Whose report a sample gets: in training by each source, at test by the controls that no retriever decides."""

import pytest
import torch

from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status, status_distance
from revtaf.lre.retrieved import NO_REPORT, TrainingRetrieved, fixed_retrieved

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
    with pytest.raises(ValueError, match="expected oracle, own or random, got 'retrieved'"):
        fixed_retrieved("retrieved", queries, asked, train, known, seed=0)


@pytest.mark.parametrize("source", SOURCES)
def test_a_database_of_one_patient_has_nothing_for_that_patient(source):
    """It is refused rather than searched for ever; a patient who is not in it may have all of it."""
    train = statuses(5, 0)
    with pytest.raises(ValueError, match="may only see 0 of 5"):
        fixed_retrieved(source, train[:2], ["new", "p"], train, ["p"] * 5, seed=0)
    _, rows = fixed_retrieved(source, train[:1], ["new"], train, ["p"] * 5, seed=0)
    assert 0 <= int(rows) < 5


def test_the_own_report_stands_behind_the_training_reports():
    """Row N + q for query q, at distance 0, whoever its patient is."""
    queries, asked, train, known = a_set()
    distance, rows = fixed_retrieved("own", queries, asked, train, known, seed=0)
    assert rows.tolist() == list(range(90, 130)) and not distance.any()


def trained(source, seed=0, **options):
    _, _, train, patients = a_set()
    nearest = nearest_by_status(train, train, 1, patients, patients)[1][:, 0]
    return TrainingRetrieved(source, train, patients, nearest, seed, **options)


@pytest.mark.parametrize("source", ["batch_labels", "dataset_labels", "own", "random"])
def test_the_training_report_does_not_depend_on_the_space(source):
    """LRE on or off: the same reports, so that rows (b) and (c) of Table 3 differ in LRE alone."""
    rows = torch.tensor([3, 40, 8, 77, 21, 5])
    learned, fixed = (trained(source, space_learns=learns).rows(rows, 4) for learns in (True, False))
    assert torch.equal(learned, fixed)


def test_without_lre_learned_asks_the_fixed_space_once():
    """The nearest point of another patient, searched at the first epoch alone; in a space that learns, at each."""
    points = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    full = torch.cdist(points, points)
    patients = a_set()[3]
    full = full.masked_fill(~others(patients, patients), torch.inf).argmin(1)
    for learns, expected in ((False, 1), (True, 2)):
        asked = []

        def index(asked=asked):
            asked.append(1)
            return RetrievalIndex(points, 1.0, groups=patients, metric="euclidean")

        chooser = trained("learned", space_learns=learns)
        chooser.start_epoch(index)
        chooser.start_epoch(index)
        assert len(asked) == expected
        assert torch.equal(chooser.rows(torch.arange(90), 0), full)


def test_own_is_the_sample_itself_and_random_another_patient_drawn_at_each_step():
    """`random` is repeatable: the same seed and step draw the same rows, another step or seed others."""
    rows, patients = torch.arange(60), a_set()[3]
    assert torch.equal(trained("own").rows(rows, 7), rows)
    drawn = trained("random").rows(rows, 7)
    assert all(patients[a] != patients[b] for a, b in zip(rows.tolist(), drawn.tolist(), strict=True))
    assert torch.equal(drawn, trained("random").rows(rows, 7))
    assert (drawn != trained("random").rows(rows, 8)).float().mean() > 0.9
    assert (drawn != trained("random", seed=1).rows(rows, 7)).float().mean() > 0.9


@pytest.mark.parametrize("source", ["batch_labels", "dataset_labels", "own", "random"])
def test_dropout_leaves_reports_out_and_changes_no_other(source):
    """A quarter of the samples, others at each step, repeatably; the reports that stay are those without dropout."""
    rows = torch.arange(90)
    chooser, whole = trained(source, dropout=0.25), trained(source)
    out = torch.stack([chooser.rows(rows, draw) == NO_REPORT for draw in range(60)])
    assert 0.23 < out.float().mean() < 0.27 and 0.02 < out.float().mean(0).min() and out.float().mean(0).max() < 0.5
    once = chooser.rows(rows, 5)
    assert torch.equal(once, chooser.rows(rows, 5))
    assert torch.equal(once[~out[5]], whole.rows(rows, 5)[~out[5]])
