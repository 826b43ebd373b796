"""Sections of MIMIC-CXR reports: every way in which a heading is written, and what is no heading. Invented texts."""

import time

import pytest

from revtaf.data.sources.mimic_cxr.sections import Sections, extract_sections

RULE = "_" * 78
USUAL = f"""                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with a cough  // pneumonia?

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  Radiographs of ___.

 FINDINGS:

 The lungs are clear.  There is no
 effusion, as at 9:30.

 The heart is of normal size.

 {RULE}

 IMPRESSION:

 Nothing acute.

 RECOMMENDATION(S):  None.

 NOTIFICATION:  Told to Dr. ___.

 By telephone.
"""


def read(text: str) -> Sections:
    return extract_sections("FINAL REPORT\n" + text)


def test_the_usual_report():
    assert extract_sections(USUAL) == Sections(
        findings="The lungs are clear. There is no effusion, as at 9:30. The heart is of normal size.",
        impression="Nothing acute.",
        indication="___F with a cough // pneumonia?",
        comparison="Radiographs of ___.",
        unsectioned="By telephone.",  # a paragraph behind a note may be anything: not lost, and no impression
    )


@pytest.mark.parametrize("change", [lambda t: t.replace("\n", "\r\n"), lambda t: t.replace("\n ", "\n"), str.rstrip])
def test_line_ends_and_indents_change_nothing(change):
    assert extract_sections(change(USUAL)) == extract_sections(USUAL)


def test_rewrapping_changes_nothing():
    """One line per paragraph or one word per line: the words of the sections are the same."""
    words = "The cardiac findings are old. No new impression arises from the history.".split()
    for joint in (" ", "\n ", "\n"):
        sections = read("INDICATION: Cough.\n\nFINDINGS: " + joint.join(words) + "\n\nIMPRESSION: Old.")
        assert sections == Sections(" ".join(words), "Old.", "Cough.")


@pytest.mark.parametrize(
    "heading",
    [
        *("FINDINGS:", "FINDINGS :", "FINDINGS: \n\n", "FINDINGS;", "FINDING:", "Findings:", "FINDINGS\n", "FINDINGS"),
        *("FINDINGS -", "Findings\n", "CHEST FINDINGS:", "FINDNGS:", "FINDINGGS:", "TECHNIQUE AND FINDINGS:"),
        *("FINDINGS AND IMPRESSION:", "FINDINGS/IMPRESSION:", "Findings and impression:", "IMPRESSION AND FINDINGS:"),
    ],
)
def test_spellings_of_the_findings_heading(heading):
    for gap in ("\n", "\n\n"):
        if gap == "\n" and heading in ("FINDINGS", "FINDINGS -", "Findings\n"):
            continue  # these need a blank line before them
        sections = read(f"INDICATION: Cough.{gap}{heading} The lungs are clear.\n\nRECOMMENDATION: None.")
        assert sections == Sections("The lungs are clear.", indication="Cough.")


@pytest.mark.parametrize(
    "heading", ["IMPRESSION:", "IMPRESSION", "Impression:", "IMPRESSIONS:", "IMPRESION:", "CONCLUSION:", "IMPRESSION -"]
)
def test_spellings_of_the_impression_heading(heading):
    assert read(f"FINDINGS: Clear lungs.\n\n{heading} Normal.") == Sections("Clear lungs.", "Normal.")


