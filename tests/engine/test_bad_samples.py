"""Training goes on where an image cannot be read: noted once, counted, stopped beyond a share, the same resumed."""

import json
import shutil

import numpy as np
import pytest
import torch

from revtaf.commands.test import run_record
from revtaf.commands.train import train
from revtaf.config import RunSettings
from revtaf.config_file import load_settings
from revtaf.data import unreadable
from revtaf.data.annotations import Study
from revtaf.data.images import read_image
from revtaf.data.unreadable import FILE as LIST
from revtaf.data.unreadable import readable
from revtaf.engine.bad_samples import FILE
from revtaf.engine.batches import EpochBatches, eval_loader, train_loader
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import BadImage, UserError


class Images:
    """A training set of image files; the sample is its row."""

    lengths = None

    def __init__(self, folder, count=12):
        from PIL import Image

        self.paths = [folder / f"{row}.png" for row in range(count)]
        self.ids = [path.stem for path in self.paths]
        for path in self.paths:
            Image.fromarray(np.full((20, 20), 90, np.uint8)).save(path)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, key):
        row = key[1] if isinstance(key, tuple) else key
        read_image(self.paths[row])
        return row

    def collate(self, samples):
        return torch.tensor(samples)


def settings(tmp_path, **data):
    return RunSettings(run=tmp_path, data=data, train={"workers": 0})


def epoch(dataset, chosen, batch_size=4):
    return [batch.tolist() for batch in train_loader(dataset, EpochBatches(len(dataset), batch_size, seed=1), chosen)]


def test_the_next_sample_takes_the_place_of_an_unreadable_one(tmp_path):
    """Batches stay as large as they were and everything else in them is as before; two neighbours may both fail."""
    images, chosen = Images(tmp_path), settings(tmp_path, max_bad_share=0.2)
    whole = epoch(images, chosen)
    images.paths[5].write_bytes(b"no image")
    images.paths[6].unlink()
    assert epoch(images, chosen) == [[7 if row in (5, 6) else row for row in batch] for batch in whole]


def test_each_file_is_noted_once_by_whichever_process_meets_it(tmp_path):
    """Two epochs and two workers, one line for each file, with the reason."""
    images, chosen = Images(tmp_path), settings(tmp_path, max_bad_share=0.2)
    images.paths[5].write_bytes(b"no image")
    images.paths[6].unlink()
    epoch(images, chosen)
    chosen.train.workers = 2
    epoch(images, chosen)
    lines = read_jsonl(tmp_path / FILE)
    assert sorted(line["image"] for line in lines) == [str(images.paths[5]), str(images.paths[6])]
    assert all(line["image"] in line["error"] for line in lines)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("change", [{"on_error": "stop"}, {"max_bad_share": 0.01}])
def test_it_stops_where_it_has_to_with_one_message(tmp_path, workers, change):
    """When told to, and beyond the share; also out of a loader's process, without a traceback in the message."""
    images, chosen = Images(tmp_path), settings(tmp_path, **change)
    images.paths[5].write_bytes(b"no image")
    chosen.train.workers = workers
    with pytest.raises(UserError, match="5.png") as stopped:
        epoch(images, chosen)
    assert "Traceback" not in str(stopped.value)
    assert ("data.max_bad_share=0.01" in str(stopped.value)) == ("max_bad_share" in change)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_written_for_is_never_replaced(tmp_path, workers):
    """A figure of other samples than the split's would be no figure of the split."""
    images = Images(tmp_path)
    images.paths[5].write_bytes(b"no image")
    with pytest.raises(BadImage, match="5.png") as stopped:
        list(eval_loader(images, list(range(12)), 4, workers))
    assert "Traceback" not in str(stopped.value)


def test_a_resumed_epoch_sees_the_same_samples(tmp_path):
    """Which sample takes the place depends on the files alone."""
    images, chosen = Images(tmp_path), settings(tmp_path, max_bad_share=0.2)
    images.paths[5].write_bytes(b"no image")
    whole = epoch(images, chosen)
    batches = EpochBatches(len(images), 4, seed=1)
    batches.move_to(0, 1)
    assert [batch.tolist() for batch in train_loader(images, batches, chosen)] == whole[1:]


def test_an_image_of_another_split_is_no_training_image(tmp_path, monkeypatch):
    """Where a validation image fails, no training image is read to find others, and no list is written."""
    images = Images(tmp_path)
    for path in images.paths[4:6]:
        path.write_bytes(b"no image")
    read = []
    monkeypatch.setattr(unreadable, "read_image", lambda path: (read.append(path), read_image(path)))
    studies = [Study(path.stem, (path.name,), "clear") for path in images.paths[:5]]
    data = settings(tmp_path, images=tmp_path, features=tmp_path / "features", max_bad_share=0.5).data
    for row, listed in ((5, False), (4, True)):
        with pytest.raises(BadImage) as failed:
            read_image(images.paths[row])
        assert unreadable.list_unreadable(studies, data, failed.value) == listed
        assert len(read) == 5 * listed and (tmp_path / "features" / LIST).exists() == listed
    assert list(json.loads((tmp_path / "features" / LIST).read_text())) == ["4.png"]


@pytest.fixture(scope="module")
def damaged(phantom, tiny_config, tmp_path_factory):
    """The tiny set with two damaged training images, and its settings for a run of one epoch."""
    home = tmp_path_factory.mktemp("damaged")
    shutil.copytree(phantom, home / "data", ignore=shutil.ignore_patterns("features"))
    studies = json.loads((home / "data" / "annotation.json").read_text())["train"]
    for study in studies[3:5]:
        (home / "data" / "images" / study["image_path"][0]).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    names = {"annotation": "annotation.json", "images": "images", "features": "features"}
    places = [f"data.{key}={home / 'data' / name}" for key, name in names.items()]
    options = [*places, f"run={home / 'run'}", "train.epochs=1", "data.max_bad_share=0.1"]
    return load_settings(tiny_config, options), [study["id"] for study in studies]


def test_training_leaves_out_what_no_feature_can_be_made_of(damaged):
    """The whole road: features, training, the model; the run and its report say how many are missing."""
    settings, ids = damaged
    train(settings)
    assert len(json.loads((settings.data.features / LIST).read_text())) == 2
    lines = read_jsonl(settings.run / FILE)
    assert len(lines) == 2 and all("not a readable image" in line["error"] for line in lines)
    kept = (settings.run / "checkpoints" / "best" / "reports.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == [*ids[:3], *ids[5:]]

    class Tested:
        notes = {}

    Tested.settings = settings
    assert run_record(Tested, {})["bad samples"].startswith("2 training images could not be read")


def test_a_training_set_that_lacks_too_much_is_refused(damaged):
    """The share counts for what was left out before the first epoch, too; and `stop` reads no list."""
    settings, _ = damaged
    from revtaf.data.annotations import load_annotations

    studies = load_annotations(settings.data.annotation)["train"]
    strict = settings.data.model_copy(update={"max_bad_share": 0.01})
    with pytest.raises(UserError, match="data.max_bad_share"):
        readable(studies, strict)
    assert readable(studies, settings.data.model_copy(update={"on_error": "stop"})) == studies
