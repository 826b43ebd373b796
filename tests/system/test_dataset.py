"""Samples of a split: which transform an image passes, and on what its random draws depend."""

import pickle

import torch
from tiny import make_session


def test_the_configured_augmentation_is_drawn_by_seed_epoch_and_row(tiny_config):
    """strong differs from paper, each is the same again whatever the global random state, and evaluation has none."""
    dataset = make_session(tiny_config).train_set()
    seen = {}
    for kind in ("paper", "strong"):
        dataset.settings = dataset.settings.model_copy(update={"augment": kind})
        seen[kind] = dataset[(1, 3)][1]
        torch.manual_seed(7)
        assert torch.equal(seen[kind], dataset[(1, 3)][1])
        assert not torch.equal(seen[kind], dataset[(2, 3)][1])
    assert not torch.equal(seen["paper"], seen["strong"])
    dataset.train = False
    assert torch.equal(dataset[(1, 3)][1], dataset[(2, 3)][1])


def test_samples_travel_to_processes_that_are_not_forked(session):
    """macOS, Windows and Python 3.14 start workers anew: data sets are pickled for them."""
    train = session.train_set()
    again = pickle.loads(pickle.dumps(train))
    assert again.ids == train.ids and pickle.loads(pickle.dumps(train.collate))