@pytest.mark.parametrize(
    "heading",
    [
        *("INDICATION:", "HISTORY:", "CLINICAL HISTORY:", "REASON FOR EXAM:", "REASON FOR THIS EXAMINATION:"),
        *("Clinical information:", "INDICATION FOR STUDY:", "HISTORY/INDICATION:", "CLINICAL INDICATION:"),
    ],
)
def test_spellings_of_the_indication(heading):
    assert read(f"{heading} Cough.\nCOMPARISONS: None.\nFINDINGS: Clear lungs.") == Sections(
        "Clear lungs.", indication="Cough.", comparison="None."
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "As described in the findings: unchanged opacity.",
        "This impression: of a mass remains, with\nfindings: of old disease.",
        "The overall impression is good, the\nimpression\nof edema is gone.",
        "Correlate with history: of smoking and comparison: with CT.",
        "COMPRESSION: of a vertebral body.",
        "LINES AND TUBES: The tube is high.\nLUNGS: Clear.",
        "At 9:30 the tube was high, at\n9:45 it was not.",
        "FINDINGS ARE THOSE OF EDEMA.",
        "The findings were told to Dr. ___.\nIndication for drainage is given.",
        "AP view:\nPA AND LATERAL CHEST: again clear.",
        "See FINDINGS: of the CT.",
        "___\nis not seen.",
    ],
)
def test_words_inside_the_text_cut_nothing(sentence):
    text = f"{sentence} All is old."
    assert read(f"FINDINGS:\n\n{text}\n\nIMPRESSION: Old.") == Sections(" ".join(text.split()), "Old.")


def test_a_wrapped_sentence_in_capitals_is_text_but_a_paragraph_is_looked_at():
    assert read("FINDINGS: NO CHANGE IN THE\nHISTORY OF EDEMA.").findings == "NO CHANGE IN THE HISTORY OF EDEMA."
    assert read("FINDINGS: Clear.\n\nIMPRESSION No change.") == Sections("Clear.", "No change.")


def test_headings_in_capitals_behind_a_sentence_on_the_same_line():
    assert read("INDICATION: Cough. COMPARISON: None. FINDINGS: Clear lungs. IMPRESSION: Normal.") == Sections(
        "Clear lungs.", "Normal.", "Cough.", "None."
    )


def test_findings_inside_the_impression_paragraph():
    """A heading at the start of a line or behind a sentence counts; sentences of findings alone do not."""
    assert read("IMPRESSION: Normal.\nFINDINGS: Clear lungs.") == Sections("Clear lungs.", "Normal.")
    assert read("IMPRESSION: Normal. FINDINGS: Clear lungs.") == Sections("Clear lungs.", "Normal.")
    assert read("IMPRESSION:\n\nFINDINGS: Clear lungs.") == Sections("Clear lungs.")
    assert read("IMPRESSION: AP chest compared to ___:\nThe lungs are clear.") == Sections(
        impression="AP chest compared to ___: The lungs are clear."
    )


def test_several_findings_sections():
    """Joined in order; a repeated one counts once, in its last place; what another contains is not said twice."""
    first, second = "FINDINGS: Clear lungs.\n\n", "FINDINGS: Normal heart.\n\n"
    assert read(first + second).findings == "Clear lungs. Normal heart."
    assert read(first + "IMPRESSION: Good.\n\n" + second) == Sections("Clear lungs. Normal heart.", "Good.")
    assert read(first + first.replace("Clear lungs", "CLEAR  LUNGS")).findings == "CLEAR LUNGS."
    assert read(first + second + first).findings == "Normal heart. Clear lungs."
    assert read(first + "FINDINGS: Clear lungs. Normal heart.").findings == "Clear lungs. Normal heart."


def test_empty_sections():
    assert read("FINDINGS:\n\nIMPRESSION:\n\n") == Sections()
    assert read("FINDINGS:\n\nIMPRESSION: Normal.") == Sections(impression="Normal.")
    assert extract_sections("") == extract_sections(" \n\n ") == Sections()


@pytest.mark.parametrize(
    "heading",
    [
        *("PA AND LATERAL VIEWS OF THE CHEST:", "CHEST, TWO VIEWS:", "AP CHEST:", "2 VIEWS OF THE CHEST:"),
        *("PORTABLE SEMI-UPRIGHT RADIOGRAPH OF THE CHEST:", "Frontal and lateral views of the chest:", "CHEST:"),
        *("AP CHEST, 9:11 P.M., ___:", "SINGLE AP VIEW OF THE CHEST ON ___ AT 05:12:", "CHEST (PA AND LAT):"),
    ],
)
def test_view_headings_open_the_body(heading):
    assert read(f"INDICATION: Cough.\n\n{heading}  The lungs are clear.\n\nIMPRESSION: Normal.") == Sections(
        "The lungs are clear.", "Normal.", "Cough."
    )


