"""Headings of MIMIC-CXR reports: which section a line's beginning names, however it is spelt.

A name is compared as its words: in capitals, without numbers, times, marks and "and", each with one or two letters
wrong put right ("COMPARISION", "FINDIGNS"). A name that is no heading of these is None, whatever its form.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

FINDINGS, IMPRESSION, INDICATION, COMPARISON = "findings", "impression", "indication", "comparison"
UNSECTIONED, VIEWS, TITLE, NOTE = "unsectioned", "views", "title", "note"

_EXAM = r"(?:EXAMS?|EXMA|EXAMINATIONS?|STUDY|STUDIES|PROCEDURE)"
_RECOMMENDED = r"(?:RECOMMENDATIONS?|RECOMMENDED|RECOMMEND|SUGGESTIONS?)"
_CONCLUDED = r"(?:IMPRESSIONS?|CONCLUSIONS?|SUMMARY|OPINION)"
_PRELIMINARY = r"(?:WET|PRELIM|PRELIMINARY|PROVISIONAL|INITIAL|RESIDENT|NIGHTHAWK|ED|ER|PFI)"
_SIGNED = r"(?:SIGNED|DICTATED|TRANSCRIBED|APPROVED|REVIEWED|READ|REPORTED|INTERPRETED|VERIFIED|FINALIZED)"
_NAMES = {
    # What is told of an exam rather than seen in it; before FINDINGS, because some of these have the word in them.
    NOTE: rf"(?:PFI|PRELIM|WETREAD|WET-READ|{_PRELIMINARY}(?: {_PRELIMINARY})* (?:FINDINGS?|IMPRESSION|REPORT|READ))"
    r"(?: (?:FINDINGS?|IMPRESSION|PFI|REPORT|READ|READING|AUDIT|VERSION|BY))*"
    rf"|(?:FOLLOW UP |FOLLOW-UP )?{_RECOMMENDED}|(?:FOLLOW UP|FOLLOW-UP|FOLLOWUP)"
    r"|(?:CRITICAL |URGENT |SIGNIFICANT )?(?:RESULTS? |FINDINGS? )?(?:NOTIFICATIONS?|COMMUNICATIONS?)"
    r"|(?:CRITICAL|URGENT) (?:FINDINGS?|RESULTS?)|COMMUNICATION OF (?:\w+ )*(?:FINDINGS?|RESULTS?)"
    rf"|(?:ELECTRONICALLY )?{_SIGNED} BY|SIGNATURE|ATTESTATION|TRANSCRIPTIONIST|CC|DISCREPANCY"
    r"|(?:ATTENDING |RESIDENT |STAFF |TEACHING |RESPONSIBLE )?(?:RADIOLOGIST|PHYSICIAN|ATTENDING)"
    r"|END OF (?:REPORT|DICTATION|IMPRESSION)",
    IMPRESSION: rf"(?:(?:FINAL|CHEST|OVERALL) )?{_CONCLUDED}(?: {_RECOMMENDED})?",
    INDICATION: r"(?:(?:CLINICAL|PATIENT|MEDICAL|PAST MEDICAL) )?"
    r"(?:INDICATIONS?|HISTORY|INFORMATION|QUESTION|DIAGNOSIS)"
    rf"(?: (?:CLINICAL )?(?:INDICATIONS?|HISTORY))?(?: FOR (?:THE |THIS )?{_EXAM})?"
    rf"|REASON FOR (?:THE |THIS )?{_EXAM}|CLINICAL (?:DATA|STATEMENT)",
    COMPARISON: rf"(?:PRIOR |REFERENCE )?(?:COMPARISONS?|COMPARISON {_EXAM})|REFERENCE {_EXAM}",
    TITLE: rf"(?:TYPE OF )?{_EXAM}|TECHNIQUES?|EXAM(?:INATION)? TYPE",
}
_KINDS = {kind: re.compile(pattern) for kind, pattern in _NAMES.items()}

# Words whose typing errors are put right: two letters in a long one that begins as it should, one letter in any.
# "MEDICATION" and "CONTUSION" are words of their own.
_SPELT = (
    "FINDINGS IMPRESSION INDICATION COMPARISON TECHNIQUE EXAMINATION HISTORY CLINICAL CONCLUSION RECOMMENDATION "
    "RECOMMENDATIONS NOTIFICATION PROCEDURE INFORMATION REASON PRELIMINARY PROVISIONAL"
).split()
_ONE_WRONG = 0.85  # difflib's ratio
_LONG = 6  # letters of a view's word, where one may be wrong: "PORTBALE"
_OTHER_WORDS = frozenset(["COMPRESSION", "INDUCTION"])  # as near as a name with a letter or two wrong
_NEVER_TWO = frozenset(["CONCLUSION", "HISTORY", "REASON", "CLINICAL", "INFORMATION", "NOTIFICATION"])

# Before "FINDINGS" in its heading: any words but these, with which it is no name or another one's.
_NO_NAME = frozenset(
    "NO SEE NOT THESE THOSE WITHOUT CORRELATE REVIEW PRIOR PREVIOUS ABOVE WITH GIVEN UNCHANGED SIMILAR NEGATIVE".split()
)
_MOST_BEFORE = 6  # words
# Capitalised only ("Additional findings:"), it is a heading with these words before it; more may be a sentence.
_QUALIFIERS = frozenset(
    "ADDITIONAL OTHER CHEST RADIOGRAPHIC RADIOLOGIC RADIOLOGICAL IMAGING RIB LUNG PULMONARY CARDIAC PERTINENT "
    "RELEVANT KEY MAJOR MAIN PRINCIPAL DETAILED INCIDENTAL CURRENT THE CXR X-RAY XRAY RADIOGRAPH TECHNIQUE "
    "COMPARISON IMPRESSION IMPRESSIONS REPORT".split()
)
_SIDES = frozenset(["LEFT", "RIGHT", "BOTH", "BILATERAL"])
_AFTER = frozenset(
    "IMPRESSION IMPRESSIONS CONCLUSION CONCLUSIONS RECOMMENDATION RECOMMENDATIONS COMPARISON TECHNIQUE INTERPRETATION "
    "DISCUSSION REPORT FROM TO BY FOR REGARDING INCLUDE INCLUDING ARE AS FOLLOWS FOLLOWING BELOW LUNG LUNGS HEART "
    "BONES MEDIASTINUM LINES TUBES DEVICES".split()
)

# A view heading is made of these words only, dates (___) and times, and names the chest, ribs, a picture or a position.
PICTURES = frozenset("CHEST THORAX CXR VIEW VIEWS RADIOGRAPH RADIOGRAPHS FILM FILMS X-RAY XRAY".split())
TAKING = PICTURES | frozenset(  # what is said of how a picture was taken, in headings and in sentences
    "PA AP LAT LATERAL FRONTAL POSTEROANTERIOR ANTEROPOSTERIOR PORTABLE UPRIGHT SEMI ERECT SEMIERECT SUPINE SITTING "
    "SEMI-UPRIGHT SEMI-ERECT SEMIUPRIGHT DECUBITUS LEFT RIGHT BEDSIDE SINGLE ONE TWO THREE FOUR DUAL OF THE AND A IN "
    "ON AT WITH DATED HOURS AM PM MORNING EVENING".split()
)
_NAMES_A_VIEW = PICTURES | frozenset(
    "X-RAYS XRAYS RAY IMAGE IMAGES PROJECTION PROJECTIONS SERIES PA AP PORTABLE DECUBITUS DECUB LORDOTIC LORDOTICS "
    "OBLIQUE OBLIQUES RIB RIBS UPRIGHT SUPINE BABYGRAM".split()
)
_RIBS = frozenset(["RIB", "RIBS", "THE"])
_BESIDE_THE_CHEST = frozenset("ABDOMEN ABDOMINAL KUB PELVIS STERNUM CLAVICLE SPINE NECK SHOULDER".split())
_VIEW_WORDS = (
    TAKING
    | _NAMES_A_VIEW
    | _BESIDE_THE_CHEST
    | frozenset(
        "LATERALS STANDING BILATERAL UNILATERAL BOTH FIVE SIX ENERGY SUBTRACTION DIGITAL INSPIRATORY EXPIRATORY "
        "INSPIRATION EXPIRATION APICAL SHALLOW DETAIL DETAILED MARKER MARKERS NIPPLE REPEAT REPEATED ADDITIONAL "
        "LIMITED COMPLETE FOLLOW UP FOLLOWUP POST PROCEDURE TRAUMA STUDY EXAM EXAMINATION X PLUS HRS P M "
        "PATIENT POSITION POSITIONS POSITIONED PERFORMED OBTAINED TAKEN PORT LINE PLACEMENT FOR".split()
    )
)
_COMPARED = re.compile(r"(?<=\w)[ ,]+(?:(?:WITH|IN) COMPARISON|COMPARED) (?:TO|WITH)\b")  # may stand in a view heading
_TIME = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?")


def without_times(line: str) -> str:
    """The line, as long as it was, with "_" for each time of day: the colon of "9:30" ends no heading."""
    return _TIME.sub(lambda time: "_" * len(time.group()), line)


def is_capitals(name: str) -> bool:
    """Whether a name is written in capitals, a plural's "(s)" aside."""
    return name.replace("(s)", "").isupper()


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str | None:
    """The section that a name opens, or None. Of "FINDINGS AND IMPRESSION" it is the findings."""
    words = [_spelt(word) for word in _words(name) if len(word) > 1 and word not in ("AND", "AM", "PM")]
    plain = " ".join(words)
    if _KINDS[NOTE].fullmatch(plain):
        return NOTE
    if "FINDINGS" in words:
        return FINDINGS if _names_findings(words, is_capitals(name)) else None
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(plain)), None)


