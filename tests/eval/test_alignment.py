"""Scores of attention maps against boxes: by hand, and what must not change them."""

import json
import warnings

import numpy as np
import pytest

from revtaf.eval import alignment
from revtaf.eval.alignment import ENTITIES_OF, FEWEST, FINDINGS, SCORES, Tally, coverage, metrics, score_map
from revtaf.eval.statistics import compare, intervals
from revtaf.labels import CATEGORIES, ENTITIES

GRID = 7


def patch_box(row: int, column: int, grid: int = GRID) -> tuple[float, ...]:
    return column / grid, row / grid, (column + 1) / grid, (row + 1) / grid


def a_map(seed: int = 0, grid: int = GRID) -> np.ndarray:
    return np.random.default_rng(seed).random(grid**2)


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    """(count, 4): left, top, right, bottom with sides of .05 to 1."""
    corners = np.random.default_rng(seed).random((20 * count, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    return boxes[(boxes[:, 2:] - boxes[:, :2] > 0.05).all(1)][:count]


# -- cover -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [2, 7, 12])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_box_of_one_patch_covers_that_patch_alone(grid, row, column):
    """Patches are numbered row by row from the top left; boxes are (left, top, right, bottom)."""
    cover = coverage([patch_box(row, column, grid)], grid)
    assert cover[row * grid + column] == 1 and cover.sum() == 1


def test_cover_is_the_share_of_each_patch():
    """Against the exact areas, which sampling meets within 1/16 on each axis; half a patch is met exactly."""
    edges = np.arange(GRID + 1) / GRID
    for left, top, right, bottom in some_boxes(50):
        across = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, None) * GRID
        down = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, None) * GRID
        exact = np.outer(down, across).ravel()
        assert np.abs(coverage([(left, top, right, bottom)], GRID) - exact).max() <= 2 / 16
    assert coverage([(0, 0, 0.5 / GRID, 1 / GRID)], GRID)[0] == 0.5


def test_overlapping_boxes_cover_their_union():
    """Inclusion and exclusion; a box given twice counts once."""
    a, b, common = (0.1, 0.2, 0.6, 0.7), (0.4, 0.1, 0.9, 0.5), (0.4, 0.2, 0.6, 0.5)
    one, other, both = (coverage([box], GRID) for box in (a, b, common))
    np.testing.assert_allclose(coverage([a, b], GRID), one + other - both, atol=1e-12)
    assert np.array_equal(coverage([a, a], GRID), one)


def test_no_box_and_an_empty_box_cover_nothing():
    assert not coverage([], GRID).any()
    assert not coverage([(0.3, 0.3, 0.3, 0.8)], GRID).any()


# -- scores of a map ---------------------------------------------------------------------------------------------------


def test_a_map_that_is_the_cover_is_perfect():
    cover = coverage([(1 / GRID, 2 / GRID, 4 / GRID, 5 / GRID)], GRID)
    assert score_map(cover, cover) == pytest.approx((1, 1, 1))


def test_a_map_that_looks_elsewhere_scores_nothing():
    cover = coverage([patch_box(1, 1), patch_box(1, 2)], GRID)
    assert score_map(1 - cover, cover) == pytest.approx((0, 0, 0))


def test_a_uniform_map_gets_what_chance_gets():
    """Mass: the box's share of the image. Pointing: the share of patches that are hits. Iou: nothing is marked."""
    for box in some_boxes(20, seed=1):
        cover = coverage([box], GRID)
        hits = [score_map(np.eye(GRID**2)[i], cover)[0] for i in range(GRID**2)]
        assert score_map(np.full(GRID**2, 0.3), cover) == pytest.approx((np.mean(hits), 0, cover.mean()))


def test_scores_by_hand():
    """2 x 2 patches, box over the left column, map 4 2 / 1 1: scaled 1 1/3 / 0 0, so iou = 1 / (1 + 1/3 + 1)."""
    cover = coverage([(0, 0, 0.5, 1)], 2)
    assert cover.tolist() == [1, 0, 1, 0]
    assert score_map(np.array([4.0, 2, 1, 1]), cover) == pytest.approx((1, 1 / (1 + 1 / 3 + 1), 5 / 8))


def test_equal_largest_weights_share_the_hit():
    cover = coverage([patch_box(0, 0)], GRID)
    weights = np.zeros(GRID**2)
    weights[[0, 1, 2, 3]] = 1
    assert score_map(weights, cover)[0] == pytest.approx(1 / 4)


