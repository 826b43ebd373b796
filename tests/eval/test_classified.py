"""The prompt against the text, P(positive) against the references."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from revtaf.eval import classified, kept, statistics
from revtaf.eval.evaluate import evaluate
from revtaf.eval.records import join, read_samples
from revtaf.labels import CATEGORIES, CHEXPERT_CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE, STATUSES
from revtaf.pages.report import write_report

EDEMA, FRACTURE = (CATEGORIES.index(name) for name in ("edema", "fracture"))


def drawn(samples: int = 200, seed: int = 0):
    """P(positive) and true statuses of 14 categories, some with too few positives."""
    random = np.random.default_rng(seed)
    truth = np.where(random.random((samples, 14)) < np.linspace(0.01, 0.3, 14), POSITIVE, NEGATIVE)
    return np.round(0.3 * (truth == POSITIVE) + random.random((samples, 14)), 2) / 2, truth


def test_repeated_is_what_the_text_says_of_what_the_prompt_states():
    """Worked by hand: two positives of which one is said, one negative that is; "no finding" has no part in it."""
    prompt, said = np.zeros((2, 18), np.uint8), np.zeros((2, 14), np.uint8)
    prompt[:, EDEMA], said[0, EDEMA], said[1, EDEMA] = POSITIVE, POSITIVE, NEGATIVE
    prompt[0, FRACTURE] = said[0, FRACTURE] = NEGATIVE
    prompt[1, NO_FINDING] = POSITIVE
    found = classified.metrics(prompt, None, None, said)
    assert {name: metric.corpus for name, metric in found.items()} == {"repeat_positive": 0.5, "repeat_negative": 1.0}
    each = classified.details(prompt, None, None, said)
    assert list(each) == list(CHEXPERT_CATEGORIES)
    assert each["edema"] == {
        "prompt_positive": 2, "repeat_positive": 0.5, "prompt_negative": 0, "repeat_negative": None,
    }  # fmt: skip
    assert each["no finding"]["repeat_positive"] == 0
    assert set(classified.metrics(prompt * (prompt == NEGATIVE), None, None, said)) == {"repeat_negative"}


def test_the_auc_is_scikit_learns_over_the_categories_with_ten_positives():
    positive, truth = drawn()
    there = truth == POSITIVE
    ranked = [k for k in range(14) if there[:, k].sum() >= 10]
    assert 3 < len(ranked) < 14
    expected = {CATEGORIES[k]: roc_auc_score(there[:, k], positive[:, k]) for k in ranked}
    each = classified.details(None, positive, truth, None)
    assert {category: row["auc"] for category, row in each.items() if row["auc"] is not None} == expected
    assert each["edema"]["references"] == there[:, EDEMA].sum()
    metric = classified.metrics(None, positive, truth, None)["auc"]
    assert metric.corpus == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert "auc" not in classified.metrics(None, positive[:5], truth[:5], None)


def test_the_interval_of_an_auc_is_that_of_resampled_aucs():
    """The first-order term stands for the whole: the spread over resamples is that of scikit-learn's values."""
    positive, truth = drawn()
    positive, truth = positive[:, 10:], truth[:, 10:]
    metric = classified.metrics(None, positive, truth, None)["auc"]
    random = np.random.default_rng(1)
    linear, exact = [], []
    for _ in range(300):
        rows = random.integers(0, len(truth), len(truth))
        linear.append(metric.value(metric.statistics[rows].sum(0)))
        columns = zip((truth[rows] == POSITIVE).T, positive[rows].T, strict=True)
        exact.append(np.mean([roc_auc_score(there, p) for there, p in columns]))
    assert np.std(linear) == pytest.approx(np.std(exact), rel=0.05)
    assert np.corrcoef(linear, exact)[0, 1] > 0.99
    interval = statistics.intervals({"auc": metric}, np.arange(len(truth)), 200)["auc"]
    assert interval.low < metric.corpus < interval.high


def write_records(path, order, says=lambda name: "positive", extra=()):
    """Records of one text each; the prompt says what the text does, but for the last."""
    texts = ["edema.", "no edema. fracture.", "fracture.", "edema. fracture."]
    lines = []
    for i in order:
        record = {"id": f"s{i}", "reference": texts[i % 4], "prediction": texts[i % 4] if i else "lungs clear."}
        record["statuses"] = dict.fromkeys(CATEGORIES, "blank") | {"edema": says("edema")}
        record["positive"] = dict.fromkeys(CATEGORIES, 0.25) | {"edema": i / 40}
        lines.append(json.dumps(record | dict(extra)))
    path.write_text("\n".join(lines))
    return path


def test_records_of_any_system_give_rates_and_auc(tmp_path, labeler):
    """In the row, in report.json, on the page, and kept for the grids to the last bit."""
    samples = read_samples(write_records(tmp_path / "p.jsonl", range(40)))
    assert samples.prompt.shape == samples.positive.shape == (40, 18)
    result = evaluate(samples, labeler, java="/none", resamples=50)
    assert set(result.model["classified"]) == {"repeat_positive", "auc"}
    assert result.model["classified"]["repeat_positive"] == 19 / 40  # half of the texts state edema, one is another
    write_report(tmp_path, result, {"name": "a run"})
    told = json.loads((tmp_path / "report.json").read_text())["classified"]
    assert told["each"]["edema"]["prompt_positive"] == 40 and told["auc is over"] == classified.RULE
    assert told["auc"] == result.model["classified"]["auc"] and "repeat_positive" in told
    page = (tmp_path / "report.html").read_text()
    assert "Prompt and classifier" in page and "of the stated positives are repeated" in page
    read = kept.read(tmp_path).rows["REVTAF"]
    for name in ("repeat_positive", "auc"):
        np.testing.assert_array_equal(read[name].statistics, result.kept.rows["REVTAF"][name].statistics)
        assert read[name].corpus == result.model["classified"][name]


def test_fields_that_mean_something_else_are_left_alone(tmp_path, labeler):
    """Another system's "statuses", or some records without them: no rates, no error, and no section on the page."""
    other = read_samples(write_records(tmp_path / "p.jsonl", range(4), extra={"statuses": "done", "positive": [1]}))
    assert other.prompt is None and other.positive is None
    unknown = read_samples(write_records(tmp_path / "q.jsonl", range(4), says=lambda name: "perhaps"))
    assert unknown.prompt is None and unknown.positive is not None
    result = evaluate(other, labeler, java="/none", resamples=0)
    assert result.classified == {} and "classified" not in result.details()
    write_report(tmp_path, result, {"name": "a run"})
    assert "Prompt and classifier" not in (tmp_path / "report.html").read_text()


def test_another_system_keeps_its_own_prompt(tmp_path, labeler):
    """Joined by id, in the order of the first file."""
    one = read_samples(write_records(tmp_path / "one.jsonl", range(12)))
    other = read_samples(write_records(tmp_path / "two.jsonl", range(11, -1, -1), says=lambda name: "negative"))
    _, joined = join(one, other)
    assert joined.ids == one.ids and (joined.prompt[:, EDEMA] == STATUSES.index("negative")).all()
    assert np.array_equal(joined.positive, one.positive)
    result = evaluate(one, labeler, others={"two": other}, java="/none", resamples=0)
    assert set(result.rows["two"]["classified"]) == {"repeat_negative"}
