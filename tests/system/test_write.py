"""Which training report each written report was given."""

from dataclasses import replace

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


def test_own_gives_each_sample_the_sentences_of_its_own_report(own, monkeypatch):
    """By the encoder that made the tables: the sentences are those that the training bank holds for the sample, and no
    training report is said to have been retrieved."""
    session, dataset = own
    given, prompts = [], type(session).prompts
    monkeypatch.setattr(type(session), "prompts", lambda *a: given.append((a[1].rows, prompts(*a))) or given[-1][1])
    found = written(own, "own")
    assert [(p.retrieved, p.distance) for p in found] == [(-1, 0)] * len(ROWS)
    for rows, texts in given:
        expected, mask = session.bank.retrieved(rows)
        assert torch.equal(texts.retrieved_mask, mask)
        torch.testing.assert_close(texts.retrieved, expected, atol=2e-3, rtol=0)  # float16 tables


def test_a_report_of_new_words_gets_rows_of_its_own(own):
    """Training rows keep their sentences; an empty report has none; further reports never enter the memory's tables."""
    session, dataset = own
    studies = [replace(dataset.studies[0], report=text) for text in ("A zebra . The heart is fine .", "", "Zebra .")]
    bank, n = session.bank_with(studies), len(dataset)
    text, mask = bank.retrieved(torch.tensor([n, n + 1, n + 2, 4]))
    assert mask.sum(1).tolist()[:3] == [2, 0, 1] and text[0, 1].any()
    before = session.bank.retrieved(torch.tensor([4]))[0][0]
    assert torch.equal(text[3, : len(before)], before)


def test_the_sources_differ(own):
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
