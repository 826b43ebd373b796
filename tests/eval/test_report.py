"""The report: tables, figures, and a page that is complete, escaped and written whole or not at all."""

import json
import re

import numpy as np
import pytest

from revtaf.eval import report
from revtaf.eval.cards import overlay
from revtaf.eval.evaluate import evaluate
from revtaf.eval.page import curve_panels

EVIL = '<script>alert("1 & 2")</script>'


@pytest.fixture
def evaluation(labeler):
    references = ["Cardiomegaly is seen. No edema.", "Lungs are clear."]
    train = ["Lungs clear.", "Heart normal. Lungs clear."]
    return evaluate(references, ["cardiomegaly. no edema.", "lungs clear."], labeler, train, java="/none")


def sample(name: str, **changes) -> report.Sample:
    rng = np.random.default_rng(0)
    values = dict(
        id=name,
        image=rng.integers(0, 255, (56, 56), dtype=np.uint8),
        reference="Heart is enlarged. Lungs are clear.",
        hypothesis="lungs are clear. heart is normal. no effusion.",
        retrieved_report="lungs clear .",
        retrieved_id=f"neighbour of {name}",
        retrieval_distance=0.25,
        prompts={"cardiomegaly": "positive"},
        sentence="the heart is enlarged",
        sentence_map=rng.random((7, 7)),
        entity="effusion, left",
        entity_map=rng.random((7, 7)),
    )
    return report.Sample(**{**values, **changes})


CURVES = [{"epoch": e, "lm": 3.0 / e, "validation": {"example_f1": 0.1 * e}} for e in (1, 2, 3)]
RUN = {"name": "a run", "seed": 7, "dataset": "phantom", "split": "val", "knowledge": {"labels": "rules-v1"}}


def test_page_shows_every_sample_and_every_entry_of_the_run(tmp_path, evaluation):
    samples = [sample(f"study-{i}") for i in range(9)]
    report.write_report(tmp_path, evaluation, RUN, samples, CURVES)
    page = (tmp_path / "report.html").read_text()
    for i in range(9):
        assert page.count(f"<b>study-{i}</b>") == 1 and f"neighbour of study-{i}" in page
    assert page.count("<figure>") == 3 * 9
    for text in ("a run", "rules-v1", "phantom val", "Not a medical device", "medoid report", "distance 0.250",
                 "cardiomegaly: positive", evaluation.signature, *report.COLUMNS):  # fmt: skip
        assert text in page, text
    assert "n/a" in page  # METEOR


def test_page_is_self_contained(tmp_path, evaluation):
    report.write_report(tmp_path, evaluation, RUN, [sample("one")], CURVES)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert all(src.startswith("data:image/png;base64,") for src in re.findall(r'src="([^"]*)', page))


def test_every_text_from_outside_is_escaped(tmp_path, evaluation):
    evaluation.notes.append(EVIL)
    evaluation.rows[EVIL] = evaluation.rows["medoid report"]
    fields = ("id", "reference", "hypothesis", "retrieved_report", "retrieved_id", "sentence", "entity")
    evil = sample("x", **dict.fromkeys(fields, EVIL), prompts={EVIL: EVIL})
    run = {"name": EVIL, "dataset": EVIL, EVIL: EVIL, "nested": {EVIL: [EVIL]}}
    report.write_report(tmp_path, evaluation, run, [evil], [{"epoch": 1, "lm": 1.0, EVIL: EVIL}])
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'alt="[^"]*"[^ >]', page)  # no attribute was ended from inside


def test_report_json_holds_the_run_and_all_numbers(tmp_path, evaluation):
    run = {**RUN, "versions": {"torch": "2"}, "value": np.float32(0.5), "folder": tmp_path, "bad": float("nan")}
    report.write_report(tmp_path, evaluation, run, [sample("one")], CURVES)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["run"]["seed"] == 7 and content["run"]["value"] == 0.5 and content["run"]["bad"] is None
    assert content["metrics"]["REVTAF"]["nlg"] == pytest.approx(evaluation.model["nlg"])
    assert content["samples"] == ["one"] and content["notes"] == evaluation.notes
    assert content["signature"] == evaluation.signature


