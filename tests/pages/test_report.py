"""The report: tables, figures, and a page that is complete, escaped and written whole or not at all."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from revtaf.eval import floors, kept, published
from revtaf.eval.evaluate import COLUMNS
from revtaf.eval.statistics import Interval
from revtaf.labels import CHEXPERT_CATEGORIES, STATUSES
from revtaf.pages import report
from revtaf.pages.cards import Card, overlay
from revtaf.pages.parts import limits, ticks, without_zero
from revtaf.pages.scores import kind_of
from revtaf.pages.section import PageSection

EVIL = '<script>alert("1 & 2")</script>'

OTHER = "another system"  # the second system of the fixture


def page_of(folder, evaluation, run=None, cards=(), curves=(), sections=()) -> str:
    report.write_report(folder, evaluation, run or {}, cards, curves, sections)
    return (folder / "report.html").read_text()


def card(name: str, **changes) -> Card:
    rng = np.random.default_rng(0)
    values = dict(
        id=name,
        image=rng.integers(0, 255, (56, 56), dtype=np.uint8),
        reference="Heart is enlarged. Lungs are clear.",
        hypothesis="lungs are clear. heart is normal. no effusion.",
        retrieved_report="lungs clear .",
        retrieved_id=f"neighbour of {name}",
        retrieval_distance=0.25,
        statuses={"cardiomegaly": "positive"},
        sentence="the heart is enlarged",
        sentence_map=rng.random((7, 7)),
        entity="effusion, left",
        entity_map=rng.random((7, 7)),
    )
    return Card(**{**values, **changes})


CURVES = [{"epoch": e, "losses": {"lm": 3.0 / e}, "validation": {"example_f1": 0.1 * e}} for e in (1, 2, 3)]
RUN = {"name": "a run", "seed": 7, "dataset": "phantom", "split": "val", "knowledge": {"labels": "rules-v3"}}


def test_page_shows_every_sample_and_every_entry_of_the_run(tmp_path, evaluation):
    cards = [card(f"study-{i}") for i in range(9)]
    report.write_report(tmp_path, evaluation, RUN, cards, CURVES)
    page = (tmp_path / "report.html").read_text()
    for i in range(9):
        assert page.count(f"<b>study-{i}</b>") == 1 and f"neighbour of study-{i}" in page
    assert page.count("<figure>") == 3 * 9
    for text in ("a run", "rules-v3", "phantom val", "Not a medical device", "medoid report", "distance 0.250",
                 "cardiomegaly: positive", evaluation.signature, *COLUMNS):  # fmt: skip
        assert text in page, text
    assert "n/a" in page  # METEOR


def test_page_is_self_contained(tmp_path, evaluation):
    report.write_report(tmp_path, evaluation, RUN, [card("one")], CURVES)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(|\son\w+=", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # no script, not even inline
    assert all(href.startswith("#sample-") for href in re.findall(r'href="([^"]*)', page))
    assert all(src.startswith("data:image/png;base64,") for src in re.findall(r'src="([^"]*)', page))


def test_every_text_from_outside_is_escaped(tmp_path, evaluation):
    evaluation.notes.append(EVIL)
    evaluation.ids[0] = evaluation.signature = EVIL
    for rows in (evaluation.rows, evaluation.intervals, evaluation.comparisons):
        rows[EVIL] = rows[OTHER]
    row = evaluation.published[0]
    evaluation.published = [
        replace(row, **dict.fromkeys(("system", "venue", "dataset", "split", "protocol", "table"), EVIL)),
        replace(row, figures={"BERTScore": 0.5}, protocol=EVIL),
    ]
    evaluation.model["advanced"] = {"BERTScore": 0.4, EVIL: 0.1}
    fields = ("id", "reference", "hypothesis", "retrieved_report", "retrieved_id", "sentence", "entity")
    evil = card("x", **dict.fromkeys(fields, EVIL), statuses={EVIL: EVIL})
    run = {"name": EVIL, "dataset": EVIL, EVIL: EVIL, "nested": {EVIL: [EVIL]}}
    curves = [{"epoch": 1, "losses": {"lm": 1.0, EVIL: 1.0}, "validation": {EVIL: EVIL}}]
    page = page_of(tmp_path, evaluation, run, [evil], curves, [PageSection(EVIL, EVIL)])
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'alt="[^"]*"[^ >]', page)  # no attribute was ended from inside


def test_the_system_s_own_name_is_escaped(tmp_path, evaluation):
    for rows in (evaluation.rows, evaluation.intervals):
        rows[EVIL] = rows.pop(evaluation.name)
    evaluation.name = EVIL
    assert "<script" not in page_of(tmp_path, evaluation)


class Tags(HTMLParser):
    """Raises where an element is closed that is not the innermost open one."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()


