"""The projection: the SVD of the training vectors, centred or not."""

import numpy as np
import pytest

from revtaf.errors import UserError
from revtaf.search import projection


def cone(rows=200, width=12, seed=0):
    """Unit vectors about a common direction, as those of contrastive models are."""
    draw = np.random.default_rng(seed)
    vectors = np.eye(width)[0] * 3 + draw.standard_normal((rows, width)) * np.linspace(2, 0.1, width)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("centred", [False, True])
def test_it_spans_the_largest_singular_vectors(centred):
    """Against NumPy's own SVD of the same rows: the same subspace and the same share."""
    vectors = cone()
    made, kept = projection.fit([vectors[:50], vectors[50:]], 4, centred)
    values, right = np.linalg.svd(vectors - vectors.mean(0) * centred)[1:]
    np.testing.assert_allclose(made.basis @ made.basis.T, right[:4].T @ right[:4], atol=1e-5)
    assert kept == pytest.approx((values[:4] ** 2).sum() / (values**2).sum(), abs=1e-6)


def test_all_dimensions_keep_every_cosine():
    """Without centring a full basis is a rotation; with it cosines change."""
    vectors = cone()
    for centred, same in ((False, True), (True, False)):
        made, kept = projection.fit([vectors], 12, centred)
        turned = made.apply(vectors)
        np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-6)
        assert kept == pytest.approx(1)
        assert np.allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-5) is same


def test_more_directions_than_vectors_are_refused():
    """A width that the training vectors do not have."""
    with pytest.raises(UserError, match="--svd 13"):
        projection.fit([cone()], 13, False)


def test_it_is_stored(tmp_path):
    """And read back to the last bit; what is no such file is refused."""
    made, _ = projection.fit([cone()], 3, True)
    made.save(tmp_path / "p")
    np.testing.assert_array_equal(projection.Projection.load(tmp_path / "p").basis, made.basis)
    (tmp_path / "p").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        projection.Projection.load(tmp_path / "p")