def test_a_view_title_opens_nothing():
    """A date or a time is no sentence, and with a findings section the line is a title."""
    assert read("AP CHEST, 9:11 P.M., ___\n\nHISTORY: Fall.\n\nIMPRESSION: Good.").findings == ""
    assert read("PORTABLE CHEST: ___ at 9:30\n\nIMPRESSION: Good.").findings == ""
    both = read("PORTABLE CHEST: One film was taken on ___.\n\nFINDINGS: Clear lungs.")
    assert both == Sections("Clear lungs.", unsectioned="One film was taken on ___.")


@pytest.mark.parametrize(
    "title",
    [
        "EXAMINATION:\nChest:  Frontal and lateral views",
        "TECHNIQUE:\n\nChest:  PA and lateral views",
        "EXAMINATION:  CHEST\n\nChest:  Frontal and lateral views were obtained.",
        "PORTABLE CHEST: ___ at 9:30, single AP view obtained portably",
        "PORTABLE CHEST: ___ at 9:30, single AP view obtained portably.",
        "VIEWS: PA and lateral of the chest.",
        "CHEST (PORTABLE AP): reason is hypoxia",
        "CHEST (PORTABLE AP): Reason is new hypoxia.",
        "CHEST (PORTABLE AP): Evaluate for new pneumonia.",
        "CHEST, PA AND LAT: ___-year-old man with fever and cough.",
        "INDICATION: Cough.\nPORTABLE CHEST: The line ended here without a blank.",
        "RECOMMENDATION:\nChest radiograph: in four weeks, to show that it clears.",
    ],
)
def test_what_was_done_and_why_is_no_findings(title):
    """A technique below its heading, a title, an indication: a sample made of these would be false."""
    for behind in ("", "\n\nIMPRESSION: Good."):
        assert read(title + behind).findings == ""


def test_a_view_below_the_comparison_belongs_to_it():
    films = "Chest radiographs: ___ and outside hospital film from ___. CT chest: ___."
    assert read(f"COMPARISON:\n{films}\n\nIMPRESSION: Good.") == Sections(impression="Good.", comparison=films)
    assert read(f"COMPARISON: None.\n\n{films}\n\nIMPRESSION: Good.").findings == ""


@pytest.mark.parametrize("first", ["FINDINGS", "IMPRESSION"])
@pytest.mark.parametrize(
    "sentence",
    [
        "FINDINGS were communicated to Dr. ___ at 3:45 pm.",
        "COMPARISON is made with the film of ___. New left effusion.",
        "STUDY is limited by rotation. New left effusion.",
        "HISTORY of breast cancer with clips on the left.",
    ],
)
def test_a_sentence_that_begins_with_a_name_in_capitals_is_text(first, sentence):
    sections = read(f"{first}: Old scar.\n\n{sentence}")
    assert getattr(sections, first.lower()) == f"Old scar. {sentence}"
    assert sections == Sections(**{first.lower(): f"Old scar. {sentence}"})


def test_headings_glued_to_the_sentence_before_them():
    expected = Sections("Lungs are clear.", "Normal.", "cough.")
    assert read("INDICATION:cough.FINDINGS:Lungs are clear.IMPRESSION:Normal.") == expected
    assert read("INDICATION: cough.FINDINGS: Lungs are clear.\n\nIMPRESSION: Normal.") == expected
    assert read("HISTORY: Pain since ___.FINDINGS: Clear lungs. ___ IMPRESSION: Normal.") == Sections(
        "Clear lungs. ___", "Normal.", "Pain since ___."
    )


@pytest.mark.parametrize("wrapped", ["History: lobectomy. Lungs clear.", "Study: limited by motion. Lungs clear."])
def test_a_wrapped_line_that_looks_like_another_section_cuts_no_findings(wrapped):
    assert read(f"FINDINGS: Old scar.\n{wrapped}") == Sections(f"Old scar. {wrapped}")
    assert read(f"FINDINGS: Old scar.\n\n{wrapped}").findings == "Old scar."