def test_every_element_of_the_page_is_closed_in_order(tmp_path, evaluation):
    tags = Tags()
    tags.feed(page_of(tmp_path, evaluation, RUN, [card("s0")], CURVES))
    assert tags.open == []


def lines_of(page: str, kind: str) -> list[str]:
    return re.findall(rf'<tr class="{kind}">.*?</tr>', page, re.DOTALL)


def text_of(markup: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", markup).split()))


def test_rows_are_told_apart_by_what_they_saw(evaluation):
    kinds = {name: kind_of(evaluation, name) for name in evaluation.rows}
    assert kinds["REVTAF"] == "model" and kinds[OTHER] == "other" and kinds[floors.NEAREST] == "oracle"
    for name in (floors.MOST_FREQUENT, floors.MEDOID, floors.RANDOM, floors.ALWAYS_NO_FINDING):
        assert kinds[name] == "blind", name
    assert [kind for name, kind in kinds.items() if name.startswith("always the top")] == ["oracle"]


def test_score_table_has_every_row_once_and_an_oracle_is_never_the_best(tmp_path, evaluation):
    page = page_of(tmp_path, evaluation)
    table = page[page.index('<table class="scores">') : page.index("</table>")]
    names = [text_of(name) for name in re.findall(r'<th scope="row">(.*?)</th>', table)]
    ours = ["REVTAF", "each report once (3)", *list(evaluation.rows)[1:]]
    papers = [" ".join(f"{row.system} paper {row.venue}".split()) for row in evaluation.published]
    assert names == ours + papers
    assert not any("best" in line for kind in ("oracle", "paper", "study") for line in lines_of(table, kind))
    assert 'class="best"' in table
    for line in lines_of(table, "blind"):
        if "always" in line:  # statuses alone have no text to score
            assert text_of(line).count("n/a") == 8  # the seven text metrics, and so Avg


def test_the_system_s_intervals_stand_below_its_scores(tmp_path, evaluation):
    line = lines_of(page_of(tmp_path, evaluation), "model")[0]
    for kind, key in COLUMNS.values():
        if evaluation.model[kind].get(key) is not None:
            small = limits(evaluation.intervals["REVTAF"][key])
            assert f"<span>{evaluation.model[kind][key]:.3f}</span>{f'<small>{small}</small>' * bool(small)}" in line
    assert "<small>" in line


def test_each_point_of_the_interval_figure_says_its_row_and_numbers(tmp_path, evaluation):
    page = page_of(tmp_path, evaluation)
    text, clinical = re.findall(r'<svg class="intervals".*?</svg>', page, re.DOTALL)
    found = evaluation.intervals[OTHER]["ROUGE_L"]
    assert f"<title>{OTHER}: {found.value:.3f} ({found.low:.3f} to {found.high:.3f})</title>" in text
    assert "METEOR" not in text  # without Java there is nothing to draw
    assert "always" not in text and clinical.count("always") >= 2 * 3  # two rows of statuses, three panels
    for figure in (text, clinical):
        assert all(0 <= float(x) <= 1060 for x in re.findall(r'(?:cx|x1|x2)="([^"]*)"', figure))


def test_comparisons_show_the_difference_and_holm_s_p(tmp_path, evaluation):
    row = evaluation.comparisons[OTHER]
    row["ROUGE_L"] = replace(row["ROUGE_L"], difference=-0.0124, p_holm=0.0316)
    row["CIDEr"] = replace(row["CIDEr"], difference=0.5, p_holm=0.0004)
    row["macro_f1"] = replace(row["macro_f1"], difference=float("nan"), p_holm=float("nan"))
    row["micro_f1"] = replace(row["micro_f1"], difference=0.1, p_holm=1.0)
    page = page_of(tmp_path, evaluation)
    line = lines_of(page[page.index("REVTAF minus each row") :], "other")[0]
    assert '<td class="significant"><span>\u22120.012</span><small>p .032</small></td>' in line
    assert '<td class="significant"><span>+0.500</span><small>p &lt; .001</small></td>' in line
    assert "<td><span>+0.100</span><small>p 1.000</small></td>" in line and line.count("n/a") == 1


def test_verdict_names_what_may_be_chance(tmp_path, evaluation):
    blind = [name for name in evaluation.rows if kind_of(evaluation, name) == "blind"]
    for name in blind:
        for key in ("BLEU_1", "BLEU_2", "BLEU_3"):
            evaluation.rows[name]["nlg"][key] = 0.5 if evaluation.rows[name]["nlg"][key] is not None else None
            if key in evaluation.comparisons.get(name, {}):
                p_holm = 0.2 if (key, name) == ("BLEU_2", floors.MEDOID) else 0.01
                evaluation.comparisons[name][key] = replace(evaluation.comparisons[name][key], p_holm=p_holm)
        evaluation.rows[name]["nlg"]["BLEU_4"] = 0.5 if evaluation.rows[name]["nlg"]["BLEU_4"] is not None else None
        evaluation.comparisons.get(name, {}).pop("BLEU_4", None)
    evaluation.rows[floors.NEAREST]["nlg"]["BLEU_1"] = 0.9  # an oracle is no rival
    evaluation.model["nlg"].update(BLEU_1=0.6, BLEU_2=0.6, BLEU_3=0.5, BLEU_4=0.6)
    verdict = re.search(r'class="verdict">(.*?)</p>', page_of(tmp_path, evaluation)).group(1)
    assert re.search(r"above every row without an image on [^(]*BLEU-1[^(]*\(", verdict)
    assert re.search(r"above them on [^;]*BLEU-2[^;]*may be chance", verdict)
    assert re.search(r"above them on [^;]*BLEU-4[^;]*not tested", verdict)
    assert re.search(r"not above them on [^;]*BLEU-3", verdict)


def test_published_rows_are_marked_and_carry_source_and_protocol(tmp_path, evaluation):
    page = page_of(tmp_path, evaluation)
    assert len(lines_of(page, "paper")) == len(evaluation.published) and len(lines_of(page, "source")) == 1
    source = text_of(lines_of(page, "source")[0])
    row = evaluation.published[0]
    assert row.origin in source and row.split in source and row.protocol.split(",")[0] in source
    line = text_of(lines_of(page, "paper")[0])
    assert f"{row.figures['precision']:.3f}" in line and f"{row.figures['avg']:.3f}" in line
    evaluation.published = []
    assert "paper</span>" not in page_of(tmp_path, evaluation)


def test_published_model_based_figures_stand_beside_ours_only_where_we_have_the_metric(tmp_path, evaluation):
    evaluation.published = published.rows("mimic_cxr", table="Table 5")
    assert "MedVersa" not in page_of(tmp_path, evaluation)
    evaluation.model["advanced"] = {"BERTScore": 0.4321}
    page = page_of(tmp_path, evaluation)
    assert "<span>0.432</span>" in page and len(lines_of(page, "paper")) == len(evaluation.published)


def test_without_resampling_there_is_neither_figure_nor_test(tmp_path, evaluation):
    evaluation.intervals, evaluation.comparisons, evaluation.study_level = {}, {}, None
    page = page_of(tmp_path, evaluation)
    for text in ("95 % interval", 'class="intervals"', "minus each row", "each report once", "by chance"):
        assert text not in page, text


def test_every_category_shows_its_counts_and_all_sixteen_confusions(tmp_path, evaluation):
    page = page_of(tmp_path, evaluation)
    clinical = evaluation.model["clinical"]
    main = re.search(r'<table class="perclass">.*?</table>', page, re.DOTALL).group()
    folded = re.search(r'<div class="confusion">.*?</div>', page, re.DOTALL).group()
    for category in CHEXPERT_CATEGORIES:
        line = text_of(next(p for p in main.split("<tr") if f'<th scope="row">{category}</th>' in p))
        counts = clinical["per_class_confusion"][category]
        assert line.endswith(f"{counts['tp']} {counts['fp']} {counts['fn']}")
        table = next(p for p in folded.split("<table>") if f"<caption>{category}</caption>" in p)
        rows = [text_of(row) for row in re.findall(r"<tr><th scope.*?</tr>", table)]
        expected = zip(STATUSES, clinical["confusion"][category], strict=True)
        assert rows == [f"{status} {' '.join(map(str, numbers))}" for status, numbers in expected]


def test_histogram_bars_are_as_high_as_their_counts_and_name_them(tmp_path, evaluation):
    counts = {"from": list(range(0, 151, 10)), "reference": [0] * 16, "hypothesis": [0] * 16}
    counts["reference"][2], counts["hypothesis"][2], counts["hypothesis"][15] = 8, 4, 2
    evaluation.lengths["length_histogram"] = counts
    drawn = re.search(r'<svg class="histogram".*?</svg>', page_of(tmp_path, evaluation), re.DOTALL).group()
    bars = re.findall(r'<rect class="(\w+)"[^>]*height="([^"]*)"><title>(.*?)</title>', drawn)
    heights = {(kind, said): float(height) for kind, height, said in bars}
    assert len(bars) == 2 * 14  # from the first bin in use to the last
    assert heights["reference", "20\u201329 words: 8"] == 2 * heights["hypothesis", "20\u201329 words: 4"] > 0
    assert heights["hypothesis", "150+ words: 2"] == heights["reference", "20\u201329 words: 8"] / 4


def test_tiles_say_that_copies_were_not_looked_for(tmp_path, evaluation):
    assert "no training reports given" not in page_of(tmp_path, evaluation)
    evaluation.lengths["share_copied_from_training"] = None
    assert "are a training report word for word (no training reports given)" in page_of(tmp_path, evaluation)


def test_samples_are_listed_worst_and_best_first_and_lead_to_their_card(tmp_path, evaluation):
    page = page_of(tmp_path, evaluation, cards=[card("other"), card("s2")])
    first = page[page.index('<details name="order" open>') :]
    worst, best = re.findall(r'<table class="listed">.*?</table>', first, re.DOTALL)[:2]
    order = [[text_of(name) for name in re.findall(r'<th scope="row">(.*?)</th>', part)] for part in (worst, best)]
    scores = dict(zip(evaluation.ids, evaluation.per_sample["ROUGE_L"], strict=True))
    assert order[0] == sorted(scores, key=lambda i: (scores[i], i))
    assert order[1] == sorted(scores, key=lambda i: (-scores[i], i))
    assert '<a href="#sample-2">s2</a>' in worst and "#sample-1" not in page
    assert page.index('id="sample-2"') < page.index("<b>s2</b>")


@pytest.mark.parametrize(("value", "text"), [(0.5, ".500"), (-0.25, "-.250"), (10.0, "10.000"), (1.04, "1.040")])
def test_only_a_leading_zero_is_left_out(value, text):
    assert without_zero(value) == text


def test_an_interval_without_width_is_not_shown():
    assert limits(Interval(0.0, 0.0, 0.0)) == limits(Interval(0.5, float("nan"), float("nan"))) == limits(None) == ""
    assert limits(Interval(0.5, 0.4, 0.625)) == ".400\u2013.625"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.231, 0.2389), (-0.3, 12), (0.02, 0.7), (0, 1234)])
