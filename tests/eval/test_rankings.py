"""A system that ranks and writes nothing: its values, intervals and tests, and what is kept of them."""

import json

import numpy as np
import pytest

from revtaf.eval import kept, statistics
from revtaf.eval.metric import Metric, mean_metric
from revtaf.eval.rankings import Rankings, evaluate_rankings, median_ranks, rank_metrics

RANKS = np.array([1.0, 2.0, 4.0, 1.0, 20.0, np.inf])


def rankings(n: int = 60, **changes) -> Rankings:
    """A good retriever and a random order, of patients with two queries each."""
    rng = np.random.default_rng(0)
    ranks = {"ours": rng.integers(1, 6, n), "random order": rng.permutation(n) + 1}
    rows = {row: rank_metrics(values) for row, values in ranks.items()}
    for row, metric in median_ranks(ranks).items():
        rows[row]["median_rank"] = metric
    values = {"ids": [f"q{i}" for i in range(n)], "rows": rows, "ranked": f"image-to-report,{n}"}
    return Rankings(**values | {"subjects": [f"p{i // 2}" for i in range(n)]} | changes)


def test_values_by_hand():
    found = {name: metric.corpus for name, metric in rank_metrics(RANKS, (1, 5)).items()}
    assert found == {
        "mrr": pytest.approx((1 + 0.5 + 0.25 + 1 + 0.05) / 6),
        "recall_at_1": pytest.approx(2 / 6),
        "recall_at_5": pytest.approx(4 / 6),
    }
    medians = median_ranks({"a": RANKS, "b": np.full(6, 3.0)})
    assert (medians["a"].corpus, medians["b"].corpus) == (3.0, 3.0)
    assert not medians["a"].higher_is_better
    with pytest.raises(ValueError, match="counted from 1"):
        rank_metrics(np.array([0.0, 1.0]))


def test_intervals_are_over_patients_and_tests_over_all_metrics():
    """The same numbers as `statistics` gives for the patients' codes; p by Holm over the metrics of the pair."""
    given = rankings()
    found = evaluate_rankings(given, resamples=200, seed=4)
    codes = np.repeat(np.arange(30), 2)
    codes = statistics.clusters(given.ids, None, given.subjects)[0]
    ours, other = given.rows.values()
    assert repr(found.intervals["ours"]) == repr(statistics.intervals(ours, codes, 200, 4))
    compared = statistics.compare(ours, other, codes, 200, 4, 200)
    assert repr(found.comparisons) == repr({"random order": compared})
    assert found.comparisons["random order"]["mrr"].difference > 0
    assert found.comparisons["random order"]["median_rank"].difference < 0
    assert "clusters:30patients" in found.signature and found.signature.startswith("rankings|image-to-report,60|n:60")
    assert found.columns["recall at 1"] == ("ranking", "recall_at_1") and "average" not in found.model
    assert any("Lower is better: median rank" in note for note in found.notes)
    assert np.array_equal(found.per_sample["recall_at_1"], (1 / found.per_sample["mrr"] <= 1).astype(float))


def test_the_first_row_is_the_system_whatever_it_is_called():
    found = evaluate_rankings(rankings(headings={"mrr": "MRR"}), "CLIP", resamples=0)
    assert list(found.rows) == ["CLIP", "random order"] == list(found.kept.rows)
    assert next(iter(found.columns)) == "MRR" and found.intervals == found.comparisons == {}
    assert "clusters" not in found.signature


def test_a_row_may_have_metrics_of_its_own():
    """What two rows share is compared; the rest is shown."""
    n = 60
    rows = {"ours": rank_metrics(np.ones(n)), "other": {"mrr": mean_metric("mrr", np.full(n, 0.5))}}
    found = evaluate_rankings(rankings(rows=rows), resamples=50)
    assert list(found.comparisons["other"]) == ["mrr"] and found.rows["other"] == {"ranking": {"mrr": 0.5}}


def test_what_is_kept_says_whose_queries_they_are(tmp_path):
    given = rankings()
    found = evaluate_rankings(given, resamples=0)
    (tmp_path / kept.REPORT).write_text(json.dumps({kept.ENTRY: kept.write(tmp_path, found.kept)}))
    read = kept.read(tmp_path)
    assert read.kind == kept.RANKINGS and read.about["ids"] == given.ids and read.about["subjects"] == given.subjects
    assert read.about["signature"] == found.signature
    for row, metrics in given.rows.items():
        for name, metric in metrics.items():
            assert read.rows[row][name].corpus == metric.corpus
    assert read.of_texts(None, ids=given.ids, references=[], texts=[], protocol="", labeler="", meteor=None) is None


def test_a_value_function_without_a_name_is_in_the_report_and_said_to_be_in_no_grid():
    n = 60
    own = Metric("spread", np.ones((n, 1)), lambda sums: sums[..., 0])
    found = evaluate_rankings(rankings(rows={"ours": {"spread": own}}), resamples=0)
    assert found.model["ranking"]["spread"] == n
    assert any("Not in grids" in note and "spread" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": []}, "no query"),
        ({"rows": {}}, "no row"),
        ({"ids": ["q"] * 60}, "same id"),
        ({"rows": {"ours": {}}}, "ours: no metric"),
        ({"rows": {"ours": rank_metrics(np.ones(3))}}, "ours, mrr: 3 values for 60 queries"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate_rankings(rankings(**changes))
    with pytest.raises(ValueError, match="two rows have the name"):
        evaluate_rankings(rankings(), "random order")
