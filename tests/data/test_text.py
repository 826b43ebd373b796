"""Report cleaning: the published quirks, pinned, and the way back to sentences."""

import time

import pytest

from revtaf.data.text import (
    clean_report,
    readable,
    readable_sentences,
    says_nothing,
    sentences,
    split_raw_sentences,
)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("The heart is normal. Lungs are clear.", "the heart is normal . lungs are clear ."),
        ("A 2.5 cm nodule.", "a 25 cm nodule ."),  # the decimal point goes
        ("Lungs clear.There is no edema.", "lungs clearthere is no edema ."),  # and so does a glued full stop
        ("", " ."),
        ("   \n ", " ."),
        ("Well-expanded lungs.", "well-expanded lungs ."),  # hyphens stay
        ("1. Clear lungs. 2. Normal heart. 3. No edema.", "clear lungs . normal heart . no edema ."),
        ("Stable since T11. No change.", "stable since t1no change ."),  # "1. " is deleted anywhere
        ("Line one\nline two\r\nend.", "line one line two end ."),
        ("Seen by ___ at ____.", "seen by  at  ."),  # de-identified: a double blank remains
        ("Clear... No edema..", "clear . no edema ."),
        ("Is it \"free\" (of/from) 5% fluid; yes: [no] {x} 'y'?", "is it free offrom 5 fluid yes no x y ."),
        ("Clear. . Normal.", "clear .  . normal ."),  # blank sentences are kept
        ("No PNEUMOTHORAX", "no pneumothorax ."),
    ],
)
def test_published_quirks(raw, cleaned):
    assert clean_report(raw) == cleaned


def test_cut_after_the_first_100_words_ends_without_a_full_stop():
    text = clean_report(" ".join(f"w{i}" for i in range(150)) + ".")
    assert text.split(" ") == [f"w{i}" for i in range(100)]
    assert clean_report("a b c. d.", max_words=3) == "a b c"
    assert clean_report("word " * 150, max_words=None).endswith(" .")


def test_cleaning_twice_is_not_cleaning_once():
    """Why every text is cleaned exactly once: the second full stop leaves a blank, a word to ROUGE-L."""
    assert clean_report("Lungs are clear.") == "lungs are clear ."
    assert clean_report("lungs are clear .") == "lungs are clear  ."


@pytest.mark.parametrize("report", ["Heart normal. Lungs clear. No 2.5 cm mass.", "One.", "A b c. Well-expanded."])
def test_sentences_round_trip(report):
    cleaned = clean_report(report)
    parts = sentences(cleaned)
    assert " . ".join(parts) + " ." == cleaned
    assert [clean_report(p) for p in parts] == [f"{p} ." for p in parts]


def test_sentences_drops_blank_ones_and_keeps_the_cut_one():
    assert sentences("clear .  . normal .") == ["clear", "normal"]
    assert sentences("heart normal . lungs are") == ["heart normal", "lungs are"]
    assert sentences(" .") == [] and sentences("") == []


def test_raw_sentences_are_lower_case_and_unnumbered():
    assert split_raw_sentences("1. Clear Lungs. 2. Normal.") == ["clear lungs", "normal."]


@pytest.mark.parametrize(
    "report", ["Heart normal. Lungs\n are clear, no 2.5 cm mass.", "heart normal . lungs are clear ."]
)
def test_people_read_raw_cleaned_and_written_reports_alike(report):
    """Full stops stand next to their word and stay with their sentence; nothing is lost but blanks."""
    assert " ".join(readable_sentences(report)) == readable(report) == " ".join(report.split()).replace(" .", ".")
    assert len(readable_sentences(report)) == 2 and readable_sentences(" . . ") == []


EMPTY = """
 | . | ... | - | -- | … | • | ? | * * * | \u200b | [ ] | "" | ___ | ____ ___. | 0 | -1 | 1. | \t
nan | NaN. | None | NONE. | null | N/A | n.a. | N.A | N / A | #N/A | <NA> | NaT | #REF! | nil | None None
[blank] | (none) | <br> | &nbsp; | undefined | TBD | XXXX | XXXX, xxx. | [**Name**] | Dr. ___ | ___ M.D. | Missing.
Findings: | FINDINGS: None. | Findings: ___ | 1. None. | Intentionally left blank. | The findings are listed below.
See impression. | Please see impression below. | see findings/impression | See impresion. | See Imp. | As above | Ditto.
same | Same as above. | As dictated. | dictated | See report | see CT of the same day | Listed below. | See wet read.
None, see impression | None (see impression). | None see impression below | For findings, see impression.
<unk> <unk> | See CT abdomen and pelvis. | Exam cancelled. | Duplicate. | Dictated but not read. | See images in PACS.
END OF REPORT | No report. | No data available. | Report to follow. | Final report pending | Not dictated.
"""
FULL = """
Unchanged. | No change. | Stable. | Same as prior film. | Findings unchanged. | Same appearance as before. | Normal
No findings. | No acute findings. | No other findings. | None seen. | Nothing to report. | Not seen. | No. | Edema
See impression. Clear lungs. | As above, no edema. | See impression: pneumonia | None. Lungs are clear. | 1. Clear.
Missing left breast. | Compression. | Tube below the diaphragm | None of the lines is high. | See effusion above.
Keine Stauung. | 肺纹理清晰 | Blank lungs | Removed tube. | XXXX is enlarged. | No findings of edema in the chest.
"""


@pytest.mark.parametrize("line", EMPTY.strip("\n").split("\n"))
def test_what_says_nothing(line):
    """An empty cell, marks alone, a stand-in for a text, a way to another text: raw and cleaned."""
    assert not [text for text in line.split(" | ") if not (says_nothing(text) and says_nothing(clean_report(text)))]


def test_a_hidden_name_of_any_words_says_nothing():
    assert says_nothing("[**Hospital1 18**] [**2101-5-1**].") and not says_nothing("[**Hospital1 18**] Clear.")


@pytest.mark.parametrize("line", FULL.strip("\n").split("\n"))
def test_what_says_little_but_something(line):
    assert not [text for text in line.split(" | ") if says_nothing(text)]


@pytest.mark.parametrize("mark", ["same ", "no findings ", "x ", "see-", "- ", "none "])
def test_a_text_without_end_is_judged_at_once(mark):
    start = time.process_time()
    says_nothing(mark * 20_000)
    assert time.process_time() - start < 2