def test_ticks_are_round_distinct_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 5 and len({text for _, text in found}) == len(found)
    for value, text in found:
        assert low - 1e-9 <= value <= high + 1e-9 and float(text) == pytest.approx(value, abs=1e-12)


def test_report_json_holds_the_run_and_all_numbers(tmp_path, evaluation):
    run = {**RUN, "versions": {"torch": "2"}, "value": np.float32(0.5), "folder": tmp_path, "bad": float("nan")}
    report.write_report(tmp_path, evaluation, run, [card("one")], CURVES)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["run"]["seed"] == 7 and content["run"]["value"] == 0.5 and content["run"]["bad"] is None
    assert content["metrics"]["REVTAF"]["nlg"] == pytest.approx(evaluation.model["nlg"])
    assert content["samples"] == ["one"] and content["notes"] == evaluation.notes
    assert content["signature"] == evaluation.signature
    assert content["intervals"]["REVTAF"]["ROUGE_L"]["low"] == evaluation.intervals["REVTAF"]["ROUGE_L"].low
    assert content["comparisons"].keys() == evaluation.comparisons.keys()
    assert content["study_level"]["n"] == 3 and len(content["published"]) == len(evaluation.published)


def test_a_failure_leaves_no_file(tmp_path, evaluation, monkeypatch):
    with pytest.raises(ValueError, match="sample broken: expected a"):
        report.write_report(tmp_path, evaluation, RUN, [card("broken", image=np.zeros((4, 4, 3)))], [])
    assert list(tmp_path.iterdir()) == []

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report, "write_json", full)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(tmp_path, evaluation, RUN, [card("fine")], [])
    # These are complete in themselves; of the page and its numbers there is neither, nor a part of one.
    left = {"table.md", "table.tex", "per_sample.csv", kept.FILE}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_system_draws_its_own_sections_below_the_samples(tmp_path, evaluation):
    own = [
        PageSection("Where & what", Markup("<p>{}</p>").format("<i>a name</i>")),
        PageSection(EVIL, "<b>plain text</b>"),
    ]
    page = page_of(tmp_path, evaluation, cards=[card("s0")], sections=own)
    assert "<h2>Where &amp; what</h2>\n<p>&lt;i&gt;a name&lt;/i&gt;</p>" in page  # its markup, and what it fills in
    assert "&lt;b&gt;plain text&lt;/b&gt;" in page and "<script" not in page  # a body that is no markup is text
    assert (
        page.index('id="sample-1"')
        < page.index("Where &amp; what")
        < page.index("<h2>&lt;script")
        < page.index("<footer")
    )
    assert page.count("<section>") == page_of(tmp_path, evaluation).count("<section>") + 2