def test_a_small_box_is_hit_by_its_own_patch_only():
    """A box of a hundredth of a patch's area covers less than half of it, and still can be found."""
    left, top, *_ = patch_box(3, 4)
    cover = coverage([(left + 0.05, top + 0.05, left + 0.064, top + 0.064)], GRID)
    assert 0 < cover.max() < alignment.HIT
    hits = [i for i in range(GRID**2) if score_map(np.eye(GRID**2)[i], cover)[0] == 1]
    assert hits == [3 * GRID + 4]


def test_every_box_can_be_pointed_at():
    """A box of one patch's size whose centre is the corner of four patches is found by the map that is its cover."""
    middle = 2 / GRID
    cover = coverage([(middle - 0.06, middle - 0.06, middle + 0.06, middle + 0.06)], GRID)
    assert score_map(cover, cover)[0] == 1


def test_moving_the_largest_weight_out_of_the_box_is_a_miss():
    cover = coverage([patch_box(2, 2), patch_box(2, 3)], GRID)
    weights = a_map()
    inside, outside = 2 * GRID + 3, 6 * GRID
    weights[inside], weights[outside] = 2, 0.5
    before = score_map(weights, cover)
    weights[[inside, outside]] = weights[[outside, inside]]
    after = score_map(weights, cover)
    assert (before[0], after[0]) == (1, 0)
    assert after[1] < before[1] and after[2] < before[2]


@pytest.mark.parametrize("scale", [1e-9, 3.0, 1e9])
def test_the_scale_of_a_map_is_without_effect(scale):
    cover = coverage([(0.1, 0.2, 0.5, 0.6)], GRID)
    assert score_map(scale * a_map(), cover) == pytest.approx(score_map(a_map(), cover), rel=1e-9)


def test_scores_stay_between_0_and_1():
    for seed, box in enumerate(some_boxes(50, seed=2)):
        assert all(0 <= score <= 1 for score in score_map(a_map(seed) ** 8, coverage([box], GRID)))


def test_a_map_of_zeros_is_a_uniform_map():
    cover = coverage([(0.1, 0.2, 0.5, 0.6)], GRID)
    assert score_map(np.zeros(GRID**2), cover) == score_map(np.ones(GRID**2), cover)


def test_an_empty_cover_is_refused():
    with pytest.raises(ValueError, match="no patch is covered"):
        score_map(a_map(), np.zeros(GRID**2))


def test_agreement_is_symmetric_and_scales_both_maps():
    a, b = a_map(0), a_map(1)
    assert alignment.agreement(a, b) == pytest.approx(alignment.agreement(b, a))
    assert alignment.agreement(a, b) == pytest.approx(alignment.agreement(5 * a + 2, 0.1 * b + 1))
    assert alignment.agreement(a, 3 * a) == pytest.approx(1)
    assert 0 < alignment.agreement(a, b) < 1


# -- entities ----------------------------------------------------------------------------------------------------------


def test_every_finding_has_known_entities():
    """All categories but "no finding", each with entities of the vocabulary, none named twice."""
    assert set(FINDINGS) == set(CATEGORIES) - {"no finding"}
    for names in ENTITIES_OF.values():
        assert names and set(names) <= set(ENTITIES) and len(set(names)) == len(names)


def test_the_entity_of_a_finding_follows_the_scores():
    """The most probable of the finding's own entities, however probable the others are."""
    for name in ENTITIES_OF["edema"]:
        scores = np.full(len(ENTITIES), 0.9)
        scores[[ENTITIES.index(other) for other in ENTITIES_OF["edema"]]] = 0.1
        scores[ENTITIES.index(name)] = 0.2
        assert alignment.entity_of("edema", scores) == ENTITIES.index(name)


# -- metrics -----------------------------------------------------------------------------------------------------------


def filled(seed: int, samples: int = 30) -> tuple[Tally, list[tuple[int, str, np.ndarray]]]:
    """Random maps, the same for every seed but for their scores: many of two findings, one too few of a third."""
    rng, scores = np.random.default_rng(0), np.random.default_rng(seed + 1)
    findings = ["edema"] * 40 + ["cardiomegaly"] * FEWEST + ["fracture"] * (FEWEST - 1)
    maps = [(int(rng.integers(samples)), finding, scores.random(3)) for finding in findings]
    tally = Tally(samples)
    for one in maps:
        tally.add(*one)
    return tally, maps


