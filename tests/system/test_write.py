"""Which training report each written report was given."""

import pytest
import torch
from tiny import make_session

from revtaf.lre.retrieved import fixed_retrieved
from revtaf.system.write import predict

ROWS = [7, 2, 11, 3, 0, 29]


@pytest.fixture(scope="module")
def own(tiny_config):
    """A session that no other test uses, and its training set as a set to be written for: every query's own report,
    and others of its patient, are in the database."""
    session = make_session(tiny_config)
    dataset = session.train_set()
    dataset.train = False
    return session, dataset


def written(own, source: str, rows=ROWS, **options):
    session, dataset = own
    short = {"retrieved": source, "beams": 1, "min_new_tokens": 1, "max_new_tokens": 3, "batch_size": 4}
    return predict(session, dataset, session.settings.generation.model_copy(update=short), rows=rows, **options)


def expected(own, source: str):
    session, dataset = own
    statuses = torch.from_numpy(dataset.features.statuses).long()
    patients = dataset.features.patients
    return fixed_retrieved(source, statuses, patients, statuses, patients, session.settings.seed)


@pytest.mark.parametrize("source", ["oracle", "random"])
def test_fixed_retrieved_are_given_row_by_row(own, source):
    """Whichever rows are asked for, in whatever order and batch; the retriever is never asked."""
    distance, rows = expected(own, source)
    found = written(own, source, index=object())
    assert [p.row for p in found] == ROWS
    assert [p.retrieved for p in found] == rows[ROWS].tolist()
    assert [p.distance for p in found] == distance[ROWS].tolist()


def test_the_three_sources_differ(own):
    """The oracle is nearer by statuses than the random draw; neither is what the retriever finds."""
    found = {source: [p.retrieved for p in written(own, source)] for source in ("oracle", "random", "learned")}
    assert found["oracle"] != found["random"] != found["learned"] != found["oracle"]
    oracle, random = (expected(own, source)[0].float().mean() for source in ("oracle", "random"))
    assert oracle < random


@pytest.mark.parametrize("source", ["oracle", "random", "learned"])
def test_no_source_gives_a_report_of_the_own_patient(own, source):
    """The query's own report is in the database and would be the nearest."""
    patients = own[1].features.patients
    assert len(set(patients)) < len(patients)
    for p in written(own, source):
        assert patients[p.retrieved] != patients[p.row]
