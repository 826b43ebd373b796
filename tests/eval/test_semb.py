"""SembScore: cosines, and vectors from files."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from revtaf.errors import UserError
from revtaf.eval import semb

IDS = ["a", "b", "c"]
REFERENCE = np.array([[1, 0], [3, 4], [0, 2]], dtype=np.float32)
PREDICTION = np.array([[2, 0], [4, 3], [-1, 0]], dtype=np.float32)


def write_folder(folder, ids=IDS, **arrays):
    folder.mkdir(exist_ok=True)
    (folder / "ids.json").write_text(json.dumps(ids))
    for name, values in {"reference": REFERENCE, "prediction": PREDICTION, **arrays}.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=True)
    return folder


def test_cosines_by_hand():
    """(1,0) and (2,0) agree; (3,4) and (4,3) have 24/25; (0,2) and (-1,0) are at right angles."""
    assert semb.score(REFERENCE, PREDICTION).per_sample == pytest.approx([1, 24 / 25, 0])
    assert semb.score(REFERENCE, PREDICTION).corpus == pytest.approx((1 + 24 / 25) / 3)


def test_length_does_not_matter_and_opposites_are_minus_one():
    assert semb.score(REFERENCE, -7 * REFERENCE).per_sample == pytest.approx([-1, -1, -1])


def test_zero_vector_has_cosine_zero():
    assert semb.score(np.zeros((1, 2)), np.ones((1, 2))).corpus == 0


def test_both_file_kinds_are_read_in_the_order_of_the_ids(tmp_path):
    wanted = ["c", "a"]
    folder = write_folder(tmp_path / "vectors")
    file = tmp_path / "vectors.safetensors"
    save_file({"reference": REFERENCE, "prediction": PREDICTION}, file, metadata={"ids": json.dumps(IDS)})
    for path in (folder, file):
        reference, prediction = semb.read_vectors(path, wanted)
        np.testing.assert_array_equal(reference, REFERENCE[[2, 0]])
        np.testing.assert_array_equal(prediction, PREDICTION[[2, 0]])


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"ids": ["a", "b", "b"]}, "the id 'b' occurs twice"),
        ({"ids": ["a", "b", "x"]}, "1 of 3 scored samples are missing: c"),
        ({"ids": {"a": 0}}, "ids are not a list of texts"),
        ({"reference": REFERENCE[:2]}, r"reference is float32 \(2, 2\), expected floats of shape \(3, D\)"),
        ({"reference": REFERENCE[:, :1]}, r"reference is \(3, 1\), prediction \(3, 2\)"),
        ({"prediction": np.array([[0, 1], [np.nan, 0], [0, 1]])}, "prediction of id 'b' is not finite"),
        ({"prediction": np.array([{"x": 1}], dtype=object)}, "prediction.npy is damaged"),
    ],
)
def test_bad_vectors_are_named(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        semb.read_vectors(write_folder(tmp_path / "vectors", **changed), IDS)


def test_missing_and_broken_files_are_named(tmp_path):
    folder = write_folder(tmp_path / "vectors")
    (folder / "prediction.npy").unlink()
    with pytest.raises(UserError, match="missing file .*prediction.npy"):
        semb.read_vectors(folder, IDS)
    with pytest.raises(UserError, match="no such file: .*absent"):
        semb.read_vectors(tmp_path / "absent.safetensors", IDS)
    save_file({"reference": REFERENCE}, tmp_path / "no_ids.safetensors")
    with pytest.raises(UserError, match="no JSON list of ids"):
        semb.read_vectors(tmp_path / "no_ids.safetensors", IDS)
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0")
    with pytest.raises(UserError, match="cannot read .*cut.safetensors"):
        semb.read_vectors(tmp_path / "cut.safetensors", IDS)
    save_file({"reference": REFERENCE}, tmp_path / "one.safetensors", metadata={"ids": json.dumps(IDS)})
    with pytest.raises(UserError, match="cannot read .*one.safetensors"):
        semb.read_vectors(tmp_path / "one.safetensors", IDS)
