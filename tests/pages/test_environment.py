"""Templates: every value is escaped in every one of them, and a name without a value is an error."""

import re
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from jinja2 import UndefinedError, nodes

from revtaf.ablation.examples import Example
from revtaf.eval.evaluate import COLUMNS
from revtaf.generate.page import Upload
from revtaf.pages import page
from revtaf.pages.cards import Card, Piece
from revtaf.pages.environment import environment, fill
from revtaf.pages.section import PageSection
from revtaf.search.page import ShownAnswer, ShownHit

EVIL = "\"'><script>alert(1 & 2)</script>{{ title }}"
KEPT = ("", "same", "shared", "model", "missing", "from", "to", "mean", "n")  # branches and keys of the templates
STYLE = 'red"></style><script>'
EXAMPLES = {
    "title": EVIL,
    "where": EVIL,
    "columns": STYLE,
    "examples": [Example(EVIL, EVIL, {"": [Piece(EVIL)], EVIL: [Piece(EVIL, STYLE), Piece(EVIL)]})],
}
HITS = [ShownHit(1, 0.5, EVIL, EVIL, source, [Piece(EVIL, "same"), Piece(EVIL)], EVIL) for source in ("", EVIL)]
SEARCH = {
    "title": EVIL,
    "notice": EVIL,
    "facts": [(EVIL, EVIL)],
    "answers": [ShownAnswer(asked, EVIL, [Piece(EVIL, "shared")], EVIL, EVIL, EVIL, HITS) for asked in ("", EVIL)],
}

GENERATE = {
    "title": EVIL,
    "notice": EVIL,
    "facts": [(EVIL, EVIL)],
    "upload": Upload(EVIL, EVIL),
    "scripts": ["view.js", "gallery.js", "upload.js"],
    "hashes": [EVIL],
    "ramp": EVIL,
    "records": [EVIL],
}


def hostile(value):
    """The same value with every text in it replaced; what chooses a branch of a template stays."""
    if isinstance(value, str):
        return value if value in KEPT else EVIL
    if isinstance(value, dict):
        return {hostile(name): hostile(found) for name, found in value.items()}
    if isinstance(value, tuple):
        found = [hostile(part) for part in value]
        return type(value)(*found) if hasattr(value, "_fields") else tuple(found)
    if isinstance(value, list):
        return [hostile(part) for part in value]
    if is_dataclass(value):
        return replace(value, **{f.name: hostile(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


@pytest.fixture
def values(evaluation, monkeypatch) -> dict:
    """What report.html is filled with."""
    found = {}
    monkeypatch.setattr(page, "fill", lambda template, **given: found.update(given))
    evaluation.model["advanced"] = {"RadCliQ_v1": 1.0}
    image, weights = np.zeros((8, 8), dtype=np.uint8), np.eye(2)
    card = Card("s0", image, "a b. c d.", "a b. c e.", "a text", "its id", 0.5, {"a category": "positive"})
    card = replace(card, sentence="a sentence", sentence_map=weights)
    curves = [{"epoch": 1, "losses": {"a": 1.0}}]
    page.render(evaluation, {"name": "a run"}, [card], curves, COLUMNS, [PageSection("a title", "a body")])
    return found


def test_every_template_escapes_every_value(values):
    """All templates are filled with hostile text in every place; a new one that is not filled here fails."""
    environment.cache_clear()
    evil = {k: hostile(v) for k, v in values.items()}
    pages = [fill(name, **evil) for name in ("report.html", "rankings.html")]
    pages += [fill("examples.html", **EXAMPLES), fill("search.html", **SEARCH)]
    scripted = fill("generate.html", **GENERATE)
    loaded = {name for _, name in environment().cache.keys()}
    assert loaded == set(environment().list_templates())
    without_own, scripts = re.subn(r"^<script>.*?</script>$", "", scripted, flags=re.M | re.S)
    assert scripts == len(GENERATE["scripts"])
    for text in (*pages, without_own):
        assert "<script" not in text and "&lt;script&gt;" in text and "{{ title }}" in text
        assert text.count("<style") == text.count("</style") == 1
        assert not re.search(r'="[^"]*"[^ >/]', text[text.index("</style>") :])  # no attribute was ended from inside


def test_no_template_turns_escaping_off():
    for name in environment().list_templates():
        tree = environment().parse(environment().loader.get_source(environment(), name)[0])
        assert not [
            f.name for f in tree.find_all(nodes.Filter) if f.name in ("safe", "forceescape", "xmlattr", "tojson")
        ]
        assert not list(tree.find_all((nodes.ScopedEvalContextModifier, nodes.EvalContextModifier)))


def test_a_value_that_is_missing_is_an_error(values):
    """Each value of a page is used, and none has a silent default."""
    for template, given in (
        ("report.html", values),
        ("examples.html", EXAMPLES),
        ("search.html", SEARCH),
        ("generate.html", GENERATE),
    ):
        for name in given:
            rest = {other: value for other, value in given.items() if other != name}
            with pytest.raises(UndefinedError, match=f"'{name}' is undefined"):
                fill(template, **rest)


def test_a_field_that_does_not_exist_is_an_error(values):
    with pytest.raises(UndefinedError, match="'str object' has no attribute 'body'"):
        fill("report.html", **values | {"sections": ["no section"]})


def test_text_is_not_read_as_a_template():
    text = fill("examples.html", **EXAMPLES | {"where": "{{ 6 * 7 }} {% raw %}"})
    assert "{{ 6 * 7 }} {% raw %}" in text
