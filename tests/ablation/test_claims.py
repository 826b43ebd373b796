"""Claims: silenced by a control that failed or was not run; not shown, with the effect that would have been seen."""

import json
from functools import partial

import numpy as np
import pytest
from test_grid_controls import summary
from tiny import ROOT

from revtaf.ablation import collect as collect_module
from revtaf.ablation.claims import CLAIMS, claims_markdown, judge_kept, known_controls
from revtaf.ablation.claims_medfuse import MEDFUSE_CLAIMS
from revtaf.ablation.claims_trrg import TRRG_CLAIMS
from revtaf.ablation.collect import compare_rows, make_row
from revtaf.ablation.detectable import detectable, of_pair
from revtaf.ablation.grid import load_grid
from revtaf.eval import statistics
from revtaf.eval.metric import mean_metric


def put(folder, **contents):
    for name, content in contents.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "summary.json").write_text(json.dumps(content))


def claim_summary(verdict: str = "better", seeds=(0, 1, 2)) -> dict:
    """table3 with fvtaf against the baseline: +.1 in every seed, but for .01 of spread."""
    step = {"fvtaf": 0.01, "baseline": 0.0}
    values = {name: {str(s): {"example_f1": base + step[name] * s} for s in seeds} for name, base in BASES}
    found = {"difference": 0.11, "low": 0.05, "high": 0.17, "p_holm": 0.001, "p_seeds": 0.01, "agree": len(seeds)}
    found["verdict"] = verdict
    pair = {"a": "fvtaf", "b": "baseline", "seeds": list(seeds), "metrics": {"example_f1": found}}
    rows = {name: {"label": name, "per_seed": per} for name, per in values.items()}
    return {"views": ["scores"], "rows": rows, "pairs": [pair], "trained on": "phantom"}


BASES = (("fvtaf", 0.5), ("baseline", 0.4))


def line_of(tables, data="phantom") -> str:
    return next(x for x in claims_markdown(tables, [data]).splitlines() if x.startswith("| FVTAF helps |"))


def test_a_control_that_failed_or_was_not_run_silences_its_claims(tmp_path):
    """However clear the difference: first neither control is there, then one, then one fails, then both pass."""
    place = tmp_path / "phantom"
    put(place, table3=claim_summary())
    assert line_of(tmp_path).endswith("| no verdict: controls GRP, LRP not run |")
    put(place, one=summary(0.3, 0.2))
    assert line_of(tmp_path).endswith("| no verdict: control LRP not run |")
    put(place, two=summary(0.1, 0.05, "LRP"))
    assert line_of(tmp_path).endswith("| no verdict: control LRP failed |")
    put(place, two=summary(0.3, 0.2, "LRP"))
    assert line_of(tmp_path).endswith("| **supported** |") and "| GRP, LRP |" in line_of(tmp_path)
    put(place, three=summary(0.1, 0.05, "GRP"))  # passed in one grid, failed in another
    assert line_of(tmp_path).endswith("| no verdict: control GRP failed |")


def test_models_tested_elsewhere_bring_their_controls(tmp_path):
    """Other patients, the same models: the controls of the set that they were trained on, unless there are own ones."""
    put(tmp_path / "phantom", one=summary(0.3, 0.2), two=summary(0.3, 0.2, "LRP"))
    put(tmp_path / "phantom_other", table3=claim_summary())
    assert line_of(tmp_path, "phantom_other").endswith("| **supported** |")
    put(tmp_path / "phantom_other", one=summary(0.1, 0.05) | {"trained on": "phantom"})
    assert known_controls(tmp_path, "phantom_other") == {"GRP": "failed", "LRP": "passed"}


def test_every_claim_names_controls_that_a_grid_has():
    """A claim without a control, or with one that no shipped grid runs, could never be published honestly."""
    there = {c.name for path in (ROOT / "configs/ablations").glob("*.yaml") for c in load_grid(path).controls}
    assert {"GRP", "LRP", "LRE", "FCC", "Memory", "Prompts", "Image"} <= there
    for claim in (*CLAIMS, *MEDFUSE_CLAIMS, *TRRG_CLAIMS):
        assert claim.controls and set(claim.controls) <= there, claim


def test_not_shown_says_what_would_have_been_seen(tmp_path):
    """With several seeds an effect, with one that none would."""
    controlled = {"one": summary(0.3, 0.2), "two": summary(0.3, 0.2, "LRP")}
    put(tmp_path / "phantom", table3=claim_summary("not shown"), **controlled)
    pair, rows = claim_summary()["pairs"][0], claim_summary()["rows"]
    effect = f"{of_pair(pair, rows, 'example_f1'):.3f}".removeprefix("0")
    assert line_of(tmp_path).endswith(f"| not shown (would have seen CE-F1 {effect} or more) |")
    put(tmp_path / "phantom", table3=claim_summary("not shown", seeds=(0,)))
    assert line_of(tmp_path).endswith("| not shown (one seed: no effect would have been seen) |")


