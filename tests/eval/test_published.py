"""The figures of the papers: complete, consistent with their own means, and checked when they are read."""

import pytest
import yaml

from revtaf.commands.score import paper_rows
from revtaf.errors import UserError
from revtaf.eval import published
from revtaf.eval.advanced import NAMES

ALL = [*published.rows("mimic_cxr"), *published.rows("iu_xray")]
# Printed means that are not the mean of the nine printed figures beside them.
WRONG_AVERAGES = {
    ("paper, Table 4", "GPT-4"): 0.171,  # printed .192; .171 is the mean with the printed BLEU-4 of 0
}


def test_all_rows_of_the_tables_are_there():
    counts = {}
    for row in ALL:
        key = (row.dataset, row.origin)
        counts[key] = counts.get(key, 0) + 1
    assert counts == {
        ("mimic_cxr", "paper, Table 1"): 15,
        ("iu_xray", "paper, Table 2"): 7,
        ("mimic_cxr", "paper, Table 3"): 4,
        ("mimic_cxr", "paper, Table 4"): 5,
        ("mimic_cxr", "supplement, Table 1"): 4,
        ("mimic_cxr", "supplement, Table 2"): 3,
        ("mimic_cxr", "supplement, Table 3"): 2,
        ("mimic_cxr", "supplement, Table 5"): 4,
        ("mimic_cxr", "medfuse, Table II"): 1,
        ("mimic_cxr", "medfuse, Table III"): 1,
        ("mimic_cxr", "medfuse, Table IV"): 4,
        ("mimic_cxr", "trrg, TRRG Table 1"): 2,
        ("iu_xray", "trrg, TRRG Table 1, IU X-Ray"): 1,
        ("mimic_cxr", "trrg, TRRG Table 2"): 4,
        ("iu_xray", "trrg, TRRG Table 2, IU X-Ray"): 4,
    }


def test_the_rows_of_medfuse_are_told_apart():
    """REVTAF's pages ask for its own source alone; and Table II is the second row of Table IV."""
    shown = [*paper_rows("mimic_cxr"), *paper_rows("iu_xray")]
    assert {row.source for row in shown} == {"paper"}
    two, four = (published.rows("mimic_cxr", f"Table {n}", "medfuse") for n in ("II", "IV"))
    for name in ("i2t_recall_at_10", "t2i_recall_at_10"):
        assert two[0].figures[name] == four[1].figures[name]
        assert [row.figures[name] for row in four] == sorted(row.figures[name] for row in four)


@pytest.mark.parametrize("row", [r for r in ALL if "avg" in r.figures], ids=lambda r: f"{r.origin}, {r.system}")
def test_the_printed_average_is_the_plain_mean_of_the_nine_figures(row):
    mean = sum(row.figures[name] for name in published.AVERAGED) / 9
    printed = row.figures["avg"]
    if (row.origin, row.system) in WRONG_AVERAGES:
        assert mean == pytest.approx(WRONG_AVERAGES[row.origin, row.system], abs=0.0005)
        assert abs(mean - printed) > 0.0015
    else:
        assert mean == pytest.approx(printed, abs=0.0015)


def test_an_average_is_printed_exactly_where_all_nine_figures_are():
    """In REVTAF's tables; the TRRG paper prints none."""
    for row in (row for row in ALL if row.source != "trrg"):
        assert ("avg" in row.figures) == all(name in row.figures for name in published.AVERAGED), row


def test_repeated_rows_agree():
    """The full model and the CLIP baseline are printed in several tables."""
    full = published.rows("mimic_cxr", "Table 1", "paper")[-1].figures
    same = {("paper, Table 3", "REVTAF (c)"), ("supplement, Table 2", "REVTAF, hyperbolic distance")}
    same.add(("supplement, Table 3", "REVTAF, MPSA"))
    found = [r.figures for r in ALL if (r.origin, r.system) in same]
    assert found == [full] * 3
    by_system = {r.system: r.figures for r in ALL if r.table == "Table 1"}
    assert by_system["CLIP baseline"] == by_system["PromptMRG"]


