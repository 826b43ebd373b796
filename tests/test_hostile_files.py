"""Hostile files end in one message. The thousands are in `scripts/reliability/hostile.py`; here are the kinds of faults
that it found, a few of its files, and that it sees what it is there to see."""

import json
import os
import pickle
import random
import signal
import sys
import zipfile

import numpy as np
import pytest
from tiny import ROOT

from revtaf.config_file import load_settings
from revtaf.data.annotations import load_annotations
from revtaf.data.array_file import read_array
from revtaf.data.images import read_image
from revtaf.data.sources.table.prepare import prepare_table
from revtaf.engine.metrics import epoch_curves
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import LONGEST, UserError
from revtaf.eval.records import read_samples
from revtaf.files import read_json, read_text, read_yaml, real_path, sha256
from revtaf.pretrained.strict import read_tensors
from revtaf.tokenizer import ReportTokenizer

sys.path.insert(0, str(ROOT / "scripts" / "reliability"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="pipes and forks")

BOMB = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'lol'] * 9)}]" for i in range(12))
READERS = {
    "text": read_text,
    "json": read_json,
    "yaml": read_yaml,
    "hash": sha256,
    "annotation": load_annotations,
    "settings": load_settings,
    "image": read_image,
    "array": lambda path: read_array(path, "make it again"),
    "weights": lambda path: read_tensors(path, "weights"),
    "vocabulary": ReportTokenizer.from_vocabulary,
    "predictions": read_samples,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_pipe_or_a_device_is_no_file(reader, tmp_path):
    """Nobody waits for what never comes, or reads what never ends."""
    pipe, device = tmp_path / "pipe.jsonl", tmp_path / "device.jsonl"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(UserError, match="expected a file"):
            reader(path)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]",
        "a: " + "[" * 5000,
        "a: " + "1" * 5000,
        "a: 0x" + "f" * 4000,
        "a: 2026-13-45",
        'a: "\\uD800"',
        "a: !!python/object/apply:os.getcwd []",
        "a: {? [1, 2] : 3}",
        "base: .inf",
        "base: [x]",
    ],
)
def test_settings_that_no_program_could_use_are_refused(tmp_path, text):
    """Endless, too deep, too large, calling: one message, in no time."""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match="a.yaml"):
        load_settings(tmp_path / "a.yaml")


def test_aliases_that_people_write_are_read(tmp_path):
    """What is written once and used twice is no bomb."""
    (tmp_path / "a.yaml").write_text("a: &shared {x: [1, 2]}\nb: *shared\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}}


@pytest.mark.parametrize("text", ["[" * 60_000, "1" * 5000, '"\\ud800"', '{"a": "\\udfff"}'])
def test_json_that_no_program_could_use_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="a.json"):
        read_json(tmp_path / "a.json")


def test_a_pair_of_halves_is_one_character(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps("🫁"))
    assert read_json(tmp_path / "a.json") == "🫁"


def test_a_message_stays_readable_whatever_it_quotes():
    """Its end, which says what to do, is kept."""
    text = str(UserError("wrong: " + "x" * 10**6 + "; do this"))
    assert text.startswith("wrong: ") and text.endswith("; do this") and len(text) < LONGEST + 100
    assert str(UserError("short")) == "short"
    assert str(pickle.loads(pickle.dumps(UserError("short")))) == "short"  # loaders send them between processes


