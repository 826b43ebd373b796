"""Statuses of a report by letters: "x2 e1" is no pneumothorax and an effusion."""

from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES

# 0 blank, 1 positive, 2 negative, 3 uncertain
SHORT = {
    **{"e": "pleural effusion", "x": "pneumothorax", "c": "consolidation", "p": "pneumonia", "d": "edema"},
    **{"m": "cardiomegaly", "o": "lung opacity", "a": "atelectasis", "f": "fracture", "s": "support devices"},
    **{"b": "bone/spine abnormality", "n": "no finding", "w": "enlarged cardiomediastinum", "l": "lung lesion"},
    **{
        "t": "aorta abnormality",
        "v": "lung volume abnormality",
        "h": "hemidiaphragm abnormality",
        "q": "pleural other",
    },
}


def wrong(report: str, expected: str) -> dict[str, int]:
    """The categories whose status differs, with the status that they got."""
    row = RuleLabeler().label([report])[0]
    got = {letter: int(row[CATEGORIES.index(name)]) for letter, name in SHORT.items()}
    return {SHORT[case[0]]: got[case[0]] for case in expected.split() if got[case[0]] != int(case[1])}


def flat(report: str) -> str:
    return report.replace("\n", " ").replace("\t", " ")
