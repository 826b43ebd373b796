"""The page of `generate`, as a reader uses it: in a headless browser, from a file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from revtaf.generate.page import view, write_page
from revtaf.generate.result import ImageReport, RetrievedReport, StatusAnswer, TextAttention

HOSTILE = (
    "</template></script><!-- <script>window.hit = 1</script><img src=x onerror='window.hit = 1'> \u2028 {{ 7 * 7 }}"
)


def spot(row: int, column: int) -> np.ndarray:
    """A map of 7 x 7 patches that looks at one of them."""
    weights = np.zeros((7, 7), dtype=np.float32)
    weights[row, column] = 0.3
    return weights


def status(category: str, name: str, positive: float, given: bool = False) -> StatusAnswer:
    rest = (1 - positive) / 3
    return StatusAnswer(
        category, name, {"blank": rest, "positive": positive, "negative": rest, "uncertain": rest}, given
    )


def made(name: str, text: str, positive: float = 0.1, **more) -> ImageReport:
    """A report with two maps and two statuses; edema is positive from 0.5."""
    found = status("edema", "positive" if positive >= 0.5 else "blank", positive)
    return ImageReport(
        image=Path(name),
        picture=Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))),
        report=text,
        statuses=(found, status("pneumonia", "negative", 0.2, given=True)),
        retrieved=(RetrievedReport("s7", 0.25, "Heart size is normal. No pneumothorax."),),
        attention=(
            TextAttention("heart size is normal", "sentence", spot(0, 0)),
            TextAttention("effusion", "entity", spot(6, 6)),
        ),
        **more,
    )


@pytest.fixture
def opened(tab, tmp_path):
    """Opens the page of some reports; returns the tab."""

    def show(*reports: ImageReport, fragment: str = ""):
        path = tmp_path / "a page.html"
        write_page(reports, path, "a title", {"model": "a model"})
        tab.goto(path.as_uri() + fragment)
        return tab

    return show


def corners(page) -> list[int]:
    """How opaque the overlay is in the top left and in the bottom right corner, 0 to 255."""
    return page.evaluate(
        """() => { const canvas = document.querySelector(".pane canvas"), pixels = canvas.getContext("2d");
        const ends = [[0, 0], [canvas.width - 1, canvas.height - 1]];
        return ends.map(([x, y]) => pixels.getImageData(x, y, 1, 1).data[3]); }"""
    )


def names(page) -> list[str]:
    """Not the inner texts: those of a card that is not drawn yet are empty."""
    return [text.strip() for text in page.locator("#cards .name").all_text_contents()]


def test_a_text_that_is_chosen_shows_where_the_model_looked(opened):
    """By click and by arrow key; the slider makes the overlay fainter, and the first choice takes it away."""
    page = opened(made("film.png", "heart size is normal ."))
    assert corners(page) == [0, 0]
    page.locator(".choices.sentence .choice").click()
    page.mouse.move(0, 0)
    sentence = corners(page)
    assert sentence[0] > 2 * sentence[1] > 0
    assert "heart size is normal" in page.locator(".caption").inner_text()
    page.keyboard.press("ArrowDown")
    entity = corners(page)
    assert entity[1] > 2 * entity[0] and "effusion" in page.locator(".caption").inner_text()
    page.locator(".strength input").fill("0")
    assert corners(page) == [0, 0]
    page.locator(".strength input").fill("100")
    assert corners(page)[1] == 255
    page.get_by_role("radio", name="No overlay").check(force=True)  # it has scrolled below the picture, which stays
    assert corners(page) == [0, 0] and page.locator(".strength input").is_disabled()


def test_hostile_text_stays_text(opened):
    """In every place that a text can come to, and without a script of its own; both on the card and in the view."""
    evil = made(
        f"{HOSTILE.replace('/', '|')}.png",
        HOSTILE,
        warnings=(HOSTILE,),
        reference=HOSTILE,
        scores={HOSTILE: 0.5},
        clues=((HOSTILE, 0.5),),
    )
    evil = replace(
        evil,
        statuses=(replace(evil.statuses[0], category=HOSTILE, status="positive"),),
        retrieved=(RetrievedReport(HOSTILE, 0.1, HOSTILE),) * 2,
        attention=(TextAttention(HOSTILE, "sentence", spot(0, 0)), TextAttention(HOSTILE, "entity", spot(0, 0))),
    )
    page = opened(evil, made("other.png", "lungs clear ."))
    assert "<script>window.hit" in page.locator("#cards .start").first.inner_text()
    page.locator("#cards a").first.click()
    for place in (".written .text", ".columns .text >> nth=0", ".choices.sentence", ".choices.entity", ".warning"):
        assert "<script>window.hit = 1</script><img src=x" in page.locator(place).inner_text(), place
    assert page.locator("#view .statuses").first.inner_text().count("window.hit") == 2
    assert page.locator("#view script, #view img[onerror], #cards script").count() == 0
    assert page.locator("script").count() == 2 and page.evaluate("window.hit") is None


def test_only_the_scripts_of_the_page_run(opened):
    """The policy holds even where a text would have got out of its element."""
    page = opened(made("film.png", "lungs clear ."))
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))"
    )
    assert page.evaluate("window.hit") is None


def test_filters_leave_what_fits(opened):
    page = opened(
        made("a.png", "lungs clear .", 0.1, scores={"BLEU-4": 0.2}),
        made("b.png", "there is edema .", 0.9, scores={"BLEU-4": 0.8}),
        made("c.png", "there is edema and an effusion .", 0.6),
    )
    assert names(page) == ["a.png", "b.png", "c.png"]
    page.get_by_label("Search").fill("edema EFFUSION")
    assert names(page) == ["c.png"] and page.locator("#count").inner_text() == "1 of 3 images"
    page.get_by_role("button", name="Show all").click()
    page.locator("#finding").select_option("edema")
    assert names(page) == ["b.png", "c.png"]
    page.locator("#least").fill("0.5")
    assert names(page) == ["b.png"]  # c.png has no score
    page.locator("#finding").select_option("")
    page.locator("#least").fill("")
    page.locator("#most").fill("0.5")
    assert names(page) == ["a.png"]


def test_sorting_orders_by_score_and_by_name(opened):
    """Numbers within names count as numbers; what has no score stands last, whichever way."""
    page = opened(
        made("film 10.png", "x .", scores={"ROUGE-L": 0.5}),
        made("film 9.png", "x .", scores={}),
        made("film 2.png", "x .", scores={"ROUGE-L": -1.5}),
    )
    for order, expected in (("name", [2, 9, 10]), ("high ROUGE-L", [10, 2, 9]), ("low ROUGE-L", [2, 10, 9])):
        page.locator("#sort").select_option(order)
        assert names(page) == [f"film {number}.png" for number in expected]


def test_the_gallery_is_walked_by_keys(opened):
    """One stop of the tab key, arrows from card to card, Enter opens, Escape leads back to the same card."""
    page = opened(*(made(f"{i}.png", "x .") for i in range(9)))
    focused = "document.activeElement.querySelector('.name')?.textContent"
    page.locator("#sort").focus()
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "0.png"
    in_a_row = page.evaluate(
        "[...cards.children].filter((card) => card.offsetTop === cards.firstChild.offsetTop).length"
    )
    for key, expected in (("ArrowRight", 1), ("ArrowDown", 1 + in_a_row), ("ArrowLeft", in_a_row), ("End", 8)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == f"{expected}.png"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="8.png").wait_for()
    page.get_by_role("link", name="Previous").click()
    page.get_by_role("heading", name="7.png").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function(f"{focused} === '7.png'")


def test_matching_phrases_have_one_colour_on_both_sides(opened):
    """With the reference where there is one, else with the retrieved report; a denial matches no assertion."""
    text = "the heart size is normal . there is a pneumothorax ."
    page = opened(made("film.png", text))
    assert page.locator(".written mark").all_inner_texts() == ["heart size", "normal"]
    assert "retrieved report" in page.locator(".written .note").inner_text()
    page = opened(made("film.png", text, reference="No effusion. There is a pneumothorax."))
    assert page.locator(".written mark").all_inner_texts() == ["pneumothorax"]
    colour = page.locator(".written mark").get_attribute("class")
    assert page.locator(f".columns mark.{colour}").all_inner_texts() == ["pneumothorax"]  # the retrieved one denies it


def test_statuses_say_what_was_decided_and_what_was_given(opened):
    page = opened(made("film.png", "x .", 0.82))
    rows = page.locator("#view .statuses li").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["edema", "P(positive)", "82", "%", "positive"],
        ["pneumonia", "P(positive)", "20", "%", "negative", "given"],
    ]


def test_a_report_without_reasons_is_shown(opened):
    """Of a system that has no statuses, retrieval or maps: picture and text."""
    bare = ImageReport(Path("film.png"), Image.new("L", (32, 32)), "lungs clear .", retrieved=())
    page = opened(bare)
    assert page.locator("#view").inner_text().split() == "film.png Generated report lungs clear.".split()
    page = opened(replace(bare, retrieved=(RetrievedReport("s1", None, None),)))
    assert "no report texts" in page.locator(".columns").inner_text()


def test_a_report_that_was_found_is_called_so(opened):
    """Of a system that writes nothing: the words are those of a training report, which match themselves everywhere."""
    text = "Heart size is normal. No pneumothorax."
    page = opened(made("film.png", text))
    assert page.locator("#view h3").first.inner_text() == "The nearest training report"
    assert not page.locator("#view mark").count() and page.locator("#view").inner_text().count(text) == 2
    page = opened(made("film.png", text, reference="No pneumothorax."))
    assert page.locator("#view mark").count()
    assert opened(made("film.png", "x .")).locator("#view h3").first.inner_text() == "Generated report"


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_is_wider_than_a_phone(opened, scheme):
    long = "p" * 60 + ".png"
    reports = [made(name, "x " * 90, 0.9, reference="y " * 50, scores={"ROUGE_L": 0.1}) for name in (long, "b.png")]
    page = opened(*reports)
    page.set_viewport_size({"width": 375, "height": 667})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.locator("#cards a").first.click()
    page.locator(".single").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == (scheme == "dark")


def test_every_page_says_what_it_is_not(opened):
    page = opened(made("film.png", "x ."))
    assert page.get_by_text("Not a medical device").count() == 2
    assert page.locator("footer dd").all_inner_texts() == ["a model"]


def test_an_image_takes_little_room():
    """A film of 224 pixels, with ten maps: some 20 kB, so that a thousand stay within what a browser opens at once."""
    grain = np.random.default_rng(0).normal(0, 2, (224, 224))
    film = Image.fromarray((128 + 90 * np.sin(np.arange(224) / 20)[:, None] + grain).clip(0, 255).astype(np.uint8))
    report = replace(made("film.png", "x . " * 60), picture=film)
    report = replace(report, attention=report.attention * 5)
    assert len(json.dumps(view(report))) < 25_000


def test_images_of_one_name_are_told_apart(opened, tmp_path):
    reports = [made(str(tmp_path / folder / "film.png"), "x .") for folder in ("one", "two")]
    assert names(opened(*reports)) == ["one/film.png", "two/film.png"]


def test_a_name_that_is_no_unicode_is_written(tmp_path):
    """As file systems allow: bytes that are no UTF-8 come as lone surrogates."""
    write_page([made("film\udcff.png", "x .")], tmp_path / "page.html", "a title", {})
    assert "film\\udcff.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_map_that_is_not_finite_is_an_error():
    broken = replace(made("film.png", "x ."), attention=(TextAttention("heart", "entity", spot(0, 0) * np.nan),))
    with pytest.raises(ValueError, match="'heart' has values that are not finite"):
        view(broken)
