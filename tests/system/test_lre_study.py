"""revtaf study lre: pairs by seed, finds what it made before, and says first whether its control passes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from revtaf.config_file import load_settings
from revtaf.errors import UserError
from revtaf.features.build import split_features
from revtaf.system import lre_study
from revtaf.system.lre_study import CONTROL, REFERENCE, LREStudy, study, study_title, variants

OPTIONS = ["lre.batch_size=16", "lre.lr=0.01"]


@pytest.fixture(scope="module")
def small(tiny_config):
    """Few widths and updates, on the tiny set; the control is trained longer, to have a chance."""
    return load_settings(tiny_config, OPTIONS)


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lre_study, "WIDTHS", (8,))
        patch.setattr(lre_study, "CURVATURES", (0.01, 1.0))
        study(small, out, "val+test", seeds=3, steps=4)
    return out


def test_every_variant_differs_from_the_reference_in_one_thing(small):
    """Besides the control, which is given other inputs and otherwise is the reference."""
    chosen = {v.name: vars(v) for v in variants(small, 100)}
    for name, variant in chosen.items():
        apart = [k for k, v in variant.items() if k not in ("name", "label") and v != chosen[REFERENCE][k]]
        assert len(apart) == (name != REFERENCE), (name, apart)
    assert {v["metric"] for v in chosen.values()} == {"hyperbolic", "euclidean", "cosine"}
    assert [v["curvature"] for n, v in chosen.items() if n.startswith("c0") or n == "c1"] == [0.001, 0.1, 1.0]


def test_the_control_stands_first_and_what_was_made_is_found_again(made, small, monkeypatch):
    table = (made / "table.md").read_text()
    content = json.loads((made / "summary.json").read_text())
    assert list(content["rows"])[0] == CONTROL
    assert "Positive control, true statuses" in table.split("\n|")[0]
    before = {p.name: p.read_bytes() for p in (made / "rows").iterdir()}
    monkeypatch.setattr(lre_study, "WIDTHS", (8,))
    monkeypatch.setattr(lre_study, "CURVATURES", (0.01, 1.0))
    monkeypatch.setattr(LREStudy, "run", lambda self, variant: pytest.fail(f"{variant.name} was run again"))
    study(small, made, "val+test", seeds=3, steps=4)
    assert before == {p.name: p.read_bytes() for p in (made / "rows").iterdir()}
    with pytest.raises(UserError, match="control.json is a row of another study.*--out FOLDER"):
        study(small, made, "val+test", seeds=4, steps=4)
    assert before == {p.name: p.read_bytes() for p in (made / "rows").iterdir()}


def test_other_controls_and_corrected_statuses_are_another_study(small, tiny_config, monkeypatch):
    """Under the same ids and the same fitted features."""
    control = load_settings(tiny_config, [*OPTIONS, "controls.scores=report"])
    reference = variants(small, 4)[1]
    plain, given = (LREStudy(settings, "val", 2, 4) for settings in (small, control))
    assert plain.identity(reference) == LREStudy(small, "val", 2, 4).identity(reference) != given.identity(reference)

    def corrected(*arguments):
        features, *others = split_features(*arguments)
        statuses = features.statuses.copy()
        statuses[0, 0] ^= 1
        return (replace(features, statuses=statuses), *others)

    monkeypatch.setattr(lre_study, "split_features", corrected)
    assert LREStudy(small, "val", 2, 4).identity(reference) != plain.identity(reference)
    assert (study_title(small), study_title(control)) == (
        "LRE by itself",
        "LRE by itself, a control: controls.scores=report",
    )


def test_differences_are_those_of_the_means(made):
    content = json.loads((made / "summary.json").read_text())
    reference = content["rows"][REFERENCE]["measures"]
    for name, row in content["rows"].items():
        assert all(len(found["per seed"]) == 3 for found in row["measures"].values())
        if name not in (CONTROL, REFERENCE):
            for measure, found in row["measures"].items():
                apart = found["mean"] - reference[measure]["mean"]
                assert found["difference"]["mean"] == pytest.approx(apart, abs=1e-9)
    oracle = content["without learning"]["nearest by true statuses (oracle)"]
    assert oracle["nearest"] == 1
    assert all(oracle["distance@1"] <= row["measures"]["distance@1"]["mean"] for row in content["rows"].values())


def test_true_statuses_find_the_nearest_by_statuses_and_scores_of_noise_do_not(small):
    """The control's inputs before any training: the raw one-hot statuses are at the order of the status distance."""
    work = LREStudy(small, "val", 2, 30)
    control = next(v for v in variants(small, 0) if v.name == CONTROL)
    inputs, queries = work.inputs(control)
    assert inputs.shape == work.train.scores.shape
    assert inputs.sum(1).tolist() == (work.known > 0).sum(1).tolist()
    found = work.run(control)
    noise = np.random.default_rng(0).integers(len(work.train), size=(len(work.asked), 5))
    assert np.mean(found["nearest"]) > np.mean(work.judge([noise])["nearest"]) + 0.3


def test_one_seed_is_refused(small, tmp_path):
    with pytest.raises(UserError, match="two or more"):
        study(small, tmp_path, seeds=1)
