"""MedFuse-CLIP as REVTAF's retriever: what it finds, what is refused, what an opened model needs of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import make_session, training_batch

import revtaf
from revtaf.check import inspect
from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.data.annotations import clean_reports, load_annotations
from revtaf.engine.folder import find_model
from revtaf.engine.runtime import make_accelerator
from revtaf.errors import UserError
from revtaf.features.build import image_features, split_features
from revtaf.knowledge.components import Components
from revtaf.system.analyses import judge_retrieval
from revtaf.system.lre_study import variants
from revtaf.system.write import query_retrieved

CPU = torch.device("cpu")
CLOSE = 2e-3  # of products of vectors that are kept in float16


@pytest.fixture(scope="module")
def dual(medfuse_config, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("dual")
    settings = load_settings(medfuse_config, [f"run={folder / 'run'}", "train.epochs=1"])
    train(settings)
    return settings.run


@pytest.fixture(scope="module")
def study(phantom):
    """What an independent reader of the run knows: studies of each split, and similarity of images and reports."""
    return load_annotations(phantom / "annotation.json")


@pytest.fixture(scope="module")
def both(tiny_config, dual):
    """Its memory and its embeddings."""
    return make_session(tiny_config, f"knowledge.medfuse={dual}", "knowledge.memory=medfuse", "lre.features=medfuse")


def images(model, studies, phantom):
    return model.embed_images([phantom / "images" / s.image_path[0] for s in studies])


def test_the_memory_is_the_nearest_reports_of_other_patients(both, dual, study, phantom):
    """Against brute force by `embed_images` and `embed_texts` of the opened run, at training and at test; a report that
    several images of a patient share counts once."""
    model, known = revtaf.load(dual, device="cpu"), study["train"]
    cleaned = clean_reports(known, both.settings.data.max_words)
    texts = model.embed_texts([known[cleaned.index(text)].report for text in cleaned])
    pairs = [(s.patient, text) for s, text in zip(known, cleaned, strict=True)]
    once = [row for row, pair in enumerate(pairs) if pairs.index(pair) == row]
    for asked, features in (
        (known, both.knowledge.train),
        (study["test"], split_features(both.knowledge, both.settings, both.settings.data, "test", CPU)[0]),
    ):
        similarity = images(model, asked, phantom) @ texts.T
        for i, (query, rows) in enumerate(zip(asked, features.memory.tolist(), strict=True)):
            others = [row for row in once if known[row].patient != query.patient]
            assert len(set(rows)) == len(rows) and set(rows) <= set(others)
            best = np.sort(similarity[i, others])[::-1][: len(rows)]
            np.testing.assert_allclose(similarity[i, rows], best, atol=CLOSE)
    assert both.knowledge.texts.memory_width == texts.shape[1] == 16


def test_the_retriever_is_given_the_embedding_and_lre_learns_on_it(both, dual, study, phantom):
    batch, retrieved = training_batch(both)
    expected = images(revtaf.load(dual, device="cpu"), study["train"][:6], phantom)
    np.testing.assert_allclose(batch.retriever_inputs.numpy(), expected, atol=1e-3)
    assert batch.scores.shape[1] == 75  # still there, for masses of texts and for pages
    assert both.plain_model.hnn.in_features == 16
    both.plain_model.zero_grad()
    both.losses(batch, 0)["rank"].backward()
    assert both.plain_model.hnn.layers[0].weight.grad.abs().sum() > 0
    judged = judge_retrieval(both)[0]["rows"]
    assert {"entity scores, cosine", "MedFuse-CLIP, cosine", "learned (hyperbolic), hyperbolic"} <= judged.keys()


def test_without_lre_the_nearest_image_is_retrieved(tiny_config, dual, study, phantom):
    session = make_session(tiny_config, f"knowledge.medfuse={dual}", "lre.features=medfuse", "lre.enabled=false")
    dataset = session.tested_set
    batch = dataset.collate([dataset[row] for row in range(len(dataset))])
    found = query_retrieved(session, dataset, "learned").of(batch.rows, lambda: batch.retriever_inputs)[1]
    model, known = revtaf.load(dual, device="cpu"), study["train"]
    similarity = images(model, study["test"], phantom) @ images(model, known, phantom).T
    for i, query in enumerate(study["test"]):
        others = [row for row, s in enumerate(known) if s.patient != query.patient]
        assert int(found[i]) in others and similarity[i, found[i]] >= similarity[i, others].max() - CLOSE


def test_another_retriever_has_the_same_trunk_and_another_memory_another(tiny_config, dual):
    """What finds the retrieved report is nothing that encoder and classifier learn from; what finds the memory is."""
    staged = (f"knowledge.medfuse={dual}", "train.schedule=staged", "trunk.epochs=1", "trunk.holdout=0")
    plain = make_session(tiny_config, *staged)
    asked = make_session(tiny_config, *staged, "lre.features=medfuse")
    assert asked.knowledge.fingerprint != plain.knowledge.fingerprint and asked.trunk.mark == plain.trunk.mark
    remembers = make_session(tiny_config, *staged, "knowledge.memory=medfuse")
    both = make_session(tiny_config, *staged, "knowledge.memory=medfuse", "lre.features=medfuse")
    assert both.trunk.mark == remembers.trunk.mark != plain.trunk.mark


def test_features_and_reports_name_the_model(both, tiny_config, dual):
    """Another run gives another key; without one nothing of it is asked."""
    plain = make_session(tiny_config)
    assert plain.knowledge.key != both.knowledge.key and plain.knowledge.train.image_vectors is None
    assert "MedFuse-CLIP" not in plain.notes and "knowledge.medfuse" not in plain.external()
    assert (
        "split: official" in both.notes["MedFuse-CLIP"] and both.notes["classifier memory"] == "nearest by MedFuse-CLIP"
    )
    assert both.external()["knowledge.medfuse"] == [find_model(dual) / "model.json"]


def test_a_trained_model_opens_and_asks_for_it_by_name(tiny_config, dual, study, phantom, tmp_path):
    """Opened, it embeds new images as before; where the run is gone, or another, the message names the key."""
    own = [f"knowledge.medfuse={dual}", "lre.features=medfuse", "train.epochs=1", f"run={tmp_path / 'run'}"]
    train(load_settings(tiny_config, own))
    path = phantom / "images" / study["test"][0].image_path[0]
    opened = revtaf.load(tmp_path / "run", device="cpu")
    features, _, _ = image_features(opened.knowledge, opened.settings, [path], CPU)
    dataset = opened.tested_set
    np.testing.assert_array_equal(features.image_vectors[0], dataset.features.image_vectors[0])
    assert opened.report(path).report
    gone = revtaf.load(tmp_path / "run", [f"knowledge.medfuse={tmp_path / 'gone'}"], device="cpu")
    with pytest.raises(UserError, match=r"knowledge\.medfuse: .*gone is no model"):
        gone.report(path)
    other = shutil.copytree(dual, tmp_path / "other")
    manifest = find_model(other) / "model.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"revtaf": "9"}))
    with pytest.raises(UserError, match=r"knowledge\.medfuse: .* is another file"):
        revtaf.load(tmp_path / "run", [f"knowledge.medfuse={other}"], device="cpu")


def test_opening_it_leaves_the_run_that_asks_as_it_is(tiny_config, dual):
    """accelerate has one state for a process: the steps of an update stay the run's."""
    settings = load_settings(tiny_config, ["train.accumulation=3", f"knowledge.medfuse={dual}"])
    accelerator = make_accelerator(settings)
    assert Components(settings.knowledge, CPU).study_encoder.system is not None
    assert accelerator.gradient_accumulation_steps == 3
    make_accelerator(load_settings(tiny_config))


