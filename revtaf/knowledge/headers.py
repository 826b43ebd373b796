"""Headers that say something of the list beneath them: "Negative for:", "The following are absent:", "Normal:"."""

from __future__ import annotations

import re

from revtaf.knowledge.spelling import normalised

SEEN = "seen|present|identified|visuali[sz]ed|noted|detected|evident|demonstrated|appreciated|observed|found|apparent"
SEEN += "|visible"
_SEEN = rf"(?:{SEEN})"
_WHAT = r"(?:findings?|abnormalities|conditions?|diagnos[ei]s|patholog(?:y|ies)|features|structures|items|signs)"
_FOLLOWING = rf"(?:(?:all )?(?:of )?(?:the )?following(?: (?:\w+ )?{_WHAT})?|these(?: {_WHAT})?)"
_NOT = rf"(?:absent|negative|excluded|ruled out|denied|resolved|not (?!previously)(?:\w+ly )?(?:{_SEEN}))"
_UNSURE = r"(?:possible|uncertain|equivocal|indeterminate|questionable|suspected|not excluded)"
_UNSURE += r"|(?:cannot|can not|could not) be (?:excluded|ruled out)"
_NORMAL = r"(?:normal|unremarkable|(?:within|in) normal limits|intact|not remarkable)"
_IS = r"(?:is|are|was|were)"


def _said_of_all(predicate: str) -> str:
    """A header that says `predicate` of its items: "absent", "absent findings", "the following are absent"."""
    before = rf"{_WHAT} (?:{_IS} )?(?:{predicate})"
    return rf"(?:{_FOLLOWING} (?:{_IS} )?)?(?:{predicate})(?: {_WHAT})?(?: {_FOLLOWING})?|{before}"


_REST = rf"(?: any)?(?: of)?(?: {_FOLLOWING})?"
# Words that deny, or leave open, what follows them, at the end of a header: "The lungs are clear of:", "There is no:"
_DENIES_NEXT = (
    r"(?:(?:^|(?<=is )|(?<=are )|(?<=s )|(?<=ly )|(?<=clear ))(?:no|without)|negative for|(?:clear|free) (?:of|from)"
    r"|absence of|den(?:y|ies)|(?:does|do|did) not (?:show|demonstrate|reveal))"
    r"(?: (?:any|new|acute|convincing|definite|clear|radiographic))*"
    rf"(?: (?:evidence|signs?|suggestion|indication|features))?(?: (?:of|for))?{_REST}"
)
_DOUBTS_NEXT = (
    r"(?:(?:cannot|can not|could not) (?:exclude|rule out)|(?:suspicious|concerning|worrisome) for|rule out"
    r"|(?:may|might|could) (?:represent|be|reflect)|differential(?: diagnos[ei]s)?(?: considerations?)?(?: includes?)?)"
    rf"{_REST}"
)
_ROLE = r"(?:(?:pertinent|relevant|other|important|significant|key|additional) )?"
_KINDS = {
    "no": rf"{_ROLE}(?:negatives|{_said_of_all(_NOT)})|none of {_FOLLOWING}(?: {_IS} {_SEEN})?|(?:.* )?{_DENIES_NEXT}",
    "possible": rf"{_ROLE}(?:possibly|consider|query|{_said_of_all(_UNSURE)})|(?:.* )?{_DOUBTS_NEXT}",
    "normal": rf"{_ROLE}(?:normals|{_said_of_all(_NORMAL)})",
    "": rf"{_ROLE}(?:positives|positive for|yes|{_said_of_all(_SEEN + '|positive')})",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KINDS.items()}
_PREMISE = re.compile(rf"(.*?)\b(?:{_DENIES_NEXT}|{_DOUBTS_NEXT})")
_LONGEST = 12  # words of a header
_OWN = re.compile(r"(?:no|not|without|absent|negative|possible|possibly|normal)\b")


def said_of_items(label: str) -> str | None:
    """What a normalised label says of the items behind it: "no", "possible", "normal", "" (as they stand); None where
    it is no header of this kind."""
    if label.count(" ") >= _LONGEST:
        return None
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(label)), None)


def is_header(line: str) -> bool:
    """Whether a line, with its colon or without, is a header of this kind."""
    if ":" in line.rstrip(":"):
        return False
    names = normalised(line.lower())
    return bool(names) and said_of_items(names[0]) is not None


def header_sentences(label: str, kind: str, value: str) -> list[str]:
    """The sentences of a header of a kind (`said_of_items`) and the items behind its colon, in lower case."""
    premise = _PREMISE.fullmatch(label)
    before = [premise[1].strip()] if premise and premise[1].strip() else []
    if kind == "normal":  # a predicate of each, which a comma parts
        parts = [name for part in value.split(",") for name in normalised(part)]
        return [part if _OWN.match(part) else f"{part} normal" for part in parts]
    items = normalised(value)
    return before + [item if not kind or _OWN.match(item) else f"{kind} {item}" for item in items]
