"""What a report of any form states: answers behind findings, lists, tables, contractions, British words, no statement.

The cases are kinds found in public bug reports of people who do this job; each line stands for its kind.
"""

import time

import pytest
from statuses import flat, wrong

from revtaf.data.text import clean_report, says_nothing
from revtaf.knowledge.mentions import ABSENT, NOT_MENTIONED, PRESENT, entity_mentions
from revtaf.knowledge.rules import RuleLabeler
from revtaf.knowledge.sentences import split_sentences
from revtaf.labels import BLANK, ENTITIES, NO_FINDING

# A report and statuses (0 blank, 1 positive, 2 negative, 3 uncertain) by the letters above. These hold for the report
# as written, with blanks for its line breaks, and cleaned.
EVERYWHERE = [
    ("See impression below.", "n0"),
    ("None.", "n0"),
    ("Deformity of the posterior left sixth and seventh ribs.", "b1"),
    ("Pulmonary oedema.", "d1"),
    ("There isn't a pneumothorax.", "x2"),
    ("Effusion none.", "e2"),
    ("Pneumothorax: No\nPleural effusion: Yes", "x2 e1"),
    ("Pleural effusion: None.", "e2"),
    ("Effusion: Absent. Pneumothorax: Present.", "e2 x1"),
    ("Pneumothorax: negative", "x2"),
    ("Pneumothorax: Not seen\nEffusion: Seen on the left", "x2 e1"),
    ("Pneumothorax: No\nPleural effusion: Yes\nConsolidation: No", "x2 e1 c2"),
    ("- Pneumothorax: No\n- Pleural effusion: Yes, small left\n- Consolidation: None", "x2 e1 c2"),
    ("* **Pneumothorax:** Absent\n* **Pleural effusion:** Present\n", "x2 e1"),
    ("1. Pneumothorax: no\n2. Effusion: yes\n3. Edema: mild", "x2 e1 d1"),
    ("| Finding | Status |\n|---|---|\n| Pneumothorax | Absent |\n| Pleural effusion | Present |", "x2 e1"),
    ("| Finding | Present | Absent |\n|---|---|---|\n| Pneumothorax | | X |\n| Pleural effusion | X | |", "x2 e1"),
    ("| Pneumothorax | Effusion |\n|---|---|\n| No | Yes |", "x2 e1"),
    ("| Finding | Right | Left |\n|---|---|---|\n| Effusion | None | Small |\n| Pneumothorax | No | No |", "e1 x2"),
    ("| No. | Finding | Result |\n|---|---|---|\n| 1 | Pneumothorax | No |\n| 2 | Cardiomegaly | Yes |", "x2 m1"),
    ("Pneumothorax\tNo\nPleural effusion\tYes", "x2 e1"),
    ("Pneumothorax      No\nPleural effusion  Yes", "x2 e1"),
    ("Pneumothorax - none\nEffusion – small", "x2 e1"),
    ("Pneumothorax: No, Pleural effusion: Yes, Edema: No", "x2 e1 d2"),
    ('{"pneumothorax": "no", "pleural_effusion": "yes", "edema": "no"}', "x2 e1 d2"),
    ("Pneumothorax? No. Effusion? Yes.", "x2 e1"),
    ("Pneumothorax (absent), effusion (present)", "x2 e1"),
    ("Pneumothorax: ❌\nEffusion: ✅", "x2 e1"),
    ("Pleural effusion:\n- Left: none\n- Right: none\nPneumothorax: none", "e2 x2"),
    ("Pneumothorax:\nNone\nEffusion:\nSmall left", "x2 e1"),
    (
        "Lungs: Clear. No consolidation.\nHeart: Normal size.\nPleura: No effusion.\nBones: No acute fracture.",
        "c2 m2 e2 f2 b2",
    ),
    ("Heart: Normal\nLungs: Clear\nMediastinum: Widened", "m2 w1"),
    ("Heart: Enlarged", "m1"),
    ("Heart: not enlarged", "m2"),
    ("Cardiac silhouette: Mildly enlarged.", "m1"),
    ("Heart: no enlargement", "m2"),
    ("There is no focal\nconsolidation or pleural\neffusion. The heart is\nenlarged.", "c2 e2 m1"),
    ("No evidence of\nCHF or effusion", "d2 e2"),
    ("Pneumothorax absent.", "x2"),
    ("Consolidation no effusion no pneumothorax yes", "c2 e2 x1"),
    ("Small left effusion, no pneumothorax present.", "e1 x2"),
    ("Small left effusion: no pneumothorax.", "e1 x2"),
    ("Pneumothorax: unchanged", "x1"),
    ("Pneumothorax: no change", "x1"),
    ("Pneumonia: possible", "p3"),
    ("Pneumonia: cannot be excluded", "p3"),
    ("Pneumonia: unlikely", "p2"),
    ("Pneumonia: uncertain", "p3"),
    ("Pneumothorax: There is no evidence of pneumothorax.", "x2"),
    ("Pneumothorax: A small apical pneumothorax is seen.", "x1"),
    ("Support devices: None. Lines and tubes: none", "s2"),
    ("Impression: Pneumonia.", "p1"),
    ("FINDINGS: No pneumothorax. IMPRESSION: Left effusion", "x2 e1"),
    ("Pneumothorax: None, lungs clear.", "x2"),
    ("Cardiomegaly: Yes\nEdema: Yes\nNo Finding: No", "m1 d1 n0"),
    ("Enlarged cardiomediastinum: No\nCardiomegaly: No\nNo finding: Yes", "w2 m2 n1"),
    ("Pneumothorax: No evidence.", "x2"),
    ("Pneumothorax negative, effusion positive.", "x2 e1"),
    ("Heart negative.", "m2"),
    ("No pneumothorax is present.", "x2"),
    ("Effusion is present. Pneumothorax is not present.", "e1 x2"),
    ("Pneumothorax: No Pleural effusion: Yes Edema: No", "x2 e1 d2"),
    ("Findings: - Pneumothorax: No - Effusion: Yes", "x2 e1"),
    ("- No pneumothorax - Small left effusion - Heart normal", "x2 e1 m2"),
    ("• No pneumothorax • Small effusion", "x2 e1"),
    ("### Lungs\nNo consolidation\n### Pleura\nSmall effusion", "c2 e1"),
    ("Pneumothorax present: no. Effusion present: yes.", "x2 e1"),
    ("Is there a pneumothorax? No. Is there an effusion? Yes.", "x2 e1"),
    ("Effusions: bilateral. Edema: none seen.", "e1 d2"),
    ("Pleural effusion -> absent", "e2"),
    ("Pneumothorax: No; Effusion: Yes; ", "x2 e1"),
    ("There isn’t any effusion.", "e2"),
    ("Edema isn't seen.", "d2"),
    ("The heart isn't enlarged.", "m2"),
    ("The effusion hasn't resolved.", "e1"),
    ("A pneumothorax hasn't developed.", "x2"),
    ("There aren't any fractures.", "f2"),
    ("There aren’t effusions.", "e2"),
    ("The study doesn't show consolidation.", "c2"),
    ("Pneumonia can't be excluded.", "p3"),
    ("Can’t exclude pneumonia.", "p3"),
    ("We don't see a pneumothorax.", "x2"),
    ("There wasn't an effusion.", "e2"),
    ("The heart doesn't appear enlarged.", "m2"),
    ("Pneumothorax wasn't identified.", "x2"),
    ("There's no effusion.", "e2"),
    ("There’s a small effusion.", "e1"),
    ("There isn't any change in the effusion.", "e1"),
    ("The effusion hasn't changed.", "e1"),
    ("Pneumonia couldn't be excluded", "p3"),
    ("Pneumonia isn't excluded", "p3"),
    ("The mediastinum isn't widened", "w2"),
    ("Opacity doesn't represent pneumonia", "o1 p2"),
    ("The aorta isn't tortuous", "t2"),
    ("No oedema.", "d2"),
    ("Small haemothorax.", "e1"),
    ("Haemopneumothorax", "x1"),
    ("Right lung tumour", "l1"),
    ("Effusion is not visualised.", "e2"),
    ("Demineralised bones", "b1"),
    ("No pneumothorax recognised", "x2"),
    ("Favoured to be pneumonia", "p3"),
    ("Oesophageal tube", "s1"),
    ("Interstitial oedema isn’t seen", "d2"),
    ("Pulmonary œdema", "d1"),
    ("Findings favour pneumonia", "p3"),
    ("Left hydropneumothorax has not resolved", "x1"),
    ("Deformity of the old healed posterolateral left fifth through eighth ribs", "b1"),
    ("Thickening of the right minor fissure", "q1"),
    ("Loss of mid and lower thoracic vertebral body height", "b1"),
    ("Pleural bilateral apical thickening", "q1"),
    ("Collapse of the T7 vertebral body.", "a0"),
    ("Low overall bilateral lung volumes", "v1"),
    ("Endplate mild degenerative changes", "b1"),
    ("Not significantly or markedly enlarged heart", "m2"),
    ("Hernia through the left hemidiaphragm", "h1"),
    ("Rib posterior old healed left deformity", "b1"),
    ("Widening of the superior mediastinum", "w1"),
    ("Deformity of the heart. Ribs are intact", "b2"),
    ("___", "n0"),
    (".", "n0"),
    ("nan", "n0"),
    ("N/A", "n0"),
    ("as above", "n0"),
    ("Normal chest.", "n1"),
    ("None. See impression.", "n0"),
]
# These need the marks that cleaning takes.
WITH_MARKS = [
    ("pneumothorax=0, effusion=1", "x2 e1"),
    ("[ ] Pneumothorax\n[x] Pleural effusion", "x2 e1"),
    ("Pleural effusion:\n- Left: small\n- Right: none", "e1"),
    ("No pneumothorax\nSmall left effusion\nHeart size normal", "x2 e1 m2"),
    ("Pneumothorax: N/A\nEffusion: not mentioned", "x0 e0"),
    ("Effusion: The costophrenic angles are sharp.", "e0"),
    ("Consolidation: No focal opacities.", "c2 o2"),
    ("Pleural effusion: none on the right, small on the left", "e1"),
    ("Fracture: No\nAtelectasis: Yes (bibasilar)", "f2 a1"),
]


