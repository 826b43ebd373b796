"""Reports of rare findings are shown more often, and nothing else changes."""

import numpy as np

from revtaf.engine.batches import EpochBatches
from revtaf.labels import CATEGORIES, NO_FINDING, POSITIVE
from revtaf.system.draws import repeated_rows

RARE, COMMON = 3, 8


def _statuses(samples: int = 2000) -> np.ndarray:
    statuses = np.zeros((samples, len(CATEGORIES)), np.int8)
    statuses[: samples // 100, RARE] = POSITIVE
    statuses[samples // 2 :, COMMON] = POSITIVE
    statuses[samples // 100 : samples // 2, NO_FINDING] = POSITIVE
    return statuses


def test_a_finding_below_the_share_comes_by_the_root_of_its_rarity():
    statuses = _statuses()
    rows = repeated_rows(statuses, 0.09, np.random.default_rng(0))
    times = np.bincount(rows, minlength=len(statuses))
    rare = statuses[:, RARE] == POSITIVE
    assert (times[~rare] == 1).all()  # the common finding and "no finding" are above the share, or none
    assert (times[rare] == 3).all()  # sqrt(.09 / .01)


def test_a_fraction_is_a_chance_and_the_same_seed_draws_the_same():
    statuses = _statuses(20_000)
    rows = repeated_rows(statuses, 0.0625, np.random.default_rng(1))  # factor 2.5
    times = np.bincount(rows)[statuses[:, RARE] == POSITIVE]
    assert set(times) == {2, 3} and abs(times.mean() - 2.5) < 0.1
    assert (rows == repeated_rows(statuses, 0.0625, np.random.default_rng(1))).all()


def test_batches_draw_exactly_the_rows_of_the_epoch():
    rows = np.repeat(np.arange(10), [1, 3, 1, 1, 2, 1, 1, 1, 1, 4])
    lengths = np.arange(len(rows))[::-1].copy()
    for given in (None, lengths):
        batches = EpochBatches(len(rows), 4, seed=5, lengths=given, rows=rows)
        assert sorted(row for batch in batches for _, row in batch) == rows.tolist()