@pytest.mark.parametrize(("patients", "trainings", "seeds"), [(0.03, 0.01, 3), (0.01, 0.03, 3), (0.02, 0.03, 5)])
def test_the_detectable_effect_is_found_in_four_of_five_grids(monkeypatch, patients, trainings, seeds):
    """Grids of that true difference, other patients and trainings each, judged by the real rule: some 80 % find it."""
    monkeypatch.setattr(collect_module, "RESAMPLES", 400)
    few = partial(statistics.compare, resamples=20)  # of the interval, which the verdict does not look at
    monkeypatch.setattr(statistics, "compare", few)
    effect, n, repeats = detectable(patients, trainings, seeds, metrics=1), 40, 250
    rng, found = np.random.default_rng(1), 0
    for _ in range(repeats):
        common = effect + patients * np.sqrt(n) * rng.standard_normal(n)
        parts = {s: {"x": mean_metric("x", common + trainings * rng.standard_normal())} for s in range(seeds)}
        none = {s: {"x": mean_metric("x", np.zeros(n))} for s in range(seeds)}
        rows = {"a": make_row("a", parts, ["x"]), "b": make_row("b", none, ["x"])}
        (pair,) = compare_rows(_Pairs(), rows, np.arange(n), ["x"])
        found += pair.verdict("x") == "better"
    assert found / repeats == pytest.approx(0.8, abs=0.075)  # three standard errors


def test_the_detectable_effect_at_its_limits():
    """More noise, more metrics or fewer seeds need more; without spread over seeds it is the z-test's; units do not
    matter; one seed sees nothing; no noise hides nothing."""
    base = detectable(0.02, 0.02, 3, 1)
    assert detectable(0.03, 0.02, 3, 1) > base and detectable(0.02, 0.03, 3, 1) > base
    assert detectable(0.02, 0.02, 3, 11) > base > detectable(0.02, 0.02, 5, 1)
    assert detectable(0.2, 0.2, 3, 1) == pytest.approx(10 * base)
    assert detectable(1, 0, 3, 1) == pytest.approx(1.960 + 0.842, abs=0.05)
    assert detectable(0.02, 0.02, 1, 1) is None and detectable(0, 0, 3, 1) == 0


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ([(-0.01, 0.02), (-0.012, 0.0)], "**supported**"),
        ([(-0.01, 0.02), (-0.03, 0.02)], "not shown (a loss of .030 is not ruled out)"),
        ([(-0.01, 0.02), (-0.05, -0.02)], "**contradicted**"),
        ([(-0.01, 0.02)], "not shown (a loss of .010 is not ruled out)"),  # of two metrics one is missing
        ([], "not shown"),
    ],
)
def test_that_nothing_is_lost_is_shown_by_intervals_alone(bounds, verdict):
    """No difference found is no equivalence: every lower end has to lie above the loss that is allowed."""
    assert judge_kept(bounds, [0.013] * len(bounds), 2) == verdict


def test_half_of_the_numbers_is_judged_over_patients_and_over_seeds(tmp_path):
    """Narrow over patients and wide over seeds is not shown; both narrow is supported; nothing where its control is
    not run; one seed shows nothing."""

    def summary_of(each, low=-0.005):
        found = {"difference": float(np.mean(each)), "low": low, "high": 0.006, "verdict": "not shown"}
        seeds = list(range(len(each)))
        names = ("i2t_recall_at_10", "t2i_recall_at_10")
        values = {"half": [0.6 + d for d in each], "full": [0.6] * len(each)}
        rows = {
            row: {
                "label": row,
                "mean": dict.fromkeys(names, float(np.mean(of))),
                "per_seed": {str(s): dict.fromkeys(names, of[s]) for s in seeds},
            }
            for row, of in values.items()
        }
        pair = {"a": "half", "b": "full", "seeds": seeds, "metrics": dict.fromkeys(names, found)}
        return {"views": ["scores"], "rows": rows, "pairs": [pair], "trained on": "phantom"}

    def last(summary):
        put(tmp_path / "medfuse_phantom", medfuse_figure3=summary)
        lines = claims_markdown(tmp_path, ["medfuse_phantom"], MEDFUSE_CLAIMS).splitlines()
        return next(x for x in lines if "half of the numbers" in x)

    assert "no verdict: controls By heart i→r, By heart r→i, Few numbers not run |" in last(summary_of([0, 0.001]))
    names = ("By heart i→r", "By heart r→i", "Few numbers")
    put(tmp_path / "medfuse_phantom", **{f"c{i}": summary(0.3, 0.2, name) for i, name in enumerate(names)})
    line = last(summary_of([0.0, 0.001, -0.001]))
    assert line.endswith("| **supported** |") and "allowed -.012" in line and "over seeds [-.002, +.002]" in line
    assert "not shown (a loss of .0" in last(summary_of([0.02, 0.0, -0.02]))
    assert "not shown (a loss of .020" in last(summary_of([0.0, 0.001, -0.001], low=-0.02))
    assert last(summary_of([0.0])).endswith("| not shown (one seed: nothing is) |")


class _Pairs:
    """What `compare_rows` needs of a grid."""

    compare, reference = (), "b"