def through_json(tally: Tally) -> dict:
    return json.loads(json.dumps(tally.content()))


def test_metrics_are_means_over_maps_and_over_findings():
    """By hand; the mean over findings leaves out the one with too few maps, the mean over maps does not."""
    tally, maps = filled(0)
    found = metrics(through_json(tally), "local ")
    for i, name in enumerate(SCORES):
        own = {f: np.mean([s[i] for _, finding, s in maps if finding == f]) for f in ("edema", "cardiomegaly")}
        assert found[f"local {name}"].corpus == pytest.approx(np.mean([s[i] for *_, s in maps]), abs=1e-6)
        assert found[f"local macro_{name}"].corpus == pytest.approx(np.mean(list(own.values())), abs=1e-6)
        assert found[f"local {name}/edema"].corpus == pytest.approx(own["edema"], abs=1e-6)
        assert f"local {name}/fracture" not in found
    assert len(found) == 3 * (1 + 1 + 2)


def test_each_sample_is_scored_by_its_own_maps():
    """`per_sample`: the mean over a sample's maps; nan where it has none."""
    tally, maps = filled(0)
    found = metrics(tally.content())["mass"].per_sample
    for sample in range(len(found)):
        own = [s[2] for row, _, s in maps if row == sample]
        assert found[sample] == pytest.approx(np.mean(own) if own else np.nan, abs=1e-6, nan_ok=True)
    assert np.isnan(found).any()


def test_a_file_changes_the_scores_by_its_rounding_only():
    tally, _ = filled(0)
    before, after = metrics(tally.content()), metrics(through_json(tally))
    assert before.keys() == after.keys()
    assert all(before[name].corpus == after[name].corpus for name in before)
    assert set(tally.content()) == {"counts", *SCORES}


def test_resamples_without_a_finding_leave_it_out():
    """All maps of a finding in one of few patients: its own score is undefined in some resamples, and they are
    counted; the mean over findings goes on with the others."""
    tally = Tally(4)
    for sample in range(4):
        for i in range(FEWEST):
            tally.add(sample, "edema", (sample % 2, 0.1 * sample, 0.5))
            if sample == 0:
                tally.add(sample, "fracture", (1, 0.2 * i, 0.9))
    found = intervals(metrics(through_json(tally)), np.arange(4), resamples=500)
    assert "undefined in" in found["iou/fracture"].note and found["iou/fracture"].value == pytest.approx(0.4)
    assert found["macro_iou"].note == "" and found["iou"].note == ""
    for name in ("macro_iou", "iou", "iou/edema"):
        assert found[name].low < found[name].value < found[name].high


def test_two_models_are_compared_map_by_map():
    """Differences by hand and in both directions; a model differs from itself by nothing."""
    (one, maps), (other, others) = filled(0), filled(1)
    a, b = metrics(through_json(one)), metrics(through_json(other))
    codes = np.arange(30) // 2
    found, back = (compare(x, y, codes, 200, resamples=200) for x, y in ((a, b), (b, a)))
    difference = np.mean([s[1] for *_, s in maps]) - np.mean([s[1] for *_, s in others])
    assert found["iou"].difference == pytest.approx(difference, abs=1e-5)
    for name, row in found.items():
        assert row.difference == pytest.approx(-back[name].difference, abs=1e-12) and 0 < row.p <= row.p_holm <= 1
    same = compare(a, a, codes, 200, resamples=200)
    assert all(row.difference == 0 and row.p == 1 for row in same.values())


def test_a_resample_without_any_finding_is_no_warning():
    """One patient of four has all the maps: some resamples hold none, which the note says."""
    tally = Tally(4)
    for i in range(FEWEST):
        tally.add(0, "edema", (1, 0.2 * i, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = intervals(metrics(tally.content()), np.arange(4), resamples=100)
    assert "undefined in" in found["macro_iou"].note and found["macro_iou"].value == pytest.approx(0.4)


def test_the_hits_of_several_boxes_are_those_of_each():
    """Three small boxes far apart: the patch of any of them is a hit, though none holds half of them all."""
    boxes = [(r / GRID + 0.05, 0.05, r / GRID + 0.09, 0.09) for r in (0, 2, 4)]
    hit = alignment.hits([coverage([box], GRID) for box in boxes])
    assert np.flatnonzero(hit).tolist() == [0, 2, 4]
    weights = np.zeros(GRID**2)
    weights[2] = 1
    assert score_map(weights, coverage(boxes, GRID), hit)[0] == 1