def test_missing_maps_samples_and_curves_are_said(tmp_path, evaluation):
    bare = card("bare", sentence_map=None, entity_map=np.full((7, 7), np.nan), hypothesis="", statuses={},
                  retrieval_distance=None, retrieved_id="", retrieved_report="")  # fmt: skip
    report.write_report(tmp_path, evaluation, {}, [bare], [])
    page = (tmp_path / "report.html").read_text()
    assert page.count("no map") == 2 and "all blank" in page and "<i>empty</i>" in page
    assert "No training record was given." in page
    report.write_report(tmp_path, evaluation, {}, [], [])
    assert "No samples were given." in (tmp_path / "report.html").read_text()


def test_page_is_silent_about_parts_that_a_system_does_not_have(tmp_path, evaluation):
    image = np.zeros((56, 56), np.uint8)
    page = page_of(tmp_path, evaluation, cards=[Card("of another system", image, "the lungs are clear.", "clear.")])
    samples = page[page.index('id="sample-1"') :].split("</article>")[0]
    assert samples.count("<figure>") == 1 and samples.count("<h3>") == 2
    for absent in ("no map", "all blank", "<i>empty</i>", "Disease prompts", "Retrieved", "Maps are weights"):
        assert absent not in samples, absent
    assert "Maps are weights" not in page


