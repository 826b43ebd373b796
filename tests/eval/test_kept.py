"""What a test scored, read back: the same numbers to the last bit, or not at all."""

import json
from functools import partial

import numpy as np
import pytest

from revtaf.eval import clinical, kept, statistics
from revtaf.eval.evaluate import evaluate
from revtaf.eval.kept import Kept
from revtaf.eval.metric import Metric, mean_metric, median_metric
from revtaf.eval.radcliq import metrics as radcliq_metrics
from revtaf.eval.records import Samples
from revtaf.files import write_json

TRAIN = ["Lungs clear. Heart normal.", "Cardiomegaly. No edema.", "Small pleural effusion. Heart normal."]
REFERENCES = ["Cardiomegaly is seen. No edema.", "Lungs are clear. Heart normal.", "Pleural effusion. Fracture."]
HYPOTHESES = ["cardiomegaly. no edema.", "lungs clear. heart normal.", ""]


def samples(n: int = 30) -> Samples:
    """Texts that differ, of patients with three samples each."""
    texts = [f"{REFERENCES[i % 3]} View {i}." for i in range(n)]
    said = [f"{HYPOTHESES[(i * i) % 3]} view {i}." for i in range(n)]
    return Samples([f"s{i}" for i in range(n)], texts, said, [f"p{i // 3}" for i in range(n)])


def keep(folder, what: Kept) -> None:
    """As a report does: the file, then its digest."""
    write_json(folder / kept.REPORT, {kept.ENTRY: kept.write(folder, what)})


def same(one: Metric, other: Metric, codes: np.ndarray) -> bool:
    """Whether statistics, value, samples and interval are equal to the last bit."""
    resampled = [statistics.intervals({"x": m}, codes, 50)["x"] for m in (one, other)]
    return (
        np.array_equal(one.statistics, other.statistics)
        and one.statistics.dtype == other.statistics.dtype == np.float64
        and one.corpus == other.corpus
        and np.array_equal(one.per_sample, other.per_sample, equal_nan=True)
        and one.higher_is_better == other.higher_is_better
        and repr(resampled[0]) == repr(resampled[1])
    )


def test_every_metric_of_every_row_is_read_as_it_was_scored(tmp_path, labeler, meteor, monkeypatch):
    """Text and clinical metrics, METEOR by the jar, model-based ones: equal to the last bit, in their old order."""
    from contextlib import nullcontext

    monkeypatch.setattr("revtaf.eval.evaluate.Meteor", lambda java: nullcontext(meteor))
    given = samples()
    found = evaluate(given, labeler, TRAIN, resamples=0).kept
    scores = np.random.default_rng(0).random((4, len(given)))
    own = next(iter(found.rows))
    found.rows[own] |= radcliq_metrics(*scores)
    keep(tmp_path, found)
    again = kept.read(tmp_path)
    assert list(again.rows) == list(found.rows) and len(again.rows) == 5
    codes = statistics.clusters(given.ids, None, given.subjects)[0]
    for row, metrics in found.rows.items():
        assert list(again.rows[row]) == list(metrics) and "METEOR" in metrics
        for name, metric in metrics.items():
            assert same(metric, again.rows[row][name], codes), (row, name)
    assert np.array_equal(again.statuses, found.statuses) and again.made_from == found.made_from


def test_metrics_that_share_statistics_share_them_again(tmp_path, labeler):
    """A resample sums them once, and in the same columns: the order of a sum decides its last bit."""
    found = evaluate(samples(), labeler, java="/none", resamples=0).kept
    keep(tmp_path, found)
    for row, metrics in kept.read(tmp_path).rows.items():
        for a in metrics:
            for b in metrics:
                before = found.rows[row][a].statistics is found.rows[row][b].statistics
                assert (metrics[a].statistics is metrics[b].statistics) == before


def test_intervals_of_all_metrics_together_are_the_same(tmp_path, labeler):
    given = samples()
    found = evaluate(given, labeler, java="/none", resamples=0).kept
    keep(tmp_path, found)
    codes = statistics.clusters(given.ids, None, given.subjects)[0]
    fresh, read = (next(iter(k.rows.values())) for k in (found, kept.read(tmp_path)))
    assert repr(statistics.intervals(fresh, codes, 300)) == repr(statistics.intervals(read, codes, 300))


@pytest.mark.parametrize(
    "values", [[0.1, -0.0, 1e300, 0.1 + 0.2], [0, 255, 256, 65535], [65536, 1, 0, 0], [np.nan] * 4]
)
def test_numbers_of_any_size_come_back_exactly(tmp_path, values):
    metric = mean_metric("x", np.array(values))
    keep(tmp_path, Kept({"a": {"x": metric}}))
    read = kept.read(tmp_path).rows["a"]["x"].statistics
    assert read.dtype == np.float64 and read.tobytes() == metric.statistics.tobytes()


def test_rows_and_metrics_may_have_any_names(tmp_path):
    """Two pairs of names that read alike with a stroke between them stay apart."""
    one, other = mean_metric("x", np.array([1.0, 2.0])), mean_metric("x", np.array([3.0, 4.0]))
    keep(tmp_path, Kept({"a/b": {"c": one}, "a": {"b/c": other}, 'always "no finding"': {"é": one}}))
    read = kept.read(tmp_path).rows
    assert (read["a/b"]["c"].corpus, read["a"]["b/c"].corpus) == (1.5, 3.5)
    assert read['always "no finding"']["é"].corpus == 1.5