def test_findings_below_an_aside_in_one_paragraph():
    assert read("FINDINGS:\n\nComparison: ___.\nHeart large.\nLungs clear.") == Sections(
        "Heart large. Lungs clear.", comparison="___."
    )
    for films in ("Radiograph of ___.\nCT of ___.\nMRI of ___.", "The film of\n___ and an older one."):
        assert read(f"FINDINGS:\n\nComparison: {films}").findings == ""


def test_a_note_named_findings_is_a_note():
    for told in ("Findings: discussed with Dr. ___.", "FINDINGS: Were promptly conveyed to Dr. ___."):
        assert read(f"IMPRESSION: Normal.\n\n{told}") == Sections(impression="Normal.")


@pytest.mark.parametrize(
    "text",
    [
        "findings: the lungs are clear.\n\nimpression: normal.",
        "REPORT: The lungs are clear.",
        "INTERPRETATION: The lungs are clear.",
        "COMMENT: The lungs are clear.",
        "PA AND LATERAL VIEWS OF THE CHEST\n\nThe lungs are clear.",
    ],
)
def test_known_limits_that_lose_a_sample_but_make_no_false_one(text):
    assert read(text) == Sections(unsectioned=" ".join(text.split()))


def test_known_limit_of_a_report_in_capitals():
    """What follows a heading on its line cannot be told from the next sentence."""
    assert read("FINDINGS: CLEAR LUNGS. COMPARISON: NONE. NO EFFUSION.") == Sections(
        "CLEAR LUNGS.", comparison="NONE. NO EFFUSION."
    )


def test_a_view_heading_may_say_what_it_is_compared_to():
    heading = "PORTABLE AP CHEST X-RAY WITH COMPARISON TO ___:"
    assert read(f"{heading}  Lungs are clear.") == Sections("Lungs are clear.")
    assert read("CHEST COMPARISON: An old film from another place was seen.").findings == ""


def test_the_body_below_a_view_returns_behind_an_aside():
    text = "PORTABLE CHEST, ___:\nHISTORY: Cough.\n\nCOMPARISON: None.\n\nThe lungs are clear.\n\nNormal heart."
    assert read(text) == Sections("The lungs are clear. Normal heart.", indication="Cough.", comparison="None.")


def test_a_date_a_time_or_a_view_in_the_heading_is_no_text():
    for mark in ("(___)", "(9:30)", "(___, 9:30 PM)", "(PORTABLE)"):
        assert read(f"INDICATION: Cough.\nFINDINGS {mark}:  Heart large.") == Sections(
            "Heart large.", indication="Cough."
        )


def test_text_behind_a_note_is_not_lost():
    text = "FINDINGS: Clear lungs.\n\nNOTIFICATION: Told to Dr. ___.\n\nHeart is large too."
    assert read(text) == Sections("Clear lungs.", unsectioned="Heart is large too.")
    wet = "WET READ: ___ 9:10 PM\n Bad lungs.\n" + RULE + "\nThe heart is large.\n"
    assert extract_sections(wet) == Sections(unsectioned="The heart is large.")


def test_preliminary_readings_before_the_final_report_are_left_out():
    wet = "WET READ: ___ 9:10 PM\n Bad lungs.\nWET READ VERSION #1 ___\n FINDINGS: Worse lungs.\n" + RULE + "\n"
    pfi = "PROVISIONAL FINDINGS IMPRESSION (PFI): Bad lungs.\n" + RULE + "\n"
    for before in (wet, pfi):
        assert extract_sections(before + USUAL) == extract_sections(USUAL)
    without_marker = "WET READ: ___ 9:10 PM\n Bad lungs.\n\nFINDINGS: Clear lungs."
    assert extract_sections(without_marker) == Sections("Clear lungs.")


def test_addenda_are_left_out():
    for addendum in ("FINAL ADDENDUM\nADDENDUM: FINDINGS: A fracture.\n\nA tube.\n", "ADDENDUM BY DR. ___\nA tube.\n"):
        assert extract_sections(addendum + RULE + "\n" + USUAL) == extract_sections(USUAL)
        assert extract_sections(USUAL + "\n" + addendum) == extract_sections(USUAL)
    assert read("FINDINGS: Clear lungs.\nAddendum: A tube.") == Sections("Clear lungs.")