@pytest.mark.parametrize(("report", "expected"), EVERYWHERE + WITH_MARKS)
def test_a_form_is_read(report, expected):
    """As written, and where a file of predictions took the line breaks."""
    assert not wrong(report, expected), split_sentences(report)
    assert not wrong(flat(report), expected), split_sentences(flat(report))


@pytest.mark.parametrize(("report", "expected"), EVERYWHERE)
def test_a_form_is_read_after_cleaning(report, expected):
    """Clinical efficacy labels references that the protocol has cleaned."""
    assert not wrong(clean_report(report), expected), split_sentences(clean_report(report))


@pytest.mark.parametrize(
    "report",
    ["None.", "See impression below.", "___", ".", "nan", "N/A", "n.a.", "as above", "Findings: as above.", "", " . "]
    + [
        "Please see impression for details.",
        "See CT report.",
        "None. See impression.",
        "Report not available.",
        "XXXX",
    ],
)
def test_a_report_that_says_nothing_is_blank(report):
    """Not even "no finding", raw or cleaned; no entity is mentioned."""
    assert says_nothing(report)
    assert (RuleLabeler().label([report, clean_report(report)]) == BLANK).all()
    assert (entity_mentions([report]).presence == NOT_MENTIONED).all()


@pytest.mark.parametrize(
    "report",
    [
        "No findings.",
        "Normal.",
        "Clear.",
        "Unchanged.",
        "As above, the lungs are clear.",
        "See impression. No effusion.",
    ],
)
def test_a_report_that_says_little_says_something(report):
    assert not says_nothing(report)
    assert RuleLabeler().label([report])[0, NO_FINDING] == 1