def test_highlighting_marks_the_same_sentence_and_shared_words_only(tmp_path, evaluation):
    report.write_report(tmp_path, evaluation, RUN, [card("one")], [])
    page = (tmp_path / "report.html").read_text()
    assert '<span class="same">lungs are clear.</span>' in page
    assert "<mark>heart</mark> is normal." in page  # shared with "heart is enlarged"
    assert "no effusion." in page  # nothing shared, nothing marked


@pytest.mark.parametrize("reference", ["Heart is enlarged.", "script alert seen.", EVIL])
def test_highlighted_text_is_escaped_whatever_it_shares(tmp_path, evaluation, reference):
    page = page_of(tmp_path, evaluation, cards=[card("one", hypothesis=EVIL, reference=reference)])
    shown = page[page.index("<h3>Generated") : page.index("<h3>Retrieved")]
    tags = set(re.findall(r"<[^>]*>", shown)) - {
        "<h3>",
        "</h3>",
        "<small>",
        "</small>",
        "<p>",
        "</p>",
        "<div>",
        "</div>",
    }
    assert tags <= {"<mark>", "</mark>", '<span class="same">', "</span>"}


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


def test_tables_are_aligned_and_complete(evaluation):
    lines = report.table_text(evaluation).split("\n")
    rows = len(evaluation.rows) + len(evaluation.published)
    size = 3 + rows  # with the header, its rule and the intervals of the system
    assert len({len(line) for line in lines[:size]}) == 1
    assert lines[0].split() == [*COLUMNS, "Avg"] and "n/a" in lines[2] and lines[2].startswith("REVTAF")
    end = size + len(said := evaluation.said())
    assert lines[size:end] == said and "No finding" in said[0]
    assert lines[end] == evaluation.signature and all(line.startswith("note: ") for line in lines[end + 1 :])
    markdown = report.table_markdown(evaluation).split("\n")
    assert {line.count("|") for line in markdown[:size]} == {len(COLUMNS) + 3}
    assert all(any(line.startswith(name) for line in lines[:size]) for name in evaluation.rows)