def test_an_addendum_is_read_where_there_is_nothing_else():
    only = "ADDENDUM: Dictated again.\n\nINDICATION: Cough.\n\nFINDINGS: Clear lungs.\n\nIMPRESSION: Normal."
    expected = Sections("Clear lungs.", "Normal.", "Cough.", unsectioned="Dictated again.")
    assert extract_sections(only) == expected
    assert extract_sections(only + "\n" + RULE + "\nFINAL REPORT\n") == expected
    assert extract_sections(only + "\nFINAL REPORT\nHISTORY: Fall.\n").indication == "Fall."
    assert extract_sections("ADDENDUM: A tube.") == Sections(unsectioned="A tube.")


def test_text_without_heading_is_never_findings():
    assert read(" The lungs are\n clear.\n\n Normal heart.\n") == Sections(
        unsectioned="The lungs are clear. Normal heart."
    )
    headed = read("CHEST RADIOGRAPH\n\nCOMPARISON: ___.\n\nThe lungs are clear.\n\nIMPRESSION: Normal.")
    assert headed == Sections(
        impression="Normal.", comparison="___.", unsectioned="CHEST RADIOGRAPH The lungs are clear."
    )
    unknown = read("INDICATION: Cough.\nLUNGS: Clear.\n\nHEART: Normal.")
    assert unknown == Sections(indication="Cough.", unsectioned="LUNGS: Clear. HEART: Normal.")


def test_a_paragraph_behind_an_interruption_returns_to_the_findings():
    text = "FINDINGS:\n\nComparison: ___.\n\nClear lungs.\n\nTECHNIQUE: One view.\n\nNormal heart.\n\nIMPRESSION: Good."
    assert read(text) == Sections("Clear lungs. Normal heart.", "Good.", comparison="___.")


def test_deidentification_marks_stay():
    assert read("FINDINGS: Since ___, no change.\n___ was told.").findings == "Since ___, no change. ___ was told."


def test_every_text_ends_in_time_and_without_error():
    """Long runs of what headings are made of must not make the search explode."""
    for unit in ("CHEST ", "AND & / ", "FINDINGS: ", "A,", ": ", "___ ", "X ADDENDUM ", "\n"):
        extract_sections(unit * 4000)


def test_thousands_of_headings_are_read_at_once():
    """Comparing all pairs would take seconds; repeats still count once, in their last place."""
    text = "".join(f"FINDINGS: Lung number {i} is clear.\n\n" for i in range(5000))
    start = time.process_time()
    findings = extract_sections(text + text).findings
    assert time.process_time() - start < 2
    assert findings == " ".join(f"Lung number {i} is clear." for i in range(5000))


@pytest.mark.parametrize("said", ["None.", "See impression below.", "As above.", "N/A", "___", "Please see report."])
def test_a_section_that_says_nothing_is_empty(said):
    """Its study is dropped and counted like one without findings."""
    found = read(f"HISTORY: Cough.\n\nFINDINGS:  {said}\n\nIMPRESSION:  No acute process.")
    assert (found.findings, found.impression) == ("", "No acute process.")
    assert read(f"FINDINGS:  Clear lungs.\n\nIMPRESSION:  {said}").impression == ""


CLEAR = "The lungs are clear. No effusion is seen."
# Invented, kind by kind: one or two letters wrong, also without a colon and inside a line.
MISSPELT = {
    "comparison": "COMPARISION COMPARSION COMPARISN COMAPRISON COPMARISON COMPARISSON COMPARIOSNS Comparsion",
    "indication": "INDICATON IDICATION INDICAITON INIDCATION INDICTION HISTROY HSITORY Indicaton",
    "impression": "IMPRESION IMPRSSION IMPRESSOIN MPRESSION IMRPESSION IMPRESSSIONS CONCLUSON Impresion",
    "findings": "FINDIGNS FINDNGS FINIDNGS FIDNINGS FINDINGGS INDINGS FINIDGS FINDIGS Findigns",
    "": "TECHNIQE TECHINQUE TECNIQUE EXAMINATON EXMINATION PROCEEDURE RECOMENDATION NOTIFCATION",
}


