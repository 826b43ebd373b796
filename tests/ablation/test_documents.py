"""Tables in the README and docs are printed from files, and claims are judged by a rule."""

import json
import shutil

import pytest
from tiny import ROOT

from revtaf.ablation import claims, documents
from revtaf.ablation.claims import CLAIMS, claims_markdown, judge
from revtaf.ablation.claims_medfuse import MEDFUSE_CLAIMS
from revtaf.ablation.claims_trrg import TRRG_CLAIMS
from revtaf.ablation.documents import report
from revtaf.ablation.grid import load_grid
from revtaf.cli import main
from revtaf.errors import UserError
from revtaf.system.analyses import UNIFORM

TABLES = ROOT / "results" / "tables"
SUMMARIES = sorted(TABLES.glob("*/*/summary.json"))


def test_the_documents_agree_with_the_committed_results():
    """No table of README.md, docs/ or results/tables was typed by hand or is older than its numbers."""
    stale = report(ROOT, TABLES, check=True)
    assert not stale, f"print them anew: python -m revtaf report (stale: {', '.join(map(str, stale))})"


def test_there_are_results():
    """The phantom tables that the README promises are committed."""
    names = {path.parent.relative_to(TABLES).as_posix() for path in SUMMARIES}
    assert {"phantom/table1", "phantom/controls"} <= names


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_a_committed_grid_is_the_one_in_configs(path):
    """Rows of a summary are those of its grid today, and no report text or machine path is in it."""
    content = json.loads(path.read_text())
    grid = load_grid(ROOT / "configs" / "ablations" / f"{content['grid']}.yaml")
    assert list(content["rows"]) == [row.name for row in grid.rows]
    for name, row in content["rows"].items():
        ours = grid.row(name)
        assert row["label"] == ours.label
        expected = {**ours.train, **ours.test, **({"takes": ours.take} if ours.take else {})}
        expected |= {"system": ours.system} if ours.system else {}
        assert row["settings"] == expected
    text = path.read_text().lower()
    assert "xxxx" not in text and "heart size" not in text and "/home/" not in text and "/root/" not in text


@pytest.fixture
def copied(tmp_path):
    """A document with one block, and the tables that it prints."""
    (tmp_path / "tables/phantom").mkdir(parents=True)
    shutil.copytree(TABLES / "phantom/table1", tmp_path / "tables/phantom/table1")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- report: compact phantom/table1 -->\nold\n<!-- end of report -->\nafter\n")
    return tmp_path


def test_a_block_is_printed_and_the_rest_is_left_alone(copied):
    """Twice is the same as once, and --check says what differs without touching it."""
    command = ["report", "--root", str(copied), "--tables", str(copied / "tables")]
    assert main([*command, "--check"]) == 1
    assert "\nold\n" in (copied / "README.md").read_text()
    assert main(command) == 0
    text = (copied / "README.md").read_text()
    assert text.startswith("before\n<!-- report") and text.endswith("<!-- end of report -->\nafter\n")
    assert "nearest training report (oracle)" in text and "\nold\n" not in text
    assert main([*command, "--check"]) == 0 and main(command) == 0
    assert (copied / "README.md").read_text() == text


def test_rankings_are_printed_by_their_own_metrics(tmp_path):
    """No column of texts, which rankings have not; an arrow where less is better."""
    text = documents.compact(TABLES, "medfuse_phantom/medfuse_table2")
    content = json.loads((TABLES / "medfuse_phantom/medfuse_table2/summary.json").read_text())
    assert "R@10 i→r" in text and "MedR r→i ↓" in text and "CIDEr" not in text and "different texts" not in text
    mean = content["rows"]["model"]["mean"]["i2t_recall_at_10"]
    assert f" {mean:.3f} ".replace(" 0.", " .") in next(s for s in text.splitlines() if s.startswith("| MedFuse-CLIP"))


