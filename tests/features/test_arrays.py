import json
import os

import numpy as np
import pytest

from revtaf.errors import UserError
from revtaf.features.arrays import TextTables, fingerprint, load_arrays, read_store, save_arrays, write_store
from revtaf.files import atomic_folder, atomic_write, read_json


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return TextTables(
        report_ids=np.array([0, 1, 1], dtype=np.int32),
        offsets=np.array([0, 2, 6]),
        sentence_ids=np.arange(6, dtype=np.int32),
        sentences=rng.random((4, 8), np.float32),
        reports=rng.random((2, 8), np.float32),
        triplets=rng.random((3900, 8), np.float32),
        nearest=np.array([1, 0, 0], dtype=np.int32),
    )


def test_features_come_back_as_they_were(tmp_path, texts):
    save_arrays(tmp_path / "f", texts, {"made": "here"})
    again = load_arrays(tmp_path / "f", TextTables)
    assert all(np.array_equal(getattr(again, n), getattr(texts, n)) for n in vars(texts))


def test_features_of_another_producer_are_refused(tmp_path, texts):
    """Settings never meet features that other settings made."""
    save_arrays(tmp_path / "f", texts, {"made": "here"})
    with pytest.raises(UserError, match="delete the folder"):
        read_store(tmp_path / "f", {"made": "elsewhere"})


@pytest.mark.parametrize("damage", ["truncate", "one bit", "shape", "missing", "no manifest entry"])
def test_damaged_features_are_refused(tmp_path, texts, damage):
    """Whatever is wrong with a file, the message names it and says what to do."""
    save_arrays(tmp_path / "f", texts, {})
    file = tmp_path / "f" / "sentences.npy"
    content = file.read_bytes()
    manifest = read_json(tmp_path / "f" / "manifest.json")
    if damage == "truncate":
        file.write_bytes(content[:140])
    elif damage == "one bit":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        file.unlink()
    elif damage == "shape":
        manifest["arrays"]["sentences"]["shape"] = [5, 8]
    else:
        del manifest["arrays"]["sentences"]
    (tmp_path / "f" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="sentences.*delete the folder"):
        load_arrays(tmp_path / "f", TextTables)


def test_files_beside_the_arrays_are_checked_too(tmp_path):
    """A fitted network is part of the features: one changed byte is seen, and changes the fingerprint."""
    write_store(
        tmp_path / "f", {"a": np.arange(3)}, {}, {"ids": ["x"]}, lambda folder: (folder / "net").write_text("w")
    )
    mark = fingerprint(tmp_path / "f")
    assert read_store(tmp_path / "f")[1]["ids"] == ["x"]
    (tmp_path / "f" / "net").write_text("v")
    with pytest.raises(UserError, match="net is damaged"):
        read_store(tmp_path / "f")
    write_store(
        tmp_path / "f", {"a": np.arange(3)}, {}, {"ids": ["x"]}, lambda folder: (folder / "net").write_text("v")
    )
    assert fingerprint(tmp_path / "f") != mark


def test_the_same_arrays_give_the_same_bytes_and_other_arrays_another_fingerprint(tmp_path, texts):
    """Features are compared by their bytes, not by when or where they were made."""
    for name in "ab":
        save_arrays(tmp_path / name, texts, {"made": "here"})
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    texts.reports[0, 0] += 1
    save_arrays(tmp_path / "b", texts, {"made": "here"})
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    """Partial files of dead processes go at the next attempt; those of living ones stay."""
    dead, living = f".x.json.partial-{2**22 + 1}", f".x.json.partial-{os.getppid()}"
    for name in (dead, living, ".y.json.partial-4194305"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".d.partial-{2**22 + 1}-abc").mkdir()
    with atomic_write(tmp_path / "x.json") as partial:
        partial.write_text("whole")
    with atomic_folder(tmp_path / "d"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [living, ".y.json.partial-4194305", "d", "x.json"]


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
