"""The files of a system that ranks: the same names and the same layout as of reports, without what is about texts."""

import csv
import json
import re

import numpy as np
import pytest

from revtaf.eval import kept
from revtaf.eval.rankings import Rankings, evaluate_rankings, median_ranks, rank_metrics
from revtaf.pages import report
from revtaf.pages.scores import kind_of, score_table

N = 40
RUN = {"name": "a retriever", "dataset": "phantom", "split": "test", "checkpoint_epoch": 3}


@pytest.fixture
def rankings():
    """A retriever and a random order of 40 queries."""
    ranks = {"CLIP": 1 + np.arange(N) % 4, "random <order>": 1 + np.arange(N)}
    rows = {row: rank_metrics(values) for row, values in ranks.items()}
    for row, metric in median_ranks(ranks).items():
        rows[row]["median_rank"] = metric
    return evaluate_rankings(Rankings([f"q{i}" for i in range(N)], rows, "image-to-report,40"), resamples=100)


def test_the_files_have_the_names_and_the_layout_of_a_report_s(tmp_path, rankings):
    """report.json holds run, signature, rows, intervals, tests and notes; per_sample.csv every query's numbers."""
    report.write_report(tmp_path, rankings, RUN)
    names = {"report.json", "report.html", "table.md", "table.tex", "per_sample.csv", kept.FILE}
    assert {path.name for path in tmp_path.iterdir()} == names
    content = json.loads((tmp_path / "report.json").read_text())
    assert {"run", "signature", "metrics", "intervals", "comparisons", "published", "notes", "curves"} <= set(content)
    assert not {"lengths", "by_length", "study_level"} & set(content)
    assert content["kind"] == "rankings" and content["lower_is_better"] == ["median_rank"]
    assert content["metrics"]["CLIP"]["ranking"]["recall_at_1"] == 0.25
    assert content["intervals"]["CLIP"]["mrr"]["low"] == rankings.intervals["CLIP"]["mrr"].low
    assert set(content["comparisons"]) == {"random <order>"}
    with (tmp_path / "per_sample.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == N and lines[3] == {
        "id": "q3", "mrr": "0.250000", "recall_at_1": "0.000000", "recall_at_5": "1.000000",
        "recall_at_10": "1.000000", "median_rank": "4.000000",
    }  # fmt: skip
    assert kept.read(tmp_path).rows["CLIP"]["mrr"].corpus == content["metrics"]["CLIP"]["ranking"]["mrr"]


def test_tables_have_the_columns_of_the_rankings_and_no_average(rankings):
    text = report.table_text(rankings).splitlines()
    assert re.split(r"  +", text[0].strip()) == ["mrr", "recall at 1", "recall at 5", "recall at 10", "median rank"]
    assert text[2].startswith("CLIP") and "0.250" in text[2] and "95 % interval" in text[3]
    assert "note: Lower is better: median rank." in text
    markdown, latex = report.table_markdown(rankings), report.table_latex(rankings)
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    assert "Avg" not in markdown + latex and r"\begin{tabular}{lccccc}" in latex
    assert latex.count(r"\\") == 3 and "random <order>" in latex


def test_the_page_shows_scores_tests_and_run_and_nothing_of_reports(tmp_path, rankings):
    report.write_report(tmp_path, rankings, RUN)
    page = (tmp_path / "report.html").read_text()
    assert "chest X-ray retrieval" in page and "The checkpoint of epoch 3, scored on 40 queries of phantom test" in page
    assert "CLIP minus each row" in page and page.count('<svg class="intervals"') == 2  # five panels, four a line
    for text in ("Clinical efficacy", "Text (NLG)", "Best and worst samples", "Length and variety", ">Avg<"):
        assert text not in page, text
    assert "random &lt;order&gt;" in page and "<order>" not in page


def test_the_best_of_a_column_is_the_least_where_less_is_better(tmp_path, rankings):
    """The retriever has the higher recall and the lower median rank: both are marked, and nothing of the other row."""
    report.write_report(tmp_path, rankings, RUN)
    page = (tmp_path / "report.html").read_text()
    table = page[page.index('<table class="scores">') : page.index("</table>")]
    ours, other = re.findall(r'<tr class="(?:model|other)">.*?</tr>', table, re.DOTALL)
    assert ours.count('class="best"') == 5 and other.count('class="best"') == 0


def test_a_row_that_reads_the_report_is_an_oracle_and_competes_with_nobody():
    """Not the best of a column; LaTeX is given an arrow that it knows."""
    name = "its exact text (oracle: reads the report)"
    rows = {row: rank_metrics(1 + np.arange(N) % most) for row, most in (("CLIP", 4), ("random", 9), (name, 1))}
    found = evaluate_rankings(Rankings([f"q{i}" for i in range(N)], rows, "image-to-report,40"), resamples=0)
    assert kind_of(found, name) == "oracle" and kind_of(found, "random") == "other"
    table = score_table(found, {"mrr": ("ranking", "mrr")})
    marked = {line.title: [cell.style for cell in line.cells] for line in table.lines}
    assert "best" in str(marked["CLIP"]) and "best" not in str(marked[name])
    assert report.tex("R@1 i→r") == r"R@1 i$\rightarrow$r"