def test_a_changed_number_makes_the_document_stale(copied):
    """Whoever edits a summary, a table or the README by hand is found out."""
    command = ["report", "--root", str(copied), "--tables", str(copied / "tables")]
    main(command)
    for path in ("README.md", "tables/phantom/table1/table.md"):
        text = (copied / path).read_text()
        (copied / path).write_text(text.replace("medoid", "medium"))
        assert main([*command, "--check"]) == 1, path
        (copied / path).write_text(text)
    summary = copied / "tables/phantom/table1/summary.json"
    content = json.loads(summary.read_text())
    content["rows"]["full"]["mean"]["BLEU_4"] += 0.1
    summary.write_text(json.dumps(content))
    assert main([*command, "--check"]) == 1


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("compct phantom/table1", "unknown report block 'compct'"),
        ("compact", "does not take nothing"),
        ("claims medfus", "there is no system 'medfus'; did you mean 'medfuse'"),
        ("compact phantom/none", "configs/ablations/none.yaml data=phantom"),
    ],
)
def test_blocks_that_cannot_be_printed_are_refused(copied, block, message):
    (copied / "README.md").write_text(f"<!-- report: {block} -->\n<!-- end of report -->\n")
    with pytest.raises(UserError, match=message):
        report(copied, copied / "tables")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["better", "not shown"], "**supported**"),
        (["worse", "not shown"], "**contradicted**"),
        (["better", "worse"], "no verdict: metrics contradict each other"),
        (["not shown"], "not shown"),
        ([], "not shown"),
    ],
)
def test_the_rule_of_a_verdict(verdicts, expected):
    assert judge(verdicts) == expected


def test_every_claim_names_rows_that_its_grid_has():
    """Rows and pairs of each claim exist in the shipped grids; constants of the alignment view aside."""
    for claim in (*CLAIMS, *MEDFUSE_CLAIMS, *TRRG_CLAIMS):
        grid = load_grid(ROOT / "configs/ablations" / f"{claim.grid}.yaml")
        names = [row.name for row in grid.rows]
        assert claim.a in names and (claim.b in names or claim.b == UNIFORM), claim
        assert claim.view in grid.views


def test_claims_turn_a_pair_round_where_it_was_tested_the_other_way(tmp_path, monkeypatch):
    """full - baseline of +.1 as evidence for full is -.1, and against it, for baseline."""
    folder = tmp_path / "phantom/table3"
    folder.mkdir(parents=True)
    found = {"difference": 0.1, "low": 0.05, "high": 0.2, "p_holm": 0.001, "p_seeds": 0.01, "agree": 2}
    found["verdict"] = "better"
    pair = {"a": "baseline", "b": "full", "seeds": [0, 1], "metrics": {"example_f1": found}}
    (folder / "summary.json").write_text(json.dumps({"views": ["scores"], "rows": {}, "pairs": [pair]}))
    monkeypatch.setattr(claims, "known_controls", lambda tables, data: dict.fromkeys(("GRP", "LRP", "LRE"), "passed"))
    line = next(x for x in claims_markdown(tmp_path, ["phantom"]).splitlines() if "both together" in x)
    assert "-.100 [-.200, -.050]" in line and "**contradicted**" in line


def test_one_patient_has_no_interval_and_its_claims_are_printed(tmp_path, monkeypatch):
    """Of one patient there is nothing to resample: "no interval" in claims and in the table of switches."""
    folder = tmp_path / "phantom/table3"
    folder.mkdir(parents=True)
    found = {"difference": 0.1, "low": None, "high": None, "p_holm": None, "p_seeds": None, "agree": 1}
    pair = {"a": "full", "b": "baseline", "seeds": [0], "metrics": {"example_f1": found | {"verdict": "not shown"}}}
    (folder / "summary.json").write_text(json.dumps({"views": ["scores"], "rows": {}, "pairs": [pair]}))
    monkeypatch.setattr(claims, "known_controls", lambda tables, data: dict.fromkeys(("GRP", "LRP", "LRE"), "passed"))
    line = next(x for x in claims_markdown(tmp_path, ["phantom"]).splitlines() if "both together" in x)
    assert "+.100 no interval, 1/1 seeds" in line and "not shown" in line
    assert documents._short(pair, "example_f1") == "+.100 <sub>no interval</sub>"


def test_a_summary_of_another_command_is_no_table_of_a_grid(copied):
    """`revtaf study lre` beside the tables is passed over; where a document asks for it as a grid, it is named."""
    study = copied / "tables/phantom/study"
    shutil.copytree(ROOT / "results/study_lre", study)
    report(copied, copied / "tables")
    assert report(copied, copied / "tables", check=True) == []
    (copied / "README.md").write_text("<!-- report: compact phantom/study -->\n<!-- end of report -->\n")
    with pytest.raises(UserError, match=r"phantom/study/summary.json is no summary of a grid"):
        report(copied, copied / "tables")
