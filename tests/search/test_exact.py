"""Exact search: the answer of a float64 scan, whatever the pieces, the batch and the ties."""

import numpy as np
import pytest
import torch

from revtaf.errors import UserError
from revtaf.search import exact


def unit(rows: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scan(vectors, queries, k, skip=None):
    """All scores in float64, sorted by score, then row."""
    scores = (queries.astype(np.float64)[:, None] * vectors.astype(np.float64)[None]).sum(-1)
    if skip is not None:
        scores[:, skip] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, 1), rows


def cut(array, *at):
    return np.split(array, at)


@pytest.mark.parametrize("pieces", [7, 64, 16384])
@pytest.mark.parametrize("batch", [1, 5, 512])
def test_it_is_a_scan_in_float64(monkeypatch, pieces, batch):
    """Scores to the last bit and rows, over shards, pieces and batches of any size, with ties by the hundred."""
    monkeypatch.setattr(exact, "ROWS_AT_ONCE", pieces)
    monkeypatch.setattr(exact, "QUERIES_AT_ONCE", batch)
    vectors = unit(150, 24, 1)[np.random.default_rng(2).integers(0, 150, 500)].astype(np.float16)  # many are equal
    queries = unit(11, 24, 3)
    score, row = exact.nearest(cut(vectors, 3, 200), queries, 20)
    expected = scan(vectors, queries, 20)
    np.testing.assert_array_equal(row, expected[1])
    np.testing.assert_array_equal(score, expected[0])


def test_a_product_in_bfloat16_finds_the_same(monkeypatch):
    """Where the caller allows PyTorch to round the factors of float32 products, as processors with such units do."""
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *factors, out: product(*(f.bfloat16().float() for f in factors), out=out))
    vectors, queries = unit(3000, 64, 20).astype(np.float16), unit(40, 64, 21)
    torch.set_float32_matmul_precision("medium")
    try:
        score, row = exact.nearest([vectors], queries, 200)
    finally:
        torch.set_float32_matmul_precision("highest")
    expected = scan(vectors, queries, 200)
    np.testing.assert_array_equal(row, expected[1])
    np.testing.assert_array_equal(score, expected[0])


def test_half_precision_changes_scores_by_its_rounding_alone():
    """Against vectors that were never rounded: 2^-11 of the length at most."""
    vectors, queries = unit(400, 64, 4), unit(9, 64, 5)
    score, _ = exact.nearest([vectors.astype(np.float16)], queries, 10)
    np.testing.assert_allclose(score, scan(vectors, queries, 10)[0], atol=2.0**-11)


def test_half_precision_finds_the_same_rows_where_they_are_apart():
    """One neighbour after the other, .01 of a cosine between them."""
    query, across = np.eye(2, 32, dtype=np.float32)
    cosines = np.random.default_rng(4).permutation(np.linspace(-0.9, 0.9, 181))
    vectors = (cosines[:, None] * query + np.sqrt(1 - cosines[:, None] ** 2) * across).astype(np.float32)
    rows = exact.nearest([vectors.astype(np.float16)], query[None], 10)[1]
    np.testing.assert_array_equal(rows[0], np.argsort(-cosines)[:10])
    np.testing.assert_array_equal(rows, exact.nearest([vectors], query[None], 10)[1])


@pytest.mark.parametrize("broken", [1, 10])
def test_rows_without_numbers_are_never_passed_over(broken):
    """With k of them in a piece, all of the piece's rows would fall behind a limit that is none."""
    vectors = unit(6000, 16, 0).astype(np.float16)
    queries = vectors[5:6].astype(np.float32)
    assert exact.nearest([vectors], queries, 3)[1][0, 0] == 5
    vectors[100 : 100 + broken] = np.nan
    assert np.isnan(exact.nearest([vectors], queries, 3)[0]).all()


@pytest.mark.parametrize("broken", [1, 10])
def test_rows_without_numbers_take_no_others_with_them(broken):
    """In a later piece, where a limit is known."""
    vectors, queries = unit(6000, 16, 0).astype(np.float16), unit(3, 16, 1)
    vectors[5000 : 5000 + broken] = 0
    expected = exact.nearest([vectors], queries, 3)
    vectors[5000 : 5000 + broken] = np.nan
    for found, wanted in zip(exact.nearest([vectors], queries, 3), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_rows_that_are_skipped_never_come():
    """Also where whole pieces are skipped, and only just enough rows are left."""
    vectors, queries = unit(300, 16, 6).astype(np.float16), unit(4, 16, 7)
    skip = np.ones(300, bool)
    skip[[5, 250, 251, 299]] = False
    score, row = exact.nearest(cut(vectors, 100), queries, 4, cut(skip, 100))
    np.testing.assert_array_equal(row, scan(vectors, queries, 4, skip)[1])
    with pytest.raises(UserError, match="only 4 rows that are not excluded"):
        exact.nearest(cut(vectors, 100), queries, 5, cut(skip, 100))


def test_scores_that_differ_by_less_than_float32_sees_are_ordered():
    """Rows in all directions, equally far from a query up to rounding: float64's order all the same."""
    queries, other = unit(1, 256, 8), unit(600, 256, 9).astype(np.float64)
    query = queries / np.linalg.norm(queries.astype(np.float64))
    other -= (other @ query.T) * query
    vectors = 0.5 * query + 0.75**0.5 * other / np.linalg.norm(other, axis=1, keepdims=True)
    vectors = vectors.astype(np.float32)
    expected = scan(vectors, queries, 5)
    single = vectors @ queries[0]
    assert (single[expected[1][0]] < np.sort(single)[-5]).any()  # float32 alone would lose some
    score, row = exact.nearest(cut(vectors, 250), queries, 5)
    np.testing.assert_array_equal(row, expected[1])
    np.testing.assert_array_equal(score, expected[0])


def test_more_neighbours_than_rows_are_refused():
    """K larger than the data."""
    with pytest.raises(UserError, match="-k 6: there are only 5 rows"):
        exact.nearest([unit(5, 8, 0)], unit(1, 8, 1), 6)
