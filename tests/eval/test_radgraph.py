"""RadGraph F1 of annotations: cases worked by hand, and what is refused."""

import json

import pytest

from revtaf.errors import UserError
from revtaf.eval import radgraph


def annotation(*entities):
    """(words, label, relations) each, numbered from 1."""
    keys = ("tokens", "label", "relations")
    return {"entities": {str(n): dict(zip(keys, e, strict=True)) for n, e in enumerate(entities, start=1)}}


OPACITY_AT_BASE = annotation(("opacity", "OBS-DP", [["located_at", "2"]]), ("base", "ANAT-DP", []))
OPACITY_AT_APEX = annotation(("opacity", "OBS-DP", [["located_at", "2"]]), ("apex", "ANAT-DP", []))
OPACITY_ALONE = annotation(("opacity", "OBS-DP", []), ("base", "ANAT-DP", []))
NOTHING = annotation()


def values(reference, prediction):
    return {name: metric.corpus for name, metric in radgraph.scores([reference], [prediction]).items()}


def test_identical_report_with_relations_is_perfect_in_all_variants():
    assert values(OPACITY_AT_BASE, OPACITY_AT_BASE) == dict.fromkeys(radgraph.VARIANTS, 1.0)


def test_identical_report_without_relations_scores_half_combined():
    assert values(OPACITY_ALONE, OPACITY_ALONE) == {
        **dict.fromkeys(radgraph.VARIANTS, 1.0),
        "relation": 0.0,
        "combined": 0.5,
    }


def test_lost_relation_costs_partial_but_not_simple():
    """Sets {opacity, base}: simple shares both, partial one ("opacity" has lost its flag), complete one."""
    assert values(OPACITY_AT_BASE, OPACITY_ALONE) == {
        "simple": 1.0,
        "partial": 0.5,
        "complete": 0.5,
        "entity": 1.0,
        "relation": 0.0,
        "combined": 0.5,
    }


def test_wrong_target_costs_complete_but_not_partial():
    """Of {opacity, base} and {opacity, apex} simple and partial share one of two; with its target opacity differs."""
    assert values(OPACITY_AT_BASE, OPACITY_AT_APEX) == {
        "simple": 0.5,
        "partial": 0.5,
        "complete": 0.0,
        "entity": 0.5,
        "relation": 0.0,
        "combined": 0.25,
    }


def test_unequal_set_sizes_by_hand():
    """Two entities against three, two shared: F1 = 2*2/(2+3); one relation against two, one shared: 2*1/(1+2)."""
    more = annotation(
        ("opacity", "OBS-DP", [["located_at", "2"], ["located_at", "3"]]),
        ("base", "ANAT-DP", []),
        ("left", "ANAT-DP", []),
    )
    found = values(OPACITY_AT_BASE, more)
    assert found["entity"] == pytest.approx(4 / 5)
    assert found["relation"] == pytest.approx(2 / 3)
    assert found["combined"] == pytest.approx((4 / 5 + 2 / 3) / 2)


@pytest.mark.parametrize("pair", [(NOTHING, OPACITY_ALONE), (OPACITY_ALONE, NOTHING), (NOTHING, NOTHING)])
def test_report_without_entities_scores_zero(pair):
    assert values(*pair) == dict.fromkeys(radgraph.VARIANTS, 0.0)


def test_repeated_entity_counts_once():
    twice = annotation(*[("opacity", "OBS-DP", [])] * 2, ("base", "ANAT-DP", []))
    assert values(OPACITY_ALONE, twice)["simple"] == 1.0


def test_scores_are_symmetric_and_means_over_reports():
    pairs = [(OPACITY_AT_BASE, OPACITY_ALONE), (OPACITY_AT_BASE, OPACITY_AT_APEX), (OPACITY_ALONE, NOTHING)]
    there = radgraph.scores(*zip(*pairs, strict=True))
    back = radgraph.scores(*list(zip(*pairs, strict=True))[::-1])
    for name in radgraph.VARIANTS:
        assert there[name].corpus == back[name].corpus == pytest.approx(sum(values(*p)[name] for p in pairs) / 3)
        assert there[name].name == f"RadGraph_{name}"


def test_json_and_json_lines_are_read_alike_in_the_order_of_the_ids(tmp_path):
    by_id = {"b": OPACITY_ALONE, "a": OPACITY_AT_BASE}
    (tmp_path / "x.json").write_text(json.dumps(by_id))
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"id": i, **a}) + "\n" for i, a in by_id.items()))
    whole = radgraph.read_annotations(tmp_path / "x.json", ["a", "b"])
    lines = radgraph.read_annotations(tmp_path / "x.jsonl", ["a", "b"])
    for found in (whole, lines):
        assert [a["entities"] for a in found] == [OPACITY_AT_BASE["entities"], OPACITY_ALONE["entities"]]


@pytest.mark.parametrize(
    "content, message",
    [
        ({"a": OPACITY_ALONE}, "1 of 2 scored samples are missing: b"),
        ({"a": OPACITY_ALONE, "b": {"text": "clear"}}, "key 'b': expected an object with \"entities\""),
        ({"a": NOTHING, "b": annotation(("x", None, []))}, "key 'b', entity '1': expected \"tokens\" and \"label\""),
        ({"a": NOTHING, "b": annotation(("x", "OBS-DP", None))}, "entity '1': \"relations\" is no list"),
        ({"a": NOTHING, "b": annotation(("x", "OBS-DP", [["located_at", 2]]))}, "entity '1': \"relations\" is no list"),
        ({"a": NOTHING, "b": annotation(("x", "OBS-DP", [["modify", "9"]]))}, "a relation leads to '9'"),
        ([OPACITY_ALONE], "entry 1: the column 'id' is missing"),
    ],
)
def test_bad_annotations_are_named(tmp_path, content, message):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        radgraph.read_annotations(path, ["a", "b"])
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": "a", "entities": {}}', "line 2: the id a appears twice"),
        ('{"id": "b", ', "line 2: not a JSON object"),
        ('{"entities": {}}', "line 2: the column 'id' is missing"),
    ],
)
def test_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "annotations.jsonl"
    path.write_text('{"id": "a", "entities": {}}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        radgraph.read_annotations(path, ["a", "b"])


def test_labels_of_another_checkpoint_are_found():
    assert radgraph.foreign_labels([OPACITY_AT_BASE]) == []
    other = annotation(("opacity", "Observation::definitely present", []))
    assert radgraph.foreign_labels([OPACITY_AT_BASE, other]) == ["Observation::definitely present"]


def test_model_without_a_working_package_says_so(tmp_path, monkeypatch):
    """All files there, the package absent or too old: it is named, nothing is imported."""
    for name in ("config.json", "weights.th", "vocabulary/x", "encoder/config.json", "encoder/vocab.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"encoder/model.safetensors \(or encoder/pytorch_model.bin\)"):
        radgraph.annotate(["clear"], tmp_path)
    (tmp_path / "encoder/model.safetensors").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="the package radgraph is not installed"):
        radgraph.annotate(["clear"], tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(radgraph, "version", {"radgraph": "0.1.18", "transformers": "5.23.0"}.get)
    with pytest.raises(UserError, match="radgraph 0.1.18 does not work with transformers 5.23.0"):
        radgraph.annotate(["clear"], tmp_path)