def test_several_arrays_or_objects_are_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00\x06\x00{'a': ")
    for name in "abc":
        with pytest.raises(UserError, match=f"{name}.npy is damaged.*; again"):
            read_array(tmp_path / f"{name}.npy", "again")


def test_records_of_a_run_are_records(tmp_path):
    """Another JSON value in their place is told with its line; half a last line is still left out."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "losses": {"lm": 1}}\n3\n')
    with pytest.raises(UserError, match="line 2"):
        read_jsonl(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "losses": {"lm": 1}}\n{"epoch"')
    assert len(epoch_curves(tmp_path / "metrics.jsonl")) == 1
    (tmp_path / "metrics.jsonl").write_text('{"epoch": [], "losses": 4}\n')
    with pytest.raises(UserError, match="metrics.jsonl is damaged"):
        epoch_curves(tmp_path / "metrics.jsonl")


@pytest.fixture(scope="module")
def kinds():
    import hostile_kinds

    return {kind.name: kind for kind in hostile_kinds.KINDS}


def test_a_state_with_code_in_it_is_refused_and_runs_none(kinds, tmp_path):
    """Every file of a stopped run that torch reads, replaced by a pickle that would make a folder."""
    from mutations import Trap, pickled, torch_zip

    run = tmp_path / "run"
    run.mkdir()
    kinds["stopped run"].make(run)
    trap = Trap(tmp_path / "outside", tmp_path / "canary")
    for path in sorted((run / "checkpoints" / "last").glob("*.*")):
        kept = path.read_bytes()
        for content in (pickled(trap), torch_zip(trap)):
            path.write_bytes(content)
            with pytest.raises(UserError, match="last"):
                kinds["stopped run"].open(run)
        path.write_bytes(kept)
    kinds["stopped run"].open(run)
    assert not trap.canary.exists()


def test_a_few_of_every_kind(kinds, tmp_path):
    """Three hostile files of each kind, in children as the script opens them."""
    import hostile

    chosen = [kind for kind in kinds.values() if kind.name != "search index"]  # its faults: tests/search
    counts = hostile.run(chosen, tmp_path, files=3 * len(chosen), seed=7)
    faults = [path.read_text() for path in (tmp_path / "faults").rglob("*.txt")]
    assert not faults, faults[0]
    assert all(sum(found.values()) for found in counts.values())


def test_the_instrument_sees_every_fault(tmp_path, monkeypatch):
    """An exception, a long message, a hang, a crash, code that ran, a file outside: each is counted as what it is."""
    import hostile
    from hostile_kinds import Kind

    monkeypatch.setattr(hostile, "COMPUTING", 1)
    monkeypatch.setattr(hostile, "ASLEEP", 1)

    def refuse(folder):
        raise UserError("no")

    def hang(folder):
        os.read(os.pipe()[0], 1)

    def compute(folder):
        while True:
            pass

    openers = {
        "accepted": lambda folder: None,
        "refused": refuse,
        "traceback": lambda folder: {}["x"],
        "hang": hang,
        "hang ": compute,
        "crash": lambda folder: os.kill(os.getpid(), signal.SIGTERM),
        "escape": lambda folder: (folder.parent.parent / "canary").mkdir(),
        "escape ": lambda folder: (folder.parent.parent / "outside" / "new").write_text(""),
    }
    valid = tmp_path / "valid"
    valid.mkdir()
    (valid / "a.json").write_text("{}")
    for wanted, opener in openers.items():
        kind = Kind("k", lambda folder: None, opener)
        found = list(hostile.attempts(kind, valid, tmp_path / "case", ["0", "1"]))
        assert [outcome for _, outcome, _, _ in found] == [wanted.strip()] * 2, found


def test_hostile_archives_are_what_they_say(tmp_path):
    """The zip that is made hostile has a name that leads out of it; the same seed gives the same bytes."""
    import io

    from mutations import Trap, zipped

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("files/p10/a.txt", "text")
    trap = Trap(tmp_path / "outside", tmp_path / "canary")
    made = [zipped(packed.getvalue(), random.Random(seed), trap) for seed in range(20)]
    names = {name for one in made for name in zipfile.ZipFile(io.BytesIO(one)).namelist()}
    assert "../../outside/new" in names and str(trap.outside / "new") in names


def test_a_cut_state_is_told(kinds, tmp_path):
    """Of every file of a stopped run, the first half."""
    kinds["stopped run"].make(tmp_path)
    last = tmp_path / "checkpoints" / "last"
    for path in sorted(last.glob("*.*")):
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])
        with pytest.raises(UserError, match=str(last)):
            kinds["stopped run"].open(tmp_path)
        path.write_bytes(kept)


def test_a_link_that_leads_to_itself_is_no_table(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "table.csv").symlink_to(tmp_path / "table.csv")
    assert real_path(tmp_path / "table.csv") == tmp_path / "table.csv"
    with pytest.raises(UserError, match="table.csv"):
        prepare_table([tmp_path / "table.csv"], tmp_path / "images", tmp_path / "out", image="image", report="report")
