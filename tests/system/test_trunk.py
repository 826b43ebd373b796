"""The staged schedule: a trunk that is fitted once, shared, and left alone; the rest trains on what it sees."""

import shutil

import numpy as np
import pytest
import torch
from tiny import make_session

from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.engine.folder import BEST
from revtaf.engine.optim import objective
from revtaf.errors import UserError
from revtaf.labels import BLANK
from revtaf.model import TOLD
from revtaf.pretrained.strict import read_tensors
from revtaf.system import trunk as trunks
from revtaf.system.trunk import WEIGHTS, held_out

STAGED = ("train.schedule=staged", "trunk.epochs=2", "trunk.batch_size=8", "trunk.dropout=0.2", "trunk.holdout=0.25")


@pytest.fixture(scope="module")
def staged(tiny_config):
    """A session whose trunk is fitted."""
    return make_session(tiny_config, *STAGED)


def trunk_folder(session):
    (folder,) = (f for f in session.settings.data.features.glob("trunk-*") if _has(f, session))
    return folder


def _has(folder, session) -> bool:
    tensors = read_tensors(folder / WEIGHTS, "trunk")
    own = session.model.encoder.state_dict()
    return all(torch.equal(value, tensors[f"encoder.{name}"]) for name, value in own.items())


def first_batch(session, size=6):
    dataset = session.train_set()
    return dataset.collate([dataset[(0, row)] for row in range(size)])


def test_training_leaves_the_trunk_as_it_was_fitted(tiny_config, staged, tmp_path):
    """After two epochs behind it, encoder and classifier of the model are those of the trunk, to the bit."""
    train(load_settings(tiny_config, [*STAGED, f"run={tmp_path}"]))
    model = read_tensors(tmp_path / BEST / "model.safetensors", "checkpoint")
    fitted = read_tensors(trunk_folder(staged) / WEIGHTS, "trunk")
    assert len(fitted) > 100
    moved = [name for name, value in fitted.items() if not torch.equal(value, model[name])]
    assert moved == []


def test_runs_that_differ_behind_the_trunk_share_it(tiny_config, staged, monkeypatch):
    """No row of a grid fits it again; another seed, or another classifier, is another trunk."""
    monkeypatch.setattr(trunks, "_fit", lambda *_: pytest.fail("fitted again"))
    for change in (
        "lre.enabled=false",
        "fvtaf.enabled=false",
        "decoder.layers=1",
        "loss.beta=0",
        "encoder.dropout=0.2",
    ):
        assert make_session(tiny_config, *STAGED, change).trunk.mark == staged.trunk.mark
    others = ("seed=1", "classifier.memory=false", "encoder.augment=strong", "trunk.lr=1e-3", "data.packed=true")
    for change in others:  # packed images are cropped otherwise where they are not square
        with pytest.raises(pytest.fail.Exception):
            make_session(tiny_config, *STAGED, change)


def test_the_trunk_of_packed_images_is_known_as_it_was(tiny_config, staged, monkeypatch):
    """By no mark of its own, so that trunks that were fitted before the other side had one are found."""
    asked = []

    def get(_, name, producer, *others):
        asked.append((name, producer))
        pytest.fail("asked")

    monkeypatch.setattr(trunks.FeatureStore, "get", get)
    for packed in (True, False):
        staged.settings = load_settings(tiny_config, [*STAGED, f"data.packed={packed}"])
        with pytest.raises(pytest.fail.Exception, match="asked"):
            trunks.fit_trunk(staged)
    staged.settings = load_settings(tiny_config, STAGED)
    (_, of_packed), (_, of_files) = asked
    assert of_files == of_packed | {"packed": False} and "packed" not in of_packed


def test_what_is_cached_is_what_the_encoder_sees(staged):
    """Losses of the cached patches are those of the images, up to half precision; the held-out rows are marked."""
    staged.model.eval()
    cached = first_batch(staged)
    plain = staged.dataset(staged.knowledge.studies, staged.knowledge.train, staged.settings.data)
    seen = plain.collate([plain[row] for row in range(6)])
    assert cached.images.ndim == 3 and seen.images.ndim == 4
    with torch.no_grad():
        a, b = (staged.losses(batch, 0) for batch in (cached, seen))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=2e-3, atol=2e-3)
    probabilities, statuses = staged.held_out
    assert len(probabilities) == len(statuses) == staged.trunk.held.sum() > 0


def test_the_trunk_never_trains_on_the_patients_that_are_kept(tiny_config, monkeypatch, tmp_path):
    """Their images are read for no step, and no patient is on both sides."""
    trained = []
    original = trunks._Rows.__getitem__

    def watch(self, key):
        trained.append(int(self.rows[key[1]]))
        return original(self, key)

    monkeypatch.setattr(trunks._Rows, "__getitem__", watch)
    session = make_session(tiny_config, *STAGED, "trunk.epochs=1", "seed=5")
    held, patients = session.trunk.held, np.array(session.knowledge.train.patients)
    assert held.any() and not held[trained].any()
    assert not set(patients[held]) & set(patients[~held])