def test_a_median_is_kept_and_a_function_that_nobody_knows_is_left_out(tmp_path):
    rank = median_metric("median rank", np.array([1.0, 7.0, 3.0, 3.0]), higher_is_better=False)
    unknown = Metric("own", np.ones((4, 1)), lambda sums: sums[..., 0])
    bound = Metric("bound", np.ones((4, 42)), partial(clinical.macro, [0], 2))
    keep(tmp_path, Kept({"a": {"median rank": rank, "own": unknown, "bound": bound}}))
    (read,) = kept.read(tmp_path).rows["a"].values()
    assert read.corpus == 3.0 and not read.higher_is_better
    assert kept.can_keep(rank) and not kept.can_keep(unknown) and not kept.can_keep(bound)


def wanted(given: Samples, **changes) -> dict:
    from revtaf.eval.protocol import PROTOCOL

    return {
        "ids": given.ids,
        "references": [PROTOCOL.reference(r) for r in given.references],
        "texts": [PROTOCOL.hypothesis(h) for h in given.predictions],
        "protocol": "revtaf",
        "labeler": "toy-v1",
        "meteor": None,
    } | changes


def test_only_the_same_samples_texts_protocol_and_labeler_fit(labeler):
    given = samples()
    found = evaluate(given, labeler, TRAIN, java="/none", resamples=0).kept
    assert found.of_texts(None, **wanted(given)) == found.rows["REVTAF"]
    texts = wanted(given)["texts"]
    for changes in (
        {"ids": given.ids[::-1]},
        {"references": texts},
        {"texts": [*texts[:-1], texts[-1] + "."]},
        {"protocol": "clean"},
        {"labeler": "toy-v2"},
    ):
        assert found.of_texts(None, **wanted(given, **changes)) is None, changes
    assert found.of_texts("retrieved report", **wanted(given)) is None  # a row that was not scored
    assert found.of_texts("medoid report", **wanted(given)) is None  # a row with other texts


def test_statuses_or_document_frequencies_from_elsewhere_fit_nothing(labeler):
    """Clinical scores by statuses from a file are no labeler's; CIDEr by the training reports is another CIDEr."""
    from revtaf.eval.evaluate import Statuses

    given = samples()
    statuses = Statuses(references=np.zeros((len(given), 14), dtype=np.uint8))
    for options in ({"given": statuses}, {"cider_idf": "train"}):
        found = evaluate(given, labeler, TRAIN, java="/none", resamples=0, **options).kept
        assert found.of_texts(None, **wanted(given)) is None, options


def test_another_meteor_costs_meteor_alone(labeler):
    given = samples()
    found = evaluate(given, labeler, java="/none", resamples=0).kept
    found.rows["REVTAF"]["METEOR"] = mean_metric("METEOR", np.ones(len(given)))
    found.made_from["meteor"] = "1.5jar(x),java17"
    assert "METEOR" in found.of_texts(None, **wanted(given, meteor="1.5jar(x),java17"))
    for other in (None, "1.5jar(x),java21"):
        read = found.of_texts(None, **wanted(given, meteor=other))
        assert "METEOR" not in read and "CIDEr" in read


def test_code_of_another_day_fits_nothing(labeler, monkeypatch):
    """Whoever changes how a metric counts has it scored anew, whatever the version says."""
    given = samples()
    found = evaluate(given, labeler, java="/none", resamples=0).kept
    monkeypatch.setattr(kept, "_code", lambda: "changed")
    assert found.of_texts(None, **wanted(given)) is None


@pytest.mark.parametrize("spoil", ["no file", "no report", "cut", "one bit", "of another report", "another format"])
def test_a_missing_damaged_or_foreign_file_is_not_used(tmp_path, spoil, monkeypatch):
    keep(tmp_path, Kept({"a": {"x": mean_metric("x", np.arange(5.0))}}))
    path = tmp_path / kept.FILE
    assert kept.read(tmp_path) is not None
    content = bytearray(path.read_bytes())
    if spoil == "no file":
        path.unlink()
    elif spoil == "no report":
        (tmp_path / kept.REPORT).unlink()
    elif spoil == "cut":
        path.write_bytes(content[:-8])
    elif spoil == "one bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif spoil == "of another report":
        (tmp_path / kept.REPORT).write_text(json.dumps({kept.ENTRY: "0" * 64}))
    else:
        monkeypatch.setattr(kept, "FORMAT", kept.FORMAT + 1)
    assert kept.read(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 40])
def test_a_file_with_the_right_digest_and_another_content_is_not_used(tmp_path, content):
    from revtaf.files import sha256

    (tmp_path / kept.FILE).write_bytes(content)
    write_json(tmp_path / kept.REPORT, {kept.ENTRY: sha256(tmp_path / kept.FILE)})
    assert kept.read(tmp_path) is None


def test_the_file_holds_no_report(tmp_path, labeler):
    given = samples()
    keep(tmp_path, evaluate(given, labeler, TRAIN, java="/none", resamples=0).kept)
    content = (tmp_path / kept.FILE).read_bytes().lower()
    for text in (*given.references, *given.predictions, *TRAIN):
        assert text.lower().encode() not in content
