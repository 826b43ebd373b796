"""No text from outside is alive in any page: each is opened in a browser that ignores the page's own policy."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from search.made import material, unit

from revtaf.commands.serve import listening, server_of
from revtaf.errors import UserError
from revtaf.generate.page import write_page
from revtaf.generate.result import ImageReport, RetrievedReport, StatusAnswer, TextAttention
from revtaf.generate.serve import LOCAL, make_app
from revtaf.pages.cards import Card
from revtaf.pages.report import write_report
from revtaf.search.answers import answers_of, match_words
from revtaf.search.build import create
from revtaf.search.index import REPORTS
from revtaf.search.page import render

PAYLOADS = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    '"><svg onload="window.hit = 1">',
    "' autofocus onfocus='window.hit = 1' x='",
    "</template></script></style></title><!--><script>window.hit = 1</script>",
    "javascript:window.hit=1",
    "{{ 7 * 7 }}${window.hit = 1}<iframe srcdoc='<script>parent.hit = 1</script>'>",
    "]]><details open ontoggle='window.hit = 1'>\u2028\u202e",
]
EVIL = " ".join(PAYLOADS)
CARRIED = "[onerror], [onload], [onfocus], [ontoggle], [srcdoc], [href^='javascript:']"


@pytest.fixture
def lenient(browser):
    """A tab that runs whatever a page holds, its policy set aside."""
    context = browser.new_context(bypass_csp=True)
    yield context.new_page()
    context.close()


def dead(tab, address: str) -> bool:
    """Whether nothing of the payloads became part of the page, after its scripts and images had their time."""
    tab.goto(address)
    tab.wait_for_timeout(150)
    return tab.evaluate(f"window.hit === undefined && !document.querySelector({CARRIED!r})")


def test_the_test_sees_what_is_alive(lenient, tmp_path):
    """Each payload that is put into a page as it is runs, or is found; else this file would prove nothing."""
    for i, payload in enumerate(PAYLOADS):
        context = f"<a href='{payload}'>" if payload.startswith("javascript") else f"<input value='{payload}'>{payload}"
        (tmp_path / f"{i}.html").write_text(f"<!doctype html><meta charset=utf-8>{context}")
        assert not dead(lenient, (tmp_path / f"{i}.html").as_uri()), payload


def test_the_report_of_a_test(lenient, tmp_path, evaluation):
    """Ids, texts, names of systems and runs, notes, curves."""
    evaluation.notes.append(EVIL)
    evaluation.ids[0] = evaluation.signature = EVIL
    for rows in (evaluation.rows, evaluation.intervals, evaluation.comparisons):
        rows[EVIL] = rows["another system"]
    fields = ("system", "venue", "dataset", "split", "protocol", "table")
    evaluation.published = [replace(evaluation.published[0], **dict.fromkeys(fields, EVIL))]
    texts = ("id", "reference", "hypothesis", "retrieved_report", "retrieved_id", "sentence", "entity")
    film = np.zeros((56, 56), np.uint8)
    card = Card(**dict.fromkeys(texts, EVIL), image=film, statuses={EVIL: EVIL}, retrieval_distance=0.1)
    curves = [{"epoch": 1, "losses": {EVIL: 1.0}, "validation": {EVIL: 0.1}}]
    write_report(tmp_path, evaluation, {"name": EVIL, EVIL: {EVIL: EVIL}}, [card], curves)
    assert dead(lenient, (tmp_path / "report.html").as_uri())


def test_the_page_of_a_search(lenient, tmp_path):
    """The index's texts, ids, patients, file names, and the question."""
    made = material(rows=6, width=8)
    for record in made.galleries[REPORTS].records:
        record |= {"id": EVIL, "study": EVIL, "text": EVIL, "images": [EVIL]}
    index = create(tmp_path / "index", made)
    found = index.search(REPORTS, unit(1, 8), 3)
    answers = answers_of(index, REPORTS, [{"text": EVIL}], found, [EVIL])
    match_words(answers)
    (tmp_path / "page.html").write_text(render(answers, index), encoding="utf-8")
    assert dead(lenient, (tmp_path / "page.html").as_uri())


def hostile_report() -> ImageReport:
    """Every text of it is a payload."""
    return ImageReport(
        image=Path(EVIL.replace("/", "")),
        picture=Image.new("L", (64, 64)),
        report=EVIL,
        statuses=(
            StatusAnswer(EVIL, "positive", {"positive": 1.0}),
            StatusAnswer("edema", EVIL, {EVIL: 1.0}, given=True),
        ),
        retrieved=(RetrievedReport(EVIL, 0.5, EVIL),),
        attention=(TextAttention(EVIL, "sentence", np.full((7, 7), 0.1, np.float32)),),
        clues=((EVIL, 0.5),),
        warnings=(EVIL,),
        reference=EVIL,
        scores={EVIL: 0.5},
    )


def test_the_page_of_generated_reports_and_the_notebook(lenient, tmp_path):
    """Also once a card is opened; and what a notebook shows of a report."""
    write_page([hostile_report(), hostile_report()], tmp_path / "page.html", EVIL, {EVIL: EVIL})
    assert dead(lenient, (tmp_path / "page.html").as_uri())
    lenient.locator("#cards .name").first.click()
    lenient.wait_for_timeout(100)
    assert lenient.evaluate(f"window.hit === undefined && !document.querySelector({CARRIED!r})")
    shown = f"<!doctype html><meta charset=utf-8>{hostile_report()._repr_html_()}"
    (tmp_path / "notebook.html").write_text(shown, encoding="utf-8")
    assert dead(lenient, (tmp_path / "notebook.html").as_uri())


class HostileSystem:
    """Writes payloads, and refuses with them."""

    def report(self, image, statuses=None) -> ImageReport:
        if Image.open(image).size == (20, 20):
            raise UserError(f"{image}: {EVIL}")
        return hostile_report()


def test_the_served_page(lenient, tmp_path):
    """Reports, file names and refusals of uploads."""
    app = make_app(HostileSystem(), EVIL, {EVIL: EVIL}, 1 << 20, LOCAL)
    socket = listening("127.0.0.1", 0)
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        assert dead(lenient, f"http://127.0.0.1:{socket.getsockname()[1]}/")
        good, bad = (tmp_path / f"<img src=x onerror='window.hit = 1'>{name}.png" for name in ("good", "bad"))
        Image.new("L", (64, 64)).save(good)
        Image.new("L", (20, 20)).save(bad)
        lenient.locator("#file").set_input_files([good, bad])
        lenient.locator("#failed li").wait_for()
        lenient.locator(".written").first.wait_for(state="attached")
        lenient.wait_for_timeout(100)
        assert lenient.evaluate(f"window.hit === undefined && !document.querySelector({CARRIED!r})")
    finally:
        server.should_exit = True
        thread.join(timeout=10)