def test_the_share_of_kept_patients(tiny_config):
    """About as asked, the same for the same seed; none for 0; too few patients are an error that names the setting."""
    patients = [f"p{i // 2}" for i in range(200)]
    held = held_out(patients, 0.1, 0)
    assert held.sum() == 20 and (held == held_out(patients, 0.1, 0)).all()
    assert (held != held_out(patients, 0.1, 1)).any()
    assert not held_out(patients, 0.0, 0).any()
    with pytest.raises(UserError, match=r"trunk\.holdout"):
        held_out(["a", "b"], 0.1, 0)


def test_the_latest_epoch_that_is_as_good_as_the_best_is_taken():
    """A hundredth of AUC is chance; what falls behind by more is overfitting."""
    epochs = [{"epoch": i + 1, "auc": auc} for i, auc in enumerate((0.70, 0.781, 0.776, 0.76))]
    assert trunks.chosen_epoch(epochs)["epoch"] == 3
    assert trunks.chosen_epoch(epochs[:2])["epoch"] == 2
    assert trunks.chosen_epoch([{"epoch": 1, "auc": 0.0}, {"epoch": 2, "auc": 0.0}])["epoch"] == 2  # nobody was kept


def test_an_interrupted_fit_goes_on_to_the_same_trunk(tiny_config, staged, monkeypatch, tmp_path):
    """Stopped after its first epoch and called again, it ends with the same bytes."""
    moved = tmp_path / "features"
    shutil.copytree(staged.settings.data.features, moved)
    for folder in moved.glob("trunk-*"):
        shutil.rmtree(folder)
    epochs = []
    real = trunks.train_loader

    def once(*arguments):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    arguments = (tiny_config, *STAGED, f"data.features={moved}")
    images = f"data.images={staged.settings.data.images}"
    monkeypatch.setattr(trunks, "train_loader", once)
    with pytest.raises(KeyboardInterrupt):
        make_session(*arguments, images)
    again = make_session(*arguments, images)
    assert len(epochs) == 3  # the first epoch was not trained again
    for name, value in staged.model.encoder.state_dict().items():
        assert torch.equal(value, again.model.encoder.state_dict()[name]), name


def test_only_what_lies_behind_the_trunk_is_trained(staged):
    """No gradient reaches it, it is no part of the objective, and it stays in evaluation mode."""
    staged.model.train()
    assert not staged.model.encoder.training and not staged.model.classifier.training and staged.model.decoder.training
    assert "disease" not in staged.weights
    objective(staged.losses(first_batch(staged), 0), staged.weights).backward()
    reached = {n.split(".")[0] for n, p in staged.model.named_parameters() if p.grad is not None and p.grad.any()}
    staged.model.zero_grad()
    assert reached == {"hnn", "fvtaf", "decoder"}


def test_a_prompt_may_say_nothing_or_what_the_image_says(tiny_config, staged):
    """`decoder.prompt_dropout` and `train.statuses`, drawn from seed and step alone."""
    model, batch = staged.model.eval(), first_batch(staged)
    prompts = staged.prompts(batch, torch.arange(6, 12))

    def lm(statuses, told=None):
        told = None if told is None else torch.full((6,), TOLD.index(told))
        return model(batch.images, batch.scores, statuses, batch.tokens, prompts, told).lm

    with torch.no_grad():
        predicted = model.diagnose(batch.images, prompts.memory)[1].argmax(1)
        torch.testing.assert_close(lm(batch.statuses, "nothing"), lm(torch.full_like(batch.statuses, BLANK)))
        torch.testing.assert_close(lm(batch.statuses, "predicted"), lm(predicted))
        torch.testing.assert_close(lm(batch.statuses, "truth"), lm(batch.statuses))
    plain = staged._told(1000, 0)
    assert plain is None
    staged.settings = load_settings(tiny_config, [*STAGED, "decoder.prompt_dropout=0.3", "train.statuses=mixed"])
    told = staged._told(1000, 7)
    shares = [(told == TOLD.index(name)).float().mean().item() for name in TOLD]
    assert shares == pytest.approx([0.35, 0.35, 0.3], abs=0.05)
    assert torch.equal(told, staged._told(1000, 7)) and not torch.equal(told, staged._told(1000, 8))


def test_a_set_whose_features_do_not_fit_in_memory_is_refused(staged, monkeypatch):
    """With the figure and the other schedule."""
    monkeypatch.setattr(trunks.os, "sysconf", lambda _: 1000)
    with pytest.raises(UserError, match=r"train\.schedule=joint"):
        trunks._check_size(10**6, staged.model, 64)
