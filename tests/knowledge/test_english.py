"""The labelers' own language is told from every other one, with room on both sides."""

import pytest
from languages import HIDDEN, LANGUAGES, TELEGRAPHIC

from revtaf.files import read_json
from revtaf.knowledge import english


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_other_language_is_taken_for_english(language):
    """Whatever names findings have in common, a third of the words stay unknown twice over."""
    reading = english.read(LANGUAGES[language])
    assert reading.foreign and reading.share < english.THRESHOLD / 2
    assert any(" ".join(text.split()).startswith(reading.example) for text in LANGUAGES[language])


@pytest.mark.parametrize("texts", [TELEGRAPHIC, HIDDEN, TELEGRAPHIC[:1] * 20, HIDDEN * 10])
def test_short_telegraphic_and_hidden_english_is_english(texts):
    assert not english.read(texts).foreign
    assert english.read(texts).share > english.THRESHOLD + 0.15


def test_of_a_few_words_nothing_is_said():
    assert not english.read([]).foreign and english.read([]).share == 1
    assert not english.read(["Normalbefund."]).foreign
    assert not english.read(["XXXX 12 ___ 3.4"]).foreign


def test_half_a_set_in_another_language_is_too_much():
    """The rules would invert every second report."""
    assert english.read(LANGUAGES["German"] + ["The lungs are clear. No pleural effusion."] * 4).foreign


def test_a_large_set_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr(english, "SAMPLE", 10)
    texts = ["The heart is normal."] * 50 + ["Das Herz ist unauffällig."] * 50
    reading = english.read(texts)
    assert reading.words == 40 and 0.4 < reading.share < 0.7


def test_iu_xray_is_english(shared_data):
    """Every one of its reports that is long enough to judge, too."""
    annotation = read_json(shared_data / "iu_xray" / "annotation.json")
    texts = [study["report"] for studies in annotation.values() for study in studies]
    assert english.read(texts).share > 0.97
    assert not [text for text in texts[::4] if english.read([text]).foreign]