def test_what_is_no_finished_run_of_it_is_refused(tiny_config, dual, tmp_path):
    def encoder(folder: Path):
        settings = load_settings(tiny_config, [f"knowledge.medfuse={folder}"])
        return Components(settings.knowledge, CPU).study_encoder

    with pytest.raises(UserError, match=r"knowledge\.medfuse: .*nowhere is no model.*knowledge\.medfuse=FOLDER"):
        encoder(tmp_path / "nowhere")
    other = shutil.copytree(dual, tmp_path / "other")
    manifest = find_model(other) / "model.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"system": "revtaf"}))
    with pytest.raises(UserError, match="a model of system 'revtaf', not 'medfuse'"):
        encoder(other)
    for folder, said in ((tmp_path / "nowhere", "MedFuse-CLIP not found"), (other, "a model of system 'revtaf'")):
        settings = load_settings(tiny_config, [f"knowledge.medfuse={folder}", "lre.features=medfuse"])
        (line,) = [line for line in inspect(settings, training=True) if line.level == "error"]
        assert said in str(line) and "medfuse_phantom.yaml" in str(line)


def test_a_model_that_saw_the_held_out_studies_is_refused(tiny_config, dual, study, phantom, tmp_path):
    """Split by patient anew, some of our test patients were in its training; another set's were not."""
    settings = load_settings(tiny_config)
    other = shutil.copytree(dual, tmp_path / "other")
    path = find_model(other) / "config.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"pairs": {"split": "patients", "split_seed": 0}}))
    knowledge = settings.knowledge.model_copy(update={"medfuse": other})
    expert = Components(knowledge, CPU).study_encoder
    with pytest.raises(UserError, match=r"was trained on the patients of \d+ of \d+ .*pairs\.split=official"):
        expert.check_unseen(settings.data, study)
    copy = tmp_path / "annotation.json"
    copy.write_text((phantom / "annotation.json").read_text() + "\n")
    renewed = settings.data.model_copy(update={"annotation": copy})
    with pytest.raises(UserError, match="another annotation of phantom"):
        expert.check_unseen(renewed, study)
    expert.check_unseen(renewed.model_copy(update={"name": "another"}), study)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lre.score_space=logit"], "lre.score_space=logit is of probabilities"),
        (["knowledge.imported=elsewhere"], "knowledge.imported has none"),
        (["controls.scores=report"], "controls.scores=report replaces entity scores"),
    ],
)
def test_settings_that_embeddings_contradict(tiny_config, overrides, message):
    with pytest.raises(UserError, match=message):
        load_settings(tiny_config, ["lre.features=medfuse", *overrides])


def test_the_study_of_lre_leaves_out_what_is_of_scores(tiny_config):
    names = [{v.name for v in variants(load_settings(tiny_config, own), 1)} for own in ([], ["lre.features=medfuse"])]
    assert names[0] - names[1] == {"logit", "positions"} and names[1] < names[0]
