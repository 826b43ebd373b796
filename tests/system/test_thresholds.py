"""Calibrated statuses: thresholds that raise micro F1, fitted on data that is not reported."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from revtaf.config_file import parse_settings
from revtaf.errors import UserError
from revtaf.labels import CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN
from revtaf.system import evaluate
from revtaf.system.folder import THRESHOLDS, write_parts
from revtaf.system.thresholds import NEVER, fit_thresholds, read_thresholds, write_thresholds
from revtaf.system.write import predict

SUPPORT = CATEGORIES.index("support devices")
FINDINGS = [k for k in range(14) if k != NO_FINDING]


def drawn(samples=600, seed=0, categories=18):
    """Probabilities that rank well, and whose scale differs by category: rare ones never reach a half."""
    random = np.random.default_rng(seed)
    truth = random.random((samples, categories)) < np.linspace(0.03, 0.3, categories)
    signal = truth * 2.0 + random.normal(size=truth.shape)
    positive = expit(signal * np.linspace(0.5, 1.5, categories) - np.linspace(6, 2, categories))
    rest = random.dirichlet((1, 1, 1), truth.shape).transpose(2, 0, 1) * (1 - positive)  # (3, S, K)
    return np.stack([rest[0], positive, rest[1], rest[2]], axis=1), np.where(truth, POSITIVE, NEGATIVE)


def micro_f1(statuses, truth):
    found, there = statuses[:, FINDINGS] == POSITIVE, truth[:, FINDINGS] == POSITIVE
    return 2 * (found & there).sum() / (found.sum() + there.sum())


def test_thresholds_find_what_the_argmax_never_says():
    """On other samples too; and no other number on the calibrated probabilities scores higher where it was chosen."""
    probabilities, truth = drawn()
    fitted = fit_thresholds(probabilities, truth)
    decided = fitted.decide(probabilities)
    assert micro_f1(decided, truth) == pytest.approx(fitted.micro_f1_positive)
    calibrated = expit(fitted.slopes * logit(probabilities[:, POSITIVE]) + fitted.intercepts)
    for number in np.linspace(0.01, 0.99, 99):
        assert micro_f1(np.where(calibrated > number, POSITIVE, 0), truth) <= fitted.micro_f1_positive + 1e-12
    assert np.abs(calibrated.mean(0) - (truth == POSITIVE).mean(0)).max() < 0.01  # calibrated: the mean is the share
    new, true = drawn(seed=1)
    assert micro_f1(fitted.decide(new), true) > micro_f1(new.argmax(1), true) + 0.2


def test_a_category_with_few_positives_keeps_its_share():
    """Four positives are not enough for a slope; nor are probabilities that fall where the finding is there."""
    probabilities, truth = drawn()
    truth[:, 0] = NEGATIVE
    truth[:4, 0] = POSITIVE
    probabilities[:, :, 5] = 0.3
    probabilities[:, POSITIVE, 5] = np.where(truth[:, 5] == POSITIVE, 0.05, 0.1)
    fitted = fit_thresholds(probabilities, truth)
    assert fitted.slopes[0] == fitted.slopes[5] == 0 and fitted.values[0] == fitted.values[5] == NEVER
    assert expit(fitted.intercepts[0]) == pytest.approx(4 / 600) and fitted.positives[0] == 4
    nothing = fit_thresholds(probabilities, np.full_like(truth, NEGATIVE))
    assert not (nothing.decide(probabilities)[:, FINDINGS] == POSITIVE).any()


def test_below_the_threshold_the_likeliest_of_the_others_is_said():
    """And "no finding" follows from the rest as in the labels: support devices aside, an uncertain one counts."""
    fitted = fit_thresholds(*drawn())
    probabilities = np.zeros((4, 4, 18))
    probabilities[:, NEGATIVE], probabilities[:, POSITIVE] = 1.0, -1.0
    probabilities[1, :, 3] = 0.1, 1.0, 0.2, 0.3
    probabilities[2, :, 3] = 0.1, -1.0, 0.2, 0.3
    probabilities[3, POSITIVE, SUPPORT] = 1.0
    statuses = fitted.decide(probabilities)
    assert statuses[:, 3].tolist() == [NEGATIVE, POSITIVE, UNCERTAIN, NEGATIVE]
    assert statuses[:, NO_FINDING].tolist() == [POSITIVE, 0, 0, POSITIVE]
    with pytest.raises(ValueError, match=r"expected \(S, 4, 18\)"):
        fitted.decide(probabilities[:, :, :14])
    assert fit_thresholds(*drawn(categories=14)).decide(probabilities[:, :, :14]).shape == (4, 14)


def test_thresholds_come_back_from_their_file_to_the_last_bit(tmp_path):
    """As plain JSON, named by category."""
    fitted = fit_thresholds(*drawn(), source="holdout")
    write_thresholds(tmp_path / THRESHOLDS, fitted)
    read = read_thresholds(tmp_path / THRESHOLDS)
    for name, value in vars(fitted).items():
        np.testing.assert_array_equal(getattr(read, name), value, err_msg=name)
    assert read_thresholds(tmp_path / "none.json") is None
    (tmp_path / THRESHOLDS).write_text('{"categories": {"edema": 1}}')
    with pytest.raises(UserError, match="is damaged"):
        read_thresholds(tmp_path / THRESHOLDS)


@pytest.mark.parametrize("reading", [{"statuses": "calibrated"}, {"candidates": 2}])
def test_they_are_never_fitted_on_the_reported_split(reading):
    """Refused before anything runs, where it is the split that chose the checkpoint; held-out patients are fine."""
    content = {"generation": reading, "data": {"test_split": "val"}}
    (name,) = reading
    with pytest.raises(
        UserError, match=rf"generation.{name}.* the split that its thresholds were fitted on.*calibration=holdout"
    ):
        parse_settings(content, "here")
    kept = content | {"classifier": {"calibration": "holdout"}}
    parse_settings(kept | {"train": {"schedule": "staged"}}, "here")
    for nobody in ({"train": {"schedule": "joint"}}, {"train": {"schedule": "staged"}, "trunk": {"holdout": 0}}):
        with pytest.raises(UserError, match=r"kept apart.*train.schedule=staged"):
            parse_settings(kept | nobody, "here")
    assert parse_settings(content | {"data": {}}, "here").variant in ("-calibrated", "-among2")
    earlier = parse_settings({"generation": {"statuses": "predicted"}}, "here")
    assert earlier.generation.statuses == "argmax" and earlier.variant == ""


def test_a_model_writes_with_the_thresholds_of_its_folder(session, tmp_path, monkeypatch):
    """Fitted at the end of training on the validation split, or those of the held-out patients; without any, the
    message says what to do."""
    calibrated = session.settings.generation.model_copy(
        update={"statuses": "calibrated", "beams": 1, "min_new_tokens": 1, "max_new_tokens": 2}
    )
    rows = list(range(4))
    with pytest.raises(UserError, match=r"no thresholds.json: delete the model.json"):
        predict(session, session.validation_set, calibrated, rows=rows)
    assert statuses_of_validation(session, calibrated, monkeypatch) == "argmax"
    write_parts(session, tmp_path)
    fitted = read_thresholds(tmp_path / THRESHOLDS)
    assert fitted.source == "validation" and fitted.samples == len(session.validation_set)
    monkeypatch.setattr(session, "kept_thresholds", fitted)
    found = predict(session, session.validation_set, calibrated, rows=rows)
    decided = fitted.decide(np.stack([p.probabilities.numpy() for p in found]))
    assert [p.statuses for p in found] == decided.tolist()
    probabilities, truth = (torch.from_numpy(array) for array in drawn())
    monkeypatch.setattr(session, "kept_thresholds", None)
    monkeypatch.setattr(session, "held_out", (probabilities, truth))
    assert session.thresholds is None  # held out for another purpose
    chosen = session.settings.classifier.model_copy(update={"calibration": "holdout"})
    monkeypatch.setattr(session, "settings", session.settings.model_copy(update={"classifier": chosen}))
    assert session.thresholds.source == "holdout" and session.thresholds.samples == 600
    assert statuses_of_validation(session, calibrated, monkeypatch) == "calibrated"


def statuses_of_validation(session, generation, monkeypatch) -> str:
    """With which statuses the validation after an epoch would write."""
    asked = []

    def written(session, dataset, generation, **options):
        asked.append(generation.statuses)
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(evaluate, "predict", written)
        patch.setattr(session, "settings", session.settings.model_copy(update={"generation": generation}))
        evaluate.validate(session, session.validation_set, write=True)
    return asked[0]