def test_a_failure_leaves_no_file(tmp_path, evaluation, monkeypatch):
    with pytest.raises(ValueError, match="sample broken: expected a"):
        report.write_report(tmp_path, evaluation, RUN, [sample("broken", image=np.zeros((4, 4, 3)))], [])
    assert list(tmp_path.iterdir()) == []

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report, "write_json", full)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(tmp_path, evaluation, RUN, [sample("fine")], [])
    assert list(tmp_path.iterdir()) == []


def test_missing_maps_samples_and_curves_are_said(tmp_path, evaluation):
    bare = sample("bare", sentence_map=None, entity_map=np.full((7, 7), np.nan), hypothesis="", prompts={},
                  retrieval_distance=None, retrieved_id="", retrieved_report="")  # fmt: skip
    report.write_report(tmp_path, evaluation, {}, [bare], [])
    page = (tmp_path / "report.html").read_text()
    assert page.count("no map") == 2 and "all blank" in page and "<i>empty</i>" in page
    assert "No training record was given." in page
    report.write_report(tmp_path, evaluation, {}, [], [])
    assert "No samples were given." in (tmp_path / "report.html").read_text()


def test_highlighting_marks_the_same_sentence_and_shared_words_only(tmp_path, evaluation):
    report.write_report(tmp_path, evaluation, RUN, [sample("one")], [])
    page = (tmp_path / "report.html").read_text()
    assert '<span class="same">lungs are clear.</span>' in page
    assert "<mark>heart</mark> is normal." in page  # shared with "heart is enlarged"
    assert "no effusion." in page  # nothing shared, nothing marked


def test_overlay_is_invariant_to_the_scale_of_the_map_and_hottest_where_the_map_is():
    weights = np.random.default_rng(1).random((7, 7))
    weights[2, 5] = 3.0
    image = np.full((70, 70), 90, dtype=np.uint8)
    shown = overlay(image, weights)
    np.testing.assert_array_equal(shown, overlay(image, 10 * weights + 4))
    change = np.abs(shown.astype(float) - 90).sum(-1)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert (row // 10, column // 10) == (2, 5)


def test_overlay_of_a_constant_map_is_uniform():
    shown = overlay(np.full((20, 30), 90, dtype=np.uint8), np.full((7, 7), 0.3))
    assert shown.shape == (20, 30, 3) and len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


def test_curves_average_the_records_of_an_epoch_and_prefer_the_three_averages():
    records = [
        {"step": 1, "epoch": 1, "lr": 0.1, "lm": 4.0, "rank": float("nan")},
        {"step": 2, "epoch": 1, "lr": 0.1, "lm": 2.0},
        {"epoch": 1, "validation": {"example_f1": 0.3, "tail_f1": 0.1, "score": 0.3}},
        {"epoch": 2, "train": {"lm": 1.0}, "validation": {"example_f1": 0.5, "per_class": {"edema": {"f1": 1}}}},
    ]
    panels = curve_panels(records)
    assert panels == {"losses": {"lm": {1: 3.0, 2: 1.0}}, "validation": {"example F1": {1: 0.3, 2: 0.5}}}


def test_tables_are_aligned_and_complete(evaluation):
    lines = report.table_text(evaluation).split("\n")
    assert len({len(line) for line in lines[:5]}) == 1  # header, rule, three rows
    assert lines[0].split() == list(report.COLUMNS) and "n/a" in lines[2] and lines[2].startswith("REVTAF")
    assert lines[5] == evaluation.signature and all(line.startswith("note: ") for line in lines[6:])
    markdown = report.table_markdown(evaluation).split("\n")
    assert {line.count("|") for line in markdown[:5]} == {len(report.COLUMNS) + 2}
