"""Contractions and British words, as reports from anywhere write them: every kind with each of its marks."""

import pytest
from statuses import wrong

from revtaf.data.text import clean_report
from revtaf.knowledge.sentences import split_sentences

# A denial, with every apostrophe that keyboards, word processors and cleaning leave.
CONTRACTED = [
    ("There isn't a pneumothorax.", "x2"),
    ("There aren't any effusions.", "e2"),
    ("There wasn't an effusion.", "e2"),
    ("There weren't any fractures.", "f2"),
    ("There ain't no effusion.", "e2"),
    ("A pneumothorax hasn't been identified.", "x2"),
    ("Effusions haven't been seen.", "e2"),
    ("The film doesn't show consolidation.", "c2"),
    ("The images don't demonstrate edema.", "d2"),
    ("It didn't show a pneumothorax.", "x2"),
    ("There's no effusion.", "e2"),
    ("A pneumothorax isn't there.", "x2"),
    ("A pneumothorax can't be seen.", "x2"),
    ("I can't see a pneumothorax.", "x2"),
    ("We couldn't identify an effusion.", "e2"),
    ("A pneumothorax doesn't exist.", "x2"),
    ("An effusion is seen, but a pneumothorax isn't.", "e1 x2"),
    ("Pneumonia isn't likely.", "p2"),
    ("Pneumonia can't be excluded.", "p3"),
    ("Pneumonia shouldn't be excluded.", "p3"),
    ("It isn't clear whether there is pneumonia.", "p3"),
    ("The effusion hasn't resolved.", "e1"),
    ("Edema hasn't worsened.", "d1"),
    ("There isn't an interval change in the effusion.", "e1"),
    ("An effusion that wasn't seen previously.", "e1"),
    ("An effusion that wasn't present on the prior.", "e1"),
]
SPELT = [
    ("Interstitial oedema.", "d1"),
    ("OEDEMATOUS LUNGS", "d1"),
    ("Haemopneumothorax.", "x1"),
    ("Haemothoraces.", "e1"),
    ("Pyopneumothorax.", "x1"),
    ("Chylothorax.", "e1"),
    ("Empyaema.", "q1"),
    ("Osteopaenic bones.", "b1"),
    ("No pneumonic infiltrate.", "p2 o2"),
    ("Pneumonic consolidation.", "p1 c1"),
    ("Cardiac failure.", "d1"),
    ("No left ventricular failure.", "d2"),
    ("The CTR is increased.", "m1"),
    ("Heart size has normalised.", "m2"),
    ("The aorta is of normal calibre.", "t2"),
    ("Vertebral crush deformity.", "b1"),
    ("Heart: Borderline", "m3"),
    ("Tumour excluded.", "l2"),
    ("Pneumonia should be excluded.", "p3"),
    ("Paediatric orthopaedic rods.", "s1"),
]


@pytest.mark.parametrize("mark", ["'", "\u2019", "\u2018", "\u02bc", "\u2032", "\u00b4", "`", ""])
def test_a_contraction_is_read_with_every_apostrophe(mark):
    for report, expected in CONTRACTED:
        written = report.replace("'", mark)
        assert not wrong(written, expected), split_sentences(written)
        assert not wrong(clean_report(written), expected), split_sentences(clean_report(written))


@pytest.mark.parametrize(("report", "expected"), SPELT)
def test_a_british_word_is_read(report, expected):
    assert not wrong(report, expected), split_sentences(report)
    assert not wrong(clean_report(report), expected), split_sentences(clean_report(report))