@pytest.mark.parametrize(("section", "name"), [(k, name) for k, names in MISSPELT.items() for name in names.split()])
def test_a_misspelt_heading_opens_its_section(section, name):
    """Below a view, and behind a sentence on its line; the sentence is that of its section alone."""
    told = "This is told of it."
    view = read(f"PA AND LATERAL CHEST:\n\n{name}:  {told}\n\n{CLEAR}\n\nIMPRESSION:  Old.\n")
    if section in ("comparison", "indication"):
        assert (view.findings, getattr(view, section)) == (CLEAR, told)
    elif section == "findings":
        assert view.findings == f"{told} {CLEAR}"
    else:
        assert told not in view.findings
    if name.isupper():
        inside = read(f"REASON FOR EXAM: Cough. {name}: {told} FINDINGS: {CLEAR}")
        expected = {"findings": f"{told} {CLEAR}"}.get(section, CLEAR)
        assert inside.findings == expected and (not section or told in getattr(inside, section))


@pytest.mark.parametrize("mark", [":", " :", ".", "", " -", ";", "::", ":-", "\n\n", ":\n\n", " -\n\n"])
@pytest.mark.parametrize("names", ["FINDINGS IMPRESSION COMPARISON", "FINDIGNS IMPRESION COMPARSION"])
def test_a_heading_with_any_mark_or_none(names, mark):
    findings, impression, comparison = names.split()
    text = f"HISTORY: Cough.\n\n{comparison}{mark} Film of last year.\n\n{findings}{mark} {CLEAR}\n\n"
    assert read(f"{text}{impression}{mark} No acute process.") == Sections(
        CLEAR, "No acute process.", "Cough.", "Film of last year."
    )


@pytest.mark.parametrize(
    "heading",
    [
        *("FINDINGS/IMPRESSION", "CHEST FINDINGS", "FRONTAL AND LATERAL CHEST FINDINGS", "FINDINGS, PORTABLE CHEST"),
        *("ADDITIONAL FINDINGS", "OTHER FINDINGS", "RADIOLOGIC FINDINGS", "FINDINGS AND COMPARISON", "KEY FINDINGS"),
        *("FINDINGS, 2 VIEWS OF THE CHEST", "FINDINGS ON ___", "FINDINGS AT 9:30 PM", "FINDINGS #1", "RIB FINDINGS"),
        *("FINDINGS ARE AS FOLLOWS", "FINDINGS IN THE CHEST AND ABDOMEN", "SUMMARY OF FINDINGS"),
        *("FINDIGNS, PA AND LATERAL", "REPORT/FINDINGS", "Additional findings", "Chest findings"),
    ],
)
def test_every_heading_with_findings_in_it(heading):
    for gap in ("  ", "\n\n"):
        text = f"HISTORY: Cough.\n\n{heading}:{gap}{CLEAR}\n\nRECOMMENDATION: None."
        assert read(text) == Sections(CLEAR, indication="Cough.")


@pytest.mark.parametrize(
    "heading",
    [
        *("DUAL-ENERGY PA AND LATERAL CHEST", "CHEST, DUAL ENERGY SUBTRACTION", "LEFT RIBS, THREE VIEWS", "RIB SERIES"),
        *("PA VIEW OF THE CHEST AND TWO VIEWS OF THE RIGHT RIBS", "CHEST AND BILATERAL OBLIQUES", "SHALLOW OBLIQUES"),
        *("PORTABLE ABDOMEN AND CHEST", "SUPINE CHEST AND ABDOMEN", "LEFT LATERAL DECUBITUS", "APICAL LORDOTIC VIEW"),
        *("INSPIRATORY AND EXPIRATORY CHEST", "UPRIGHT CHEST", "TWO-VIEW CHEST", "PA AND LATERAL", "AP PORTABLE"),
        *("CHEST WITH NIPPLE MARKERS", "REPEAT PORTABLE CHEST", "PORTBALE CHEST", "Left ribs and chest, three views"),
    ],
)
def test_every_view_opens_the_body(heading):
    for gap in ("  ", "\n\n"):
        text = f"HISTORY: Fall.\n\n{heading}:{gap}{CLEAR}\n\nIMPRESSION: Old."
        assert read(text) == Sections(CLEAR, "Old.", "Fall.")


