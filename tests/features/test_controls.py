"""Positive controls: the sample's own report in place of what the experts see, in training and test, always named."""

import json

import numpy as np
import pytest
import torch
from tiny import make_session

import revtaf
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.data.annotations import clean_reports
from revtaf.errors import UserError
from revtaf.features.controls import status_scores
from revtaf.knowledge.mentions import PRESENT, entity_mentions
from revtaf.labels import POSITIONS
from revtaf.lre.labels import nearest_by_status, status_distance
from revtaf.prompts.local import PER_ENTITY

ALL = ("controls.local=report", "controls.memory=report", "controls.scores=report")


@pytest.fixture(scope="module")
def leaky(tiny_config):
    """A session whose three paths read the answer."""
    return make_session(tiny_config, *ALL)


def splits(session):
    data = session.settings.data
    yield session.train_set()
    yield session.evaluation_set(data, "val")
    yield session.tested_set


def test_local_prompts_say_what_the_report_says(leaky):
    """Of every split: an entity exists where the report asserts it, at the place that it names."""
    for dataset in splits(leaky):
        mentions = entity_mentions(clean_reports(dataset.studies, 100))
        codes = np.asarray(dataset.features.codes)
        np.testing.assert_array_equal(codes != PER_ENTITY - 1, mentions.presence == PRESENT)
        assert (codes[mentions.presence == PRESENT] < len(POSITIONS)).all()
        assert (mentions.presence == PRESENT).any()


def test_memory_rows_are_the_nearest_by_true_statuses_of_other_patients(leaky):
    """No report of the database is nearer than those that are taken."""
    known = leaky.knowledge.train
    everyone = torch.from_numpy(np.array(known.statuses))
    for dataset in splits(leaky):
        features = dataset.features
        asked, k = torch.from_numpy(np.array(features.statuses)), features.memory.shape[1]
        least = nearest_by_status(asked, everyone, k, features.patients, known.patients, seed=9)[0]
        found = np.take_along_axis(status_distance(asked, everyone).numpy(), np.asarray(features.memory), 1)
        np.testing.assert_array_equal(found, least.numpy())
        owners = np.array(known.patients)[features.memory]
        assert (owners != np.array(features.patients)[:, None]).all()


@pytest.mark.parametrize("categories", [14, 18])
def test_scores_are_the_statuses_and_their_distances(categories):
    """Squared distances of the scores are Eq. 6's, and the width is the retriever's."""
    statuses = np.random.default_rng(0).integers(0, 4, (9, categories)).astype(np.uint8)
    scores = status_scores(statuses, 75)
    assert scores.shape == (9, 75) and scores.dtype == np.float16
    squared = torch.cdist(torch.from_numpy(scores).float(), torch.from_numpy(scores).float()) ** 2
    expected = status_distance(*[torch.from_numpy(statuses)] * 2)
    torch.testing.assert_close(squared, expected.float(), atol=1e-4, rtol=0)


def test_nothing_of_it_is_stored_and_the_plain_features_are_unchanged(leaky, session):
    """A model without controls finds the features that it had; its memory is searched in the experts' scores."""
    assert leaky.knowledge.fingerprint == session.knowledge.fingerprint
    for name in ("scores", "codes", "memory"):
        plain = np.asarray(getattr(session.knowledge.train, name))
        np.testing.assert_array_equal(getattr(leaky.knowledge.seen, name), plain)
        assert (getattr(leaky.knowledge.train, name) != plain).any()
    assert session.knowledge.plain is None


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["controls.local=report", "fvtaf.enabled=false"], "needs fvtaf.enabled=true"),
        (["controls.memory=report", "classifier.memory=false"], "needs classifier.memory=true"),
        (["controls.scores=report", "lre.enabled=false"], "needs lre.enabled=true"),
        (["controls.scores=report", "knowledge.imported=elsewhere"], "knowledge.imported has others'"),
        (["controls.local=answer"], "controls.local"),
    ],
)
def test_a_control_that_reaches_nothing_is_refused(tiny_config, overrides, says):
    with pytest.raises(UserError, match=says):
        load_settings(tiny_config, overrides)


def test_a_control_says_so_everywhere_and_writes_for_nobody(tiny_config, tmp_path):
    """Name of the results, row, page, notes; opened again it reads the answer as in training, and refuses images."""
    own = ["controls.scores=report", "eval.resamples=0", "eval.samples=0", f"run={tmp_path / 'run'}"]
    short = ["train.epochs=1", "generation.beams=1", "generation.max_new_tokens=6"]
    settings = load_settings(tiny_config, [*own, *short])
    train(settings)
    folder = run_test(settings)
    assert folder.name == "phantom-test-control"
    report = json.loads((folder / "report.json").read_text())
    assert next(iter(report["metrics"])).endswith("(control: reads the answer)")
    assert "controls.scores=report" in report["run"]["control"] and any("is a control" in n for n in report["notes"])
    assert "control: reads the answer" in (folder / "report.html").read_text()
    assert "control: reads the answer" in (folder / "table.md").read_text()
    model = revtaf.load(tmp_path / "run", device="cpu")
    knowledge = model.knowledge
    np.testing.assert_array_equal(knowledge.train.scores, status_scores(knowledge.train.statuses, 75))
    assert (np.asarray(knowledge.seen.scores) != knowledge.train.scores).any()
    with pytest.raises(UserError, match="this model is a control: it reads the answer"):
        model.report([])
    with pytest.raises(UserError, match="another architecture"):
        revtaf.load(tmp_path / "run", ["controls.scores=image"])


@pytest.mark.parametrize("override", ["generation.statuses=oracle", "generation.retrieved=oracle"])
def test_a_test_that_reads_the_answer_is_named_and_its_model_is_not(tiny_config, override):
    """True statuses at test alone: the page says so, the model may write."""
    settings = load_settings(tiny_config, [override])
    assert settings.reads_answer == (override,) and settings.trained_on_answers == ()
