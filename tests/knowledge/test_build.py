"""Making features: continued where it was interrupted, shared between processes, the same bytes however it was done."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny import TINY

from revtaf.cli import main
from revtaf.data.store import Features, load_arrays
from revtaf.errors import UserError
from revtaf.knowledge import blocks
from revtaf.knowledge.blocks import WHOLE, Blocks, PixelBlocks, Shard, Waiting


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
    assert not [p for p in (tmp_path / "shared").glob("*") if not p.name.startswith(".")]
    prepare(shared)
    assert contents(tmp_path / "whole") == contents(tmp_path / "shared")
    assert not list((tmp_path / "shared").glob(".*"))


def test_killing_the_builder_leaves_no_trace(features_config, tmp_path):
    """SIGKILL at random moments, then the same command to the end: the bytes of an undisturbed build."""
    whole, killed = features_config("whole"), features_config("killed")
    prepare(whole)
    code = (
        "import sys; from revtaf.knowledge import blocks; blocks.ROWS = 16; from revtaf.cli import main; "
        "sys.exit(main(['prepare', 'features', '--config', sys.argv[1], 'data.packed=true']))"
    )
    draw = random.Random(0)
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(killed)], env=environment, stderr=subprocess.PIPE)
        process.stderr.readline()  # it has begun
        time.sleep(draw.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in (tmp_path / "killed").glob("[!.]*"):
            assert (folder / "manifest.json").exists() or (folder / "train" / "manifest.json").exists()
    prepare(killed)
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")


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


def test_features_of_other_weights_are_other_features(features_config, tmp_path):
    """A store is found by what made it; one that was moved under another name is refused."""
    config = features_config("mine")
    prepare(config)
    (folder,) = [p for p in (tmp_path / "mine").iterdir() if (p / "train").exists()]
    prepare(config, "classifier.memory_size=2")
    other = next(p for p in (tmp_path / "mine").iterdir() if (p / "train").exists() and p != folder)
    producer = {"made": "otherwise"}
    with pytest.raises(UserError, match="made by"):
        load_arrays(other / "train", Features, producer)
