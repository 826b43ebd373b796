"""The fitted knowledge: what it learns, and that nothing leaks through it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from tiny import make_session

from revtaf.config import KnowledgeSettings
from revtaf.data.text import clean_report, sentences
from revtaf.features.stages import DistinctTexts
from revtaf.knowledge.entity_scorer import EntityNet, EntityScorer, FoldMaps, assign_folds, fit_entity_scorer
from revtaf.knowledge.mentions import Mentions
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.labels import ENTITIES, POSITIONS, UNSPECIFIED_POSITION
from revtaf.prompts.bank import PromptBank
from revtaf.prompts.local import PER_ENTITY, table_rows, triplet_codes, triplet_texts

CPU = torch.device("cpu")
EFFUSION = ENTITIES.index("effusion")
LEFT, RIGHT = POSITIONS.index("left_pleural"), POSITIONS.index("right_pleural")


@pytest.fixture(scope="module")
def bright_sides():
    """200 images; an "effusion" is a bright lower left or lower right corner, stated with its side."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 120, (200, 64, 64), dtype=np.uint8)
    presence = np.full((200, 75), -1, np.int8)
    position = np.full((200, 75), UNSPECIFIED_POSITION, np.uint8)
    side = rng.integers(0, 4, 200)  # 0 left, 1 right, else none
    images[side == 0, 40:, 40:] = 240
    images[side == 1, 40:, :24] = 240
    presence[side < 2, EFFUSION] = 1
    presence[side >= 2, EFFUSION] = 0
    position[side == 0, EFFUSION], position[side == 1, EFFUSION] = LEFT, RIGHT
    return images, Mentions(presence, position), [f"p{i // 2}" for i in range(200)], side


@pytest.fixture(scope="module")
def fitted(bright_sides, tmp_path_factory):
    images, mentions, patients, _ = bright_sides
    settings = KnowledgeSettings(folds=2, scorer_epochs=12, scorer_image_size=64, scorer_batch_size=16, min_mentions=10)
    return fit_entity_scorer(images, mentions, patients, settings, 0, CPU, tmp_path_factory.mktemp("folds"))


def test_the_scorer_finds_the_entity_and_its_side(bright_sides, fitted):
    """Out-of-fold scores separate present from absent, and the position is the stated side."""
    _, _, _, side = bright_sides
    _, scores = fitted
    p = scores.probability[:, EFFUSION]
    assert p[side < 2].mean() > p[side >= 2].mean() + 0.4
    found = scores.present[:, EFFUSION] & (side < 2)
    right_side = scores.position[:, EFFUSION] == np.where(side == 0, LEFT, RIGHT)
    assert found.sum() > 60 and right_side[found].mean() > 0.8


