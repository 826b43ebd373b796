"""Making features: continued where it was interrupted, shared between processes, the same bytes however it was done."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import TINY

from revtaf.cli import main
from revtaf.data import blocks
from revtaf.data.blocks import WHOLE, Blocks, PixelBlocks, Shard, Waiting
from revtaf.errors import UserError
from revtaf.features import build


def contents(folder) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def squares(rows: slice) -> dict[str, np.ndarray]:
    return {"squares": np.arange(rows.start, rows.stop) ** 2}


def test_blocks_are_computed_once_and_read_in_order(tmp_path):
    """A second call computes only what is missing."""
    work = Blocks(tmp_path, 10, "squares", rows=4)
    work.compute(squares, WHOLE)
    work.paths[1].unlink()
    asked = []
    work.compute(lambda rows: asked.append(rows) or squares(rows), WHOLE)
    assert asked == [slice(4, 8)]
    np.testing.assert_array_equal(work.read()["squares"], np.arange(10) ** 2)


def test_shards_share_the_blocks(tmp_path):
    """No shard computes another's block, and nobody reads before all are there."""
    alone, shared = Blocks(tmp_path / "a", 10, "", rows=3), Blocks(tmp_path / "b", 10, "", rows=3)
    alone.compute(squares, WHOLE)
    shared.compute(squares, Shard(0, 2))
    with pytest.raises(Waiting, match="2 of 4"):
        shared.read()
    shared.compute(squares, Shard(1, 2))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("text", ["2/2", "-1/2", "1", "a/b", "0/0"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="--shard"):
        Shard.parse(text)


def test_pixels_on_disk_are_read_like_an_array(tmp_path):
    """Any rows in any order, across blocks."""
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 5), dtype=np.uint8)
    pixels = PixelBlocks(tmp_path, 7, "", rows=3)
    pixels.compute(lambda rows: images[rows], WHOLE)
    order = np.array([6, 0, 3, 3, 5])
    np.testing.assert_array_equal(pixels.map()[order], images[order])


@pytest.fixture
def features_config(phantom, tmp_path, monkeypatch):
    """The tiny configuration with a features folder of its own, and small blocks."""
    import yaml

    def make(name):
        data = {"name": "phantom", "annotation": str(phantom / "annotation.json"), "images": str(phantom / "images")}
        path = tmp_path / f"{name}.yaml"
        content = TINY | {"run": str(tmp_path / "run"), "data": data | {"features": str(tmp_path / name)}}
        path.write_text(yaml.safe_dump(content))
        return path

    monkeypatch.setattr(blocks, "ROWS", 16)
    return make


def prepare(config, *options):
    assert main(["prepare", "features", "--config", str(config), "data.packed=true", *options]) == 0


def test_shards_make_the_same_features_as_one_process(features_config, tmp_path):
    """Two parts and a command that joins them: byte for byte what one process makes, and nothing else left."""
    whole, shared = features_config("whole"), features_config("shared")
    prepare(whole)
    for part in ("0/2", "1/2", "0/2"):  # the scorer's folds need all pixels, so the first part comes twice
        prepare(shared, "--shard", part)
    assert len(list((tmp_path / "shared").glob(".entities-*.parts/folds/*"))) == 2
    assert len(list((tmp_path / "shared").glob(".entities-*.parts/pixels/*"))) > 2
    assert not list((tmp_path / "shared").glob("entities-*"))
    prepare(shared)
    assert contents(tmp_path / "whole") == contents(tmp_path / "shared")
    assert not list((tmp_path / "shared").glob(".*"))


COMMAND = (
    "import sys; from revtaf.data import blocks; blocks.ROWS = 16; from revtaf.cli import main; "
    "sys.exit(main(['prepare', 'features', '--config', sys.argv[1], 'data.packed=true']))"
)


def start(config) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen([sys.executable, "-c", COMMAND, str(config)], env=environment, stderr=subprocess.PIPE)