def test_a_fold_ends_nothing_and_a_line_ends_an_item():
    """A line break inside running text is a blank; behind an answer, before a bullet or a label it is a full stop."""
    assert split_sentences("There is no focal\nconsolidation or\neffusion.") == [
        "there is no focal consolidation or effusion"
    ]
    assert split_sentences("No effusion\nSmall nodule") == ["no effusion", "small nodule"]
    assert split_sentences("- no effusion\n- small nodule") == ["no effusion", "small nodule"]


def test_a_text_that_is_cut_within_a_sentence_holds_no_answer():
    """The protocol cuts at 100 words: "effusion no" may be the beginning of "effusion no pneumothorax"."""
    assert split_sentences("lungs clear . small effusion no") == ["lungs clear", "small effusion no"]
    assert split_sentences("lungs clear . effusion no .") == ["lungs clear", "no effusion"]


def test_entities_read_the_same_forms():
    """Presence of entities shares sentences and scopes with the labels; the side of a row is kept."""
    found = entity_mentions(["- Pneumothorax: No\n- Effusion: Yes, left\n- Oedema: isn’t seen"]).presence[0]
    expected = {"pneumothorax": ABSENT, "effusion": PRESENT, "edema": ABSENT}
    assert {name: int(found[ENTITIES.index(name)]) for name in expected} == expected


@pytest.mark.parametrize(
    "mark", ["| ", "- ", ": no ", "[ ] ", "a", " =", "\n- ", "? ", "no ", "|---", "\n", "  ", "# ", "left: no "]
)
def test_no_text_takes_long(mark):
    """Marks without end, as a decoder that ran away writes them."""
    start = time.process_time()
    RuleLabeler().label([mark * 10_000])
    assert time.process_time() - start < 3
