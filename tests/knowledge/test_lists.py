"""Lists, tables, boxes, records and headers, as structured reports and language models write them."""

import pytest
from statuses import flat, wrong

from revtaf.data.text import clean_report
from revtaf.knowledge.headers import said_of_items
from revtaf.knowledge.sentences import split_sentences

ANSWERS = [
    ("Pneumothorax: +", "x1"),
    ("Pneumothorax: -", "x2"),
    ("Pneumothorax: -\nPleural effusion: +", "x2 e1"),
    ("Pneumothorax (-), effusion (+)", "x2 e1"),
    ("Effusion -, pneumothorax +", "e2 x1"),
    ("Pneumothorax: -ve. Effusion: +ve.", "x2 e1"),
    ("Pneumothorax: ?", "x3"),
    ("? pneumonia", "p3"),
    ("Pneumonia?", "p3"),
    ("Pneumonia (?)", "p3"),
    ("Pneumothorax: Nil of note.", "x2"),
    ("Pneumothorax: (none)", "x2"),
    ("Pneumothorax - no evidence of any", "x2"),
    ("Pneumothorax \u2014 none seen", "x2"),
    ("Effusion: none on this study. Edema: absent bilaterally.", "e2 d2"),
    ("Effusion: cannot exclude", "e3"),
    ("Pneumothorax: 0.0\nPleural effusion: 1.0\nEdema: -1.0", "x2 e1 d3"),
    ("Is the heart enlarged? No.", "m2"),
    ("Is the heart size normal? No.", "m1"),
    ("Does the study show an effusion? Yes.", "e1"),
    ("Cardiomegaly: Normal heart size", "m2"),
    ("Support devices: normal position", "s1"),
]
BOXES = [
    ("- [x] Pneumothorax\n- [ ] Pleural effusion", "x1 e2"),
    ("\u2610 Pleural effusion\n\u2611 Pneumothorax", "e2 x1"),
    ("( ) Pneumothorax\n(x) Pleural effusion", "x2 e1"),
    ("Pneumothorax [ ]\nPleural effusion [x]", "x2 e1"),
    ("Pneumothorax: \u2610\nPleural effusion: \u2612", "x2 e1"),
    ("Pneumothorax: [ ] Yes [x] No\nPleural effusion: [x] Yes [ ] No", "x2 e1"),
    ("Pneumothorax: Yes [ ] No [x]", "x2"),
    ("Effusion: [ ] none [x] small [ ] large", "e1"),
    ("\u274c Pneumothorax\n\u2705 Pleural effusion", "x2 e1"),
    ("\u2705 No pneumothorax\n\u2705 Pleural effusion: small", "x2 e1"),
]
TABLES = [
    (
        "| Finding | Present? | Location |\n| --- | --- | --- |\n| Pneumothorax | No | - |\n| Effusion | Yes | Left |",
        "x2 e1",
    ),
    ("| Finding | Yes | No |\n|:--|:-:|:-:|\n| Pneumothorax | [ ] | [x] |\n| Effusion | [x] | [ ] |", "x2 e1"),
    ("| Finding | Present | Absent |\n|---|---|---|\n| Pneumothorax | - | + |\n| Effusion | + | - |", "x2 e1"),
    ("| Finding | Prior | Current |\n|---|---|---|\n| Pneumothorax | Yes | No |\n| Effusion | No | Yes |", "x2 e1"),
    ("| Side | Pneumothorax | Effusion |\n|---|---|---|\n| Right | No | Yes |\n| Left | No | No |", "x2 e1"),
    (
        "+-----+-----+\n| Sign | Now |\n+-----+-----+\n| Edema | No |\n+-----+-----+\n| Effusion | Yes |",
        "d2 e1",
    ),
    ("Pneumothorax | No\nEffusion | Yes", "x2 e1"),
    ("| Structure | Finding |\n|---|---|\n| Heart | Enlarged |\n| Aorta | Normal |\n| Bones | Intact |", "m1 t2 b2"),
]
RECORDS = [
    ('{"findings": {"pneumothorax": "absent", "pleural_effusion": "present"}}', "x2 e1"),
    ('{"pneumothorax": {"present": false}, "effusion": {"present": true, "side": "left"}}', "x2 e1"),
    ('[{"finding": "pneumothorax", "present": "no"}, {"finding": "effusion", "present": "yes"}]', "x2 e1"),
    ('```json\n{"Pneumothorax": 0, "Effusion": 1, "Edema": -1, "Pneumonia": null}\n```', "x2 e1 d3 p0"),
    ('{"absent": ["pneumothorax", "edema"], "present": ["effusion"]}', "x2 d2 e1"),
    ("Pneumothorax:\n  present: no\nEffusion:\n  present: yes", "x2 e1"),
    ("<b>Pneumothorax:</b> none<br><b>Effusion:</b> small", "x2 e1"),
    ("<ul><li>No pneumothorax</li><li>Small effusion</li></ul>", "x2 e1"),
    ("<table><tr><td>Pneumothorax</td><td>No</td></tr><tr><td>Effusion</td><td>Yes</td></tr></table>", "x2 e1"),
]
BULLETS = [
    ("(1) No pneumothorax (2) Small effusion", "x2 e1"),
    ("1) No pneumothorax\n2) Small effusion", "x2 e1"),
    ("a) No pneumothorax\nb) Small effusion", "x2 e1"),
    ("> No pneumothorax\n> Small effusion", "x2 e1"),
    ("*No pneumothorax\n*Small effusion", "x2 e1"),
    ("* no pneumothorax\n* small effusion", "x2 e1"),
    ("-no pneumothorax\n-small effusion", "x2 e1"),
    ("\u2022no pneumothorax\n\u2022small effusion", "x2 e1"),
    ("**No pneumothorax**\n**Small left effusion**", "x2 e1"),
    ("No pneumothorax\n\nSmall effusion", "x2 e1"),
    ("No pneumothorax\r\nSmall left effusion", "x2 e1"),
]
HEADERS = [
    ("No: pneumothorax, effusion, consolidation", "x2 e2 c2"),
    ("No:\n- pneumothorax\n- effusion", "x2 e2"),
    ("Negative for:\n- Pneumothorax\n- Pleural effusion\n- Consolidation", "x2 e2 c2"),
    ("Negative for:\n1. Pneumothorax\n2. Pleural effusion", "x2 e2"),
    ("No evidence of:\n* pneumothorax\n* effusion", "x2 e2"),
    ("There is no evidence of any of the following: pneumothorax, effusion", "x2 e2"),
    ("None of the following is seen:\n- pneumothorax\n- effusion", "x2 e2"),
    ("The following are absent:\n- Pneumothorax\n- Pleural effusion", "x2 e2"),
    ("The following are absent: pneumothorax, pleural effusion.", "x2 e2"),
    ("The following findings are not seen: pneumothorax, effusion.", "x2 e2"),
    ("The following are present:\n- Edema\n- Effusion\nThe following are absent:\n- Pneumothorax", "d1 e1 x2"),
    ("Absent findings:\n- Pneumothorax\n- Effusion\n\nPresent findings:\n- Edema", "x2 e2 d1"),
    ("Pertinent negatives: pneumothorax. Pertinent positives: effusion.", "x2 e1"),
    ("Not seen: pneumothorax, effusion", "x2 e2"),
    ("Ruled out: pneumothorax, fracture", "x2 f2"),
    ("Uncertain:\n- pneumonia\n- edema", "p3 d3"),
    ("Cannot exclude: pneumonia", "p3"),
    ("The following are normal: heart, mediastinum, bones.", "m2 w2 b2"),
    ("The lungs are clear of:\n- consolidation\n- edema\n\nThe heart is enlarged.", "c2 d2 m1"),
    ("Negative for:\nPneumothorax\nEffusion\n\nPositive for:\nEdema", "x2 e2 d1"),
]
HEADINGS = [
    ("### Heart\nNormal\n### Bones\nNormal", "m2 b2"),
    ("## Cardiac silhouette\nEnlarged\n## Pleura\nNo effusion", "m1 e2"),
    ("HEART\nNormal.\nBONES\nNo fracture.", "m2 f2"),
    ("Heart\nNormal\nBones\nNormal", "m2 b2"),
    ("Pneumothorax\nNone\nEffusion\nSmall", "x2 e1"),
    ("## Absent findings\n\n- Pneumothorax\n- Effusion", "x2 e2"),
]
NAMED = [
    ("Finding: Pneumothorax\nStatus: Absent\nFinding: Effusion\nStatus: Present", "x2 e1"),
    ("Label: pneumothorax. Status: absent.", "x2"),
    ("Q: Is there pneumothorax?\nA: No\nQ: Is there an effusion?\nA: Yes", "x2 e1"),
    ("Pneumothorax (yes/no): no\nEffusion (Y/N): Y", "x2 e1"),
    ("<finding>pneumothorax</finding><status>absent</status>", "x2"),
    ("Pneumothorax........No\nEffusion . . . . Yes", "x2 e1"),
    ("Pneumothorax ==> No\nEffusion -> Yes", "x2 e1"),
    ("Pneumothorax;No\nEffusion;Yes", "x2 e1"),
    ("Effusion: It is absent. Pneumothorax: There is a small one on the left.", "e2 x1"),
    ("effusion: none | pneumothorax: none | edema: mild", "e2 x2 d1"),
    ("- Pneumothorax:\n    - None\n- Effusion:\n    - Small left", "x2 e1"),
]
REPORTS = [
    (
        "FINDINGS:\nLungs: No focal consolidation, pleural effusion, or pneumothorax.\nHeart/Mediastinum: The"
        " cardiomediastinal silhouette is within normal limits.\nBones: No acute osseous abnormality.",
        "c2 e2 x2 w2 b2 n1",
    ),
    (
        "**Pleura:** Small left pleural effusion. No pneumothorax.\n\n**Heart and Mediastinum:** Heart size is mildly"
        " enlarged.\n\n**IMPRESSION:**\n1. Small left pleural effusion.\n2. Mild cardiomegaly.",
        "e1 x2 m1",
    ),
    ("Devices:\n- Right PICC\n\nNegative for:\n- Pneumothorax\n\nHeart: enlarged", "s1 x2 m1"),
    ("Negative for:\n- Pneumothorax\n- Effusion\nImpression: Pneumonia", "x2 e2 p1"),
    ("No acute findings. Specifically no:\n- pneumothorax\n- effusion", "x2 e2"),
    ("Lungs\n-----\nNo consolidation.\n\nPleura\n------\nSmall effusion.", "c2 e1"),
    ("Left: no effusion. Right: small effusion.", "e1"),
    ("New: left effusion. Resolved: right pneumothorax. Unchanged: cardiomegaly.", "e1 x2 m1"),
]
# Running text with the marks of lists.
PROSE = [
    ("There is no\npneumothorax or pleural\neffusion.", "x2 e2"),
    ("no evidence of pneumothorax\nor pleural effusion", "x2 e2"),
    ("Left lower lobe opacity - possible pneumonia.", "o1 p3"),
    ("Small opacity (possibly atelectasis) at the left base.", "o1 a3"),
    ("Effusion (small, left) is unchanged.", "e1"),
    ("No change: small left effusion.", "e1"),
    ("Comparison: None. Findings: Small left effusion.", "e1"),
    ("Not previously seen: left effusion.", "e1"),
    ("Present on admission: pneumonia.", "p1"),
    ("Impression: Negative chest.", "n1"),
    ("Rule out pneumonia: no consolidation is seen.", "c2"),
]
FORMS = ANSWERS + BOXES + TABLES + RECORDS + BULLETS + HEADERS + HEADINGS + NAMED + REPORTS + PROSE
# Where a line break alone parts two items, a blank cannot.
BROKEN_LINES = [
    ("no pneumothorax\nsmall left effusion\nmild edema", "x2 e1 d1"),
    ("NO PNEUMOTHORAX\nSMALL LEFT EFFUSION", "x2 e1"),
]


@pytest.mark.parametrize(("report", "expected"), FORMS)
def test_a_form_is_read(report, expected):
    """As written, and where a file of predictions took the line breaks."""
    assert not wrong(report, expected), split_sentences(report)
    assert not wrong(flat(report), expected), split_sentences(flat(report))


@pytest.mark.parametrize(("report", "expected"), BROKEN_LINES)
def test_short_lines_without_a_full_stop_are_items(report, expected):
    assert not wrong(report, expected), split_sentences(report)


@pytest.mark.parametrize(
    "report",
    ["The following are absent: pneumothorax, effusion.", "None of the following: pneumothorax, effusion"]
    + [
        "Not seen: pneumothorax, effusion",
        "Pertinent negatives: pneumothorax, effusion",
        "Excluded: pneumothorax, effusion",
    ],
)
def test_a_header_is_read_after_cleaning(report):
    """Cleaning takes its colon."""
    assert not wrong(clean_report(report), "x2 e2"), split_sentences(clean_report(report))


@pytest.mark.parametrize(
    "label", ["heart", "pneumothorax", "no pneumothorax", "no findings", "lungs clear", "findings"]
)
def test_a_label_that_names_something_is_no_header(label):
    assert said_of_items(label) is None