def test_killing_the_builder_leaves_no_trace(features_config, tmp_path):
    """SIGKILL at random moments, then the same command to the end: the bytes of an undisturbed build."""
    whole, killed = features_config("whole"), features_config("killed")
    prepare(whole)
    draw = random.Random(0)
    for _ in range(3):
        process = start(killed)
        process.stderr.readline()  # it has begun
        time.sleep(draw.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in (tmp_path / "killed").glob("[!.]*"):
            assert (folder / "manifest.json").exists()
    prepare(killed)
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")


def test_two_processes_that_make_the_same_features_do_not_disturb_each_other(features_config, tmp_path):
    """Both end well; one works, the other waits and reads."""
    whole, both = features_config("whole"), features_config("both")
    processes = [start(both), start(both)]
    told = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    prepare(whole)
    assert contents(tmp_path / "whole") == contents(tmp_path / "both")


def test_packed_images_show_the_model_what_the_files_show(phantom, features_config, tmp_path):
    """At evaluation pixel for pixel; in training from the same square images, likewise."""
    from tiny import make_session

    config = features_config("images")
    files = make_session(config)
    packed = make_session(config, "data.packed=true")
    for one, other in (
        (files.train_set(), packed.train_set()),
        (files.evaluation_set(files.settings.data, "val"), packed.evaluation_set(packed.settings.data, "val")),
    ):
        for key in ((1, 0), (2, 3)):
            assert (one[key][1] == other[key][1]).all()


def test_each_stage_depends_on_its_own_inputs_alone(features_config, tmp_path):
    """Another memory size finds scorer and texts again; another seed fits both anew; moving the set changes nothing."""
    config = features_config("mine")

    def stages():
        return {p.name for p in (tmp_path / "mine").glob("*")}

    def new(*overrides):
        before = stages()
        prepare(config, *overrides)
        return sorted(name.split("-")[0] for name in stages() - before)

    assert new() == ["entities"] * 3 + ["images"] * 3 + ["memory"] * 3 + ["nearest", "texts"]
    assert new("classifier.memory_size=2") == ["memory"] * 3
    assert new("knowledge.min_mentions=4") == ["entities"] * 3 + ["memory"] * 3
    assert "texts" in new("seed=1")
    assert new("train.batch_size=3", "lre.width=8", "knowledge.chexbert=elsewhere.pth") == []


def test_a_store_of_another_producer_is_refused(features_config, tmp_path):
    """A folder under a name that is not its own."""
    config = features_config("mine")
    prepare(config)
    memory = sorted((tmp_path / "mine").glob("memory-*"))
    shutil.rmtree(memory[0])
    memory[1].rename(memory[0])
    assert main(["prepare", "features", "--config", str(config)]) == 2


def test_a_damaged_block_is_named(features_config, tmp_path, capsys):
    """What a power cut may leave under a final name: one message, and the work goes on when it is deleted."""
    config = features_config("mine")
    prepare(config, "--shard", "0/2")
    prepare(config, "--shard", "1/2")
    block = next((tmp_path / "mine").glob(".entities-*.parts/pixels/00001.npy"))
    content = block.read_bytes()
    block.write_bytes(content[:200])
    assert main(["prepare", "features", "--config", str(config)]) == 2
    assert f"{block} is damaged" in capsys.readouterr().err
    block.unlink()
    prepare(config)


def test_the_pictures_of_a_patient_are_one_report_in_the_memory_of_reports():
    """With CLIP, 3 views of one study would else be 3 of the 21 texts; fewer patients than texts is no crash."""
    texts = SimpleNamespace(report_ids=np.array([0, 0, 0, 1, 2, 2]), reports=np.eye(3, dtype=np.float16))
    vectors, rows = build._memory_space(np.zeros((1, 3)), None, texts, ["a", "a", "a", "a", "b", "c"])
    assert rows.tolist() == [0, 3, 4, 5] and vectors.argmax(1).tolist() == [0, 1, 2, 2]