def test_a_second_view_goes_on_with_the_body_and_a_part_of_the_body_is_no_view():
    body = "PA AND LATERAL CHEST: Clear lungs.\n\nLEFT RIBS, TWO VIEWS: The sixth rib is broken.\n\nIMPRESSION: Old."
    assert read(body).findings == "Clear lungs. The sixth rib is broken."
    parts = "LUNGS: Clear of opacity. RIBS: No fracture is seen."
    assert read("PORTABLE CHEST:\n\n" + parts.replace(" RIBS", "\n\nRIBS")).findings == parts
    assert read("ABDOMEN: Bowel gas is normal, with no dilated loops.").findings == ""


@pytest.mark.parametrize(
    "note",
    [
        *("PFI:  The tube is high.", "PFI REPORT: x.", "PFI VERSION #1 ___\n Tube high.", "PFI - tube high."),
        *("WET READ: ___ 9:10 PM\n The tube is high.", "WET READ VERSION #1 ___ 9 PM\n Tube high.", "WETREAD: x."),
        *("WET READ AUDIT # 1: x.", "PRELIM READ: x.", "ED WET READ: x.", "WET-READ: x.", "Preliminary findings: x."),
        *("RECOMMENDATION(S):  CT.", "RECOMENDATION: CT.", "FOLLOW-UP: CT.", "NOTIFICATON: told.", "CC: Dr. ___"),
        *("COMMUNICATION: Told to Dr. ___.", "CRITICAL RESULT NOTIFICATION: told.", "CRITICAL FINDINGS: told to ___."),
        *("Electronically signed by: Dr. ___", "ELECTRONICALLY SIGNED BY ___ ON ___", "DICTATED BY: Dr. ___"),
        *("RADIOLOGIST: Dr. ___", "SIGNATURE: ___", "END OF REPORT", "COMMENT: discussed with Dr. ___."),
        *("ADDENDUM: A tube.", "ADENDUM: A tube.", "Addendum by Dr. ___: a tube.", "ADDENDED REPORT: a tube."),
    ],
)
def test_what_is_told_behind_the_findings_ends_them(note):
    for gap in ("\n", "\n\n"):
        assert read(f"HISTORY: Cough.\n\nFINDINGS:  {CLEAR}{gap}{note}\n").findings == CLEAR
        assert read(f"FINDINGS:  {CLEAR}\n\nIMPRESSION: Old.{gap}{note}\n").impression == "Old."
        assert read(f"PA AND LATERAL CHEST:  {CLEAR}{gap}{note}\n").findings == CLEAR


def test_a_signature_ends_the_findings_and_a_name_in_a_sentence_does_not():
    assert read(f"FINDINGS:  {CLEAR}\n\nDR. ___ ___\n").findings == CLEAR
    assert read(f"FINDINGS:  {CLEAR}\n\n___, M.D.\n").findings == CLEAR
    told = f"{CLEAR} This was told to\nDr. ___.\nNormal heart."
    assert read(f"FINDINGS:  {told}\n").findings == " ".join(told.split())


@pytest.mark.parametrize(
    "text",
    [
        *("COMPRESSION: old, of T12.", "CONTUSION: left lung.", "Medication: pump is seen.", "RIBS: No fracture."),
        *("Findings on the left: opacity.", "UNCHANGED FINDINGS: scar.", "No new findings: the heart is large."),
        *("FINDINGS CONSISTENT WITH CHF: large heart.", "SUPPORT DEVICES: The tube is high.", "OTHER: a clip is seen."),
    ],
)
def test_words_that_look_like_headings_stay_in_the_findings(text):
    assert read(f"FINDINGS:\n\nOld scar.\n\n{text}\n\nIMPRESSION: Old.") == Sections(f"Old scar. {text}", "Old.")