def is_view(name: str) -> bool:
    """Whether a name is that of a picture of the chest or ribs; abdomen and others beside the chest alone."""
    words = {_spelt_view(word) for word in _words(_COMPARED.sub("", name.upper()).replace("-", " "))}
    if not words <= _VIEW_WORDS or (words & _BESIDE_THE_CHEST and "CHEST" not in words):
        return False
    return bool(words & _NAMES_A_VIEW) and not words <= _RIBS  # "RIBS: Intact." is a part of the text


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?:-[A-Z]+)*", name.upper().replace("(S)", "S"))


@lru_cache(maxsize=4096)
def _spelt(word: str) -> str:
    """The word of a heading that this one is, or nearly is; else itself."""
    if word == "FINDING":
        return "FINDINGS"
    if word in _VIEW_WORDS or word in _SPELT or word in _OTHER_WORDS:
        return word
    for right in difflib.get_close_matches(word, _SPELT, n=1, cutoff=1 - 2 / 8):
        ratio = difflib.SequenceMatcher(None, right, word).ratio()
        two_wrong = 1 - 2 / len(right) if right not in _NEVER_TWO and word[0] == right[0] else _ONE_WRONG
        if ratio >= min(two_wrong, _ONE_WRONG):
            return right
    return word


@lru_cache(maxsize=4096)
def _spelt_view(word: str) -> str:
    """The word of a view heading that this one is, or is but for a letter; else itself."""
    if word in _VIEW_WORDS or len(word) < _LONG:
        return word
    return next(iter(difflib.get_close_matches(word, _VIEW_WORDS, n=1, cutoff=_ONE_WRONG)), word)


def _names_findings(words: list[str], capitals: bool) -> bool:
    place = words.index("FINDINGS")
    before, after = words[:place], words[place + 1 :]
    if not set(after) <= _VIEW_WORDS | _AFTER | {"FINDINGS"}:
        return False
    if _SIDES & set(after) and not _NAMES_A_VIEW & set(after):  # "Findings on the left: ..." is a part of the text
        return False
    if not capitals:
        return set(before) <= _QUALIFIERS
    return len(before) <= _MOST_BEFORE and not _NO_NAME & set(before)