def test_bleu_falls_with_its_order_and_protocols_are_named():
    for row in ALL:
        orders = [row.figures[f"BLEU_{n}"] for n in range(1, 5) if f"BLEU_{n}" in row.figures]
        assert orders == sorted(orders, reverse=True), row
        assert row.protocol and row.split


def test_the_advanced_columns_are_the_names_that_are_computed():
    assert set(published.ADVANCED) <= set(NAMES)


def test_rows_of_one_table():
    rows = published.rows("iu_xray", "Table 2")
    assert [r.system for r in rows][-2:] == ["PromptMRG", "REVTAF"]
    assert rows[-1].figures["BLEU_4"] == 0.107 and rows[-1].origin == "paper, Table 2"
    assert {r.source for r in published.rows("mimic_cxr", "Table 1")} == {"paper", "supplement"}
    assert published.rows("phantom") == []
    assert "METEOR" not in {r.system: r for r in published.rows("mimic_cxr", "Table 1", "paper")}["MKSG"].figures


TABLE = {
    "table": "Table 9",
    "source": "paper",
    "dataset": "d",
    "split": "test",
    "protocol": "unknown",
    "columns": ["BLEU_1", "seconds"],
    "rows": [{"system": "A", "figures": [0.5, 12]}, {"system": "B", "venue": "V 2020", "figures": [None, 3.5]}],
}


def row(**fields):
    return {"rows": [TABLE["rows"][1], {**TABLE["rows"][0], **fields}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datset": "d"}, "table 1: unknown name 'datset'; did you mean 'dataset'"),
        ({"source": "web"}, "source: expected paper, supplement, medfuse"),
        ({"split": ""}, "split: expected a text"),
        ({"columns": ["BLEU_1", "BLUE_2"]}, "unknown name 'BLUE_2'; did you mean 'BLEU_2'"),
        ({"columns": ["BLEU_1", "BLEU_1"]}, "columns: expected a list of different names"),
        (row(figures=[0.5]), r"\(paper, Table 9\), row 2 \(A\): figures: expected 2 numbers"),
        (row(figures=[50.0, 1]), r"row 2 \(A\): BLEU_1: expected a number from 0 to 1, or null, got 50.0"),
        (row(figures=[float("nan"), 1]), "BLEU_1: expected a number"),
        (row(figures=["0.5", 1]), "BLEU_1: expected a number"),
        (row(figures=[True, 1]), "BLEU_1: expected a number"),
        (row(figures=[0.5, -1]), "seconds: expected a number of at least 0"),
        (row(system="B"), "the system 'B' appears twice"),
        (row(score=1), "row 2: unknown name 'score'"),
        ({"rows": None}, "rows: expected a list"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, change, message):
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({"tables": [{**TABLE, **change}]}))
    with pytest.raises(UserError, match=message) as error:
        published.rows("d", path=path)
    assert str(path) in str(error.value)


def test_a_missing_key_or_file_is_named(tmp_path):
    path = tmp_path / "p.yaml"
    with pytest.raises(UserError, match="not found.*install revtaf again"):
        published.rows("d", path=path)
    path.write_text(yaml.safe_dump({"tables": [{k: v for k, v in TABLE.items() if k != "split"}]}))
    with pytest.raises(UserError, match="the key 'split' is missing"):
        published.rows("d", path=path)
    path = tmp_path / "q.yaml"
    path.write_text("tables: [")
    with pytest.raises(UserError, match="not a YAML file"):
        published.rows("d", path=path)
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"tables": [TABLE]}))
    assert [r.figures for r in published.rows("d", path=path)] == [{"BLEU_1": 0.5, "seconds": 12.0}, {"seconds": 3.5}]
