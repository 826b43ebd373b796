import json

import numpy as np
import pytest

from revtaf.data.store import ReferenceTexts, load_arrays, save_arrays
from revtaf.errors import UserError
from revtaf.files import atomic_folder, atomic_write, read_json


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return ReferenceTexts(
        rng.random((4, 8), np.float32), np.arange(6, dtype=np.int32), np.array([0, 2, 6]),
        rng.random((2, 8), np.float32), rng.random((3900, 8), np.float32),
    )  # fmt: skip


def test_features_come_back_as_they_were(tmp_path, texts):
    save_arrays(tmp_path / "f", texts, {"made": "here"})
    again = load_arrays(tmp_path / "f", ReferenceTexts, {"made": "here"})
    assert all(np.array_equal(getattr(again, n), getattr(texts, n)) for n in vars(texts))


def test_features_of_another_producer_are_refused(tmp_path, texts):
    """Settings never meet features that other settings made."""
    save_arrays(tmp_path / "f", texts, {"made": "here"})
    with pytest.raises(UserError, match="delete the folder"):
        load_arrays(tmp_path / "f", ReferenceTexts, {"made": "elsewhere"})


@pytest.mark.parametrize("damage", ["truncate", "shape"])
def test_damaged_features_are_refused(tmp_path, texts, damage):
    save_arrays(tmp_path / "f", texts, {})
    file = tmp_path / "f" / "arrays.safetensors"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:100])
    else:
        manifest = read_json(tmp_path / "f" / "manifest.json")
        manifest["arrays"]["sentences"][1] = 5
        (tmp_path / "f" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="arrays.safetensors"):
        load_arrays(tmp_path / "f", ReferenceTexts, {})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    """Files and folders are replaced in one step or not at all."""
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "d") as partial:
        (partial / "x").write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old" and (tmp_path / "d" / "x").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "d"]