def test_another_backbone_scores_and_is_read_back(tmp_path):
    """`knowledge.scorer_backbone` takes the encoder's names, EfficientNet-Lite0 among them."""
    pytest.importorskip("timm")
    torch.manual_seed(0)
    flags = np.ones(75, bool)
    nets = [EntityNet("efficientnet_lite0").eval()]
    scorer = EntityScorer(nets, FoldMaps.identity(1), 64, np.zeros(75), flags, np.full(75, 0.5))
    scorer.save(tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    again = EntityScorer.load(tmp_path).score(images, CPU).probability
    assert np.array_equal(again, scorer.score(images, CPU).probability) and again.std(0).min() > 0


def test_an_entity_that_nobody_states_is_scored_by_its_frequency(fitted):
    """Nothing is learned from nothing: constant score, never present."""
    scorer, scores = fitted
    other = ENTITIES.index("fracture")
    assert not scorer.learned[other] and not scores.present[:, other].any()
    assert np.all(scores.probability[:, other] == 0)


def test_folds_that_score_higher_do_not_make_neighbours():
    """Scores of which each fold adds its own offset and stretch: nearest neighbours share the fold far more often than
    by chance; after matching no more than by chance, and the order within a fold and entity is what it was."""
    rng = np.random.default_rng(0)
    n, folds = 900, 3
    fold = rng.integers(0, folds, n)
    logit = rng.normal(size=(n, 12)) @ rng.normal(size=(12, 75)) / 3  # as many directions as findings
    logit = logit * rng.uniform(0.5, 1.5, (folds, 75))[fold] + rng.normal(size=(folds, 75))[fold]
    presence = (1 / (1 + np.exp(-logit))).astype(np.float32)
    maps = FoldMaps.fit(presence, fold)
    matched = np.empty_like(presence)
    for f in range(folds):
        matched[fold == f] = maps.apply(presence[fold == f], f)
        order = presence[fold == f].argsort(0)
        assert (np.diff(np.take_along_axis(matched[fold == f], order, 0), axis=0) >= 0).all()

    def shared(scores):
        near = cdist(scores, scores)
        np.fill_diagonal(near, np.inf)
        return (fold[near.argsort(1)[:, :5]] == fold[:, None]).mean()

    chance = ((np.bincount(fold) - 1)[fold] / (n - 1)).mean()
    assert shared(presence) > 0.9
    assert abs(shared(matched) - chance) < 0.03
    assert np.abs(np.quantile(matched, 0.9, axis=0) - np.quantile(presence, 0.9, axis=0)).max() < 0.02


def test_scores_beyond_those_of_the_fit_keep_their_order_and_stay_probabilities():
    """A new image may score lower or higher than any training image; equal folds are left as they are."""
    presence = np.tile(np.linspace(0.2, 0.6, 101, dtype=np.float32)[:, None], (2, 75))
    fold = np.repeat([0, 1], 101)
    presence[fold == 1] += 0.3
    maps = FoldMaps.fit(presence, fold)
    new = np.tile(np.array([0.0, 0.1, 0.2, 0.61, 0.95, 1.0], dtype=np.float32)[:, None], (1, 75))
    for f in (0, 1):
        mapped = maps.apply(new, f)
        assert (np.diff(mapped, axis=0) >= 0).all() and mapped.min() >= 0 and mapped.max() <= 1
    np.testing.assert_allclose(FoldMaps.identity(2).apply(new, 1), new, atol=1e-6)
    same = FoldMaps.fit(presence[fold == 0].repeat(2, 0), np.tile([0, 1], 101))
    np.testing.assert_allclose(same.apply(presence[:101], 1), presence[:101], atol=1e-3)


def test_training_scores_are_out_of_fold(bright_sides, fitted):
    """A training image's score comes from the network that never saw its patient, not from the mean."""
    images, _, patients, _ = bright_sides
    scorer, scores = fitted
    folds = assign_folds(patients, 2, 0)
    for fold in (0, 1):
        maps = FoldMaps(scorer.maps.own[[fold]], scorer.maps.pooled)
        alone = EntityScorer([scorer.nets[fold]], maps, 64, scorer.frequency, scorer.learned, scorer.threshold)
        again = alone.score(images[folds == fold], CPU).probability
        np.testing.assert_allclose(again, scores.probability[folds == fold], atol=1e-6)
    assert all(len({f for f, p in zip(folds, patients, strict=True) if p == q}) == 1 for q in set(patients))


def test_a_saved_scorer_scores_the_same(bright_sides, fitted, tmp_path):
    scorer, _ = fitted
    scorer.save(tmp_path)
    a, b = scorer.score(bright_sides[0][:8], CPU), EntityScorer.load(tmp_path).score(bright_sides[0][:8], CPU)
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_text_vectors_put_like_with_like():
    """A sentence is nearest to the triplet that says the same, also through plural and word order."""
    texts = ["small left pleural effusions", "the heart is enlarged", "no pneumothorax", "mild pulmonary edema"] * 3
    triplets = triplet_texts()
    encoder = TfidfEncoder(256).fit(texts, triplets)
    vectors = encoder.encode(texts[:4])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    wanted = encoder.encode(["effusion , left pleural , exist", "clavicle , rib , exist"])
    assert vectors[0] @ wanted[0] > vectors[0] @ wanted[1] + 0.2


def test_one_text_alone_has_a_vector():
    """A split of one report, or of one text again and again, spans nothing: it is still near to itself."""
    vectors = TfidfEncoder(1).fit(["no pneumothorax"] * 2).encode(["no pneumothorax", "zzz"])
    np.testing.assert_allclose(vectors @ vectors.T, [[1, 0], [0, 0]], atol=1e-6)


def test_a_triplet_code_is_its_text():
    """Table row = entity, position where present, "not exist" where absent: 3,900 texts, all distinct."""
    texts = triplet_texts()
    assert len(texts) == len(set(texts)) == 75 * PER_ENTITY == 3900
    present = np.zeros((1, 75), bool)
    present[0, EFFUSION] = True
    codes = triplet_codes(present, np.full((1, 75), LEFT))
    rows = table_rows(torch.from_numpy(codes), len(texts))[0].tolist()
    assert texts[rows[EFFUSION]] == "effusion , left pleural , exist"
    assert texts[rows[0]] == "normal , unspecified , not exist"


def test_no_memory_text_is_of_the_own_patient(session):
    """Of training images and of queries alike; and neighbours differ from image to image."""
    train = session.knowledge.train
    for row, memory in enumerate(train.memory):
        assert train.patients[row] not in {train.patients[m] for m in memory}
    assert len(np.unique(train.memory, axis=0)) > len(train) // 2
    validation = session.evaluation_set(session.settings.data, "val").features
    for patient, memory in zip(validation.patients, validation.memory, strict=True):
        assert patient not in {train.patients[m] for m in memory}


def test_reference_rows_are_the_reports_sentences(session):
    """The GRP of a report is its sentences in order; padding is zero and masked; no report is all masked."""
    bank, knowledge = session.bank, session.knowledge
    text, mask = bank.retrieved(torch.tensor([3, -1, 4]))
    expected = sentences(clean_report(knowledge.studies[3].report))
    assert int(mask[0].sum()) == len(expected) and not mask[1].any()
    every = DistinctTexts(knowledge.studies, session.settings.data).sentences
    encoder = TfidfEncoder(64).fit(every, triplet_texts(), session.settings.seed)
    found, encoded = text[0][mask[0]], encoder.encode(expected)
    scale = np.sqrt((encoded**2).mean(1, keepdims=True))
    np.testing.assert_allclose(found, encoded / scale, atol=8e-3)  # stored as float16, given at unit RMS
    assert (text[~mask] == 0).all()


def test_a_report_in_the_memory_is_the_mean_of_its_sentences(session):
    """The classifier's memory of a training row, at unit RMS, and zero for a report without a word."""
    texts, bank = session.knowledge.texts, session.bank
    rows = torch.tensor([[3, 5], [4, 3]])
    found = bank.memory(rows)
    for i in range(2):
        for j in range(2):
            report = texts.report_ids[rows[i, j]]
            own = texts.sentence_ids[texts.offsets[report] : texts.offsets[report + 1]]
            expected = texts.sentences[own].astype(np.float64).mean(0)
            scale = np.sqrt((expected**2).mean())
            np.testing.assert_allclose(found[i, j].cpu(), expected / scale, atol=2e-2)  # float16
    wordless = replace(texts, offsets=np.zeros_like(texts.offsets))
    assert not PromptBank(wordless, 20, CPU).memory(rows).any()


def test_features_are_found_again_and_follow_their_settings(tiny_config):
    """The same settings reuse the folder; another seed or memory size gets its own."""
    one, two = make_session(tiny_config), make_session(tiny_config)
    assert one.knowledge.key == two.knowledge.key
    other = make_session(tiny_config, "classifier.memory_size=2")
    assert other.knowledge.key != one.knowledge.key and other.knowledge.train.memory.shape[1] == 2
