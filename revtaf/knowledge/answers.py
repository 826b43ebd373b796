"""Findings and the answers behind them: "pneumothorax: no" -> "no pneumothorax".

The scope rules know triggers before and after a finding and need to know nothing of forms: an answer is put where they
look. A label is what stands before a colon; without colons a sentence is a list only if it consists of findings that
each have an answer behind them, as cleaning leaves a list.
"""

from __future__ import annotations

import re

from revtaf.knowledge.headers import SEEN, header_sentences, said_of_items
from revtaf.knowledge.scope import leading_trigger
from revtaf.knowledge.spelling import normalised

_LONGEST_LABEL = 7  # words
_LONGEST_VALUE = 12  # words that a label is joined to

_HERE = r"on (?:this|the|these) (?:study|exam\w*|films?|images?|radiographs?|views?|scan)|bilaterally"
_NO = (
    rf"no|(?:none|nil)(?: (?:\w+ly )?(?:{SEEN}|suspected|definite|significant|of note|at all|{_HERE}))*"
    rf"|(?:absent|negative|not (?:\w+ly )?(?:{SEEN}))(?: (?:{_HERE}))?"
    r"|no (?:\w+ )?(?:evidence|signs?|suggestion|indication)(?: of (?:this|it|such|any|one))?"
    r"|false|excluded|ruled out|denied|resolved|not any|without|never|neg|n|f|0"
)
_YES = rf"(?:yes|present|positive|true|confirmed|{SEEN}|pos|y|t|1)"
_UNSURE = "uncertain|unsure|unclear|equivocal|indeterminate|questionable|possibl[ey]|maybe|probable|suspected"
_UNSURE += "|(?:cannot|can not|could not) (?:exclude|rule out)|not (?:excluded|ruled out)"
_SILENT = (
    "n/a|na|n a|not (?:applicable|available|assessed|assessable|mentioned|stated|reported|specified|evaluated)"
    "|not (?:addressed|commented(?: on)?)"
    "|unknown|null|nan|blank|unspecified"
)
_IS_NO, _IS_UNSURE, _IS_SILENT = (re.compile(rf"(?:{words})") for words in (_NO, _UNSURE, _SILENT))
_NORMAL = re.compile(r"\b(normal|unremarkable|intact)\b")
_BEGINS_NORMAL = re.compile(
    r"(?:normal|unremarkable|clear|within normal limits|wnl)\b(?!.*\b(?:position|place\w*|location)\b)"
)
_BEGINS_YES = re.compile(rf"{_YES}\b")
ANSWER = rf"(?:{_SILENT}|{_NO}|{_YES}|{_UNSURE})"
_BEGINS_ANSWER = re.compile(rf"\W*({ANSWER})\b[\W_]*")
BARE = r"(?:no|none|yes|absent|present|negative|positive|nil|not (?:seen|present|identified|visuali[sz]ed))"
_BOTH_SIDES = re.compile(
    r"\b(?:left|right)\b.*\b(?:yes|present|positive|small|tiny|trace|minimal|mild|moderate|large|severe)\b"
    r".*\b(?:left|right)\b"
)
# An answer without a colon: "Pneumothorax - none - ...", "pneumothorax (no)", "pneumothorax? No", "pneumothorax = 0".
_DASHED = re.compile(rf"(?::\s*|(?<=\s))-+(?:\s+(?=[01]\W*$)|\s*(?![01])(?={ANSWER}\s*(?:$|[.;,(\n]|\s-)))")
_BRACKETED = re.compile(rf":?\s*[(\[]\s*(?![01])({ANSWER})\s*[)\]]")
_ASKED = re.compile(rf"\?\s*(?={ANSWER}\b)")
_EQUALS = re.compile(r":?[ \t]*(?:=+>?|-+>|\t)+")
_CHOICE = re.compile(r"[(\[]\s*(?:yes ?/ ?no|no ?/ ?yes|y ?/ ?n|present ?/ ?absent|absent ?/ ?present)\s*[)\]]")
_DOUBTED = re.compile(r":?\s*(?:[(\[]\s*\?+\s*[)\]]|(?<=\w)\s*\?+\s*$|(?<=\s)-+\s*\?+\s*$)")
_QUERIED = re.compile(r"(?<!\w)\?+\s*(?=[a-z])")  # "? pneumonia"
_QUESTION = re.compile(
    r"^(?:is|are|was|were|does|do|did|has|have|can|could)"
    r"(?: (?:there|you|we|the (?:image|study|film|radiograph|x ?ray|chest x ?ray|cxr|patient)))?"
    r"(?: (?:show|see|have|demonstrate|identify|been))?(?: (?:an?|any|the))?"
    r"(?: (?:evidence|signs?) of)?(?: (?:an?|any|the))? (?=\w)"
)
# "effusion +ve", "effusion (-)", "effusion: +", "effusion +, pneumothorax -, ..."
_SIGNS = re.compile(
    r":?\s*(?:(?<!\w)[-+]\s?ve\b|\([-+]{1,3}\)|(?<=:)[\s\"']*[-+]{1,3}(?=\W*$)|(?<=\w )[-+](?=\s*[,;]))"
)
# What a program writes for yes, no and perhaps
_CODES = {"-1": "uncertain", "0": "no", "1": "yes", "?": "uncertain"}
_CODE = re.compile(r"\W*?(-?[01]|\?)(?:\.0+)?[\s\"'}\].,]*")

# A label and its value
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|there|shows?|remains?|appears?|may|might|could|demonstrates?|reveals?|suggests?"
    r"|represents?|cannot|been|be)\b"
)
_HEADING = re.compile(
    r"(?:(?:final|chest|radiographic|key|main|other|additional|overall|detailed|clinical) )*(?:findings?|impressions?"
    r"|conclusions?|reports?|summary|observations?|interpretation|comparisons?|technique|indications?|history|examination"
    r"|exam|study|assessment|comments?|answers?|labels?|status|results?|views?|findings and impression|text|note)"
)
# A label with one of these words asserts something by itself ("Small left effusion: ...").
_ASSERTED = re.compile(
    r"\b(?:left|right|bilateral|bi\w+ar|small|tiny|trace|minimal|mild|moderate|large|severe|new|stable|unchanged|increas\w+"
    r"|worsen\w+|persistent|patchy|focal|diffuse|known|again|lobe|base|bases|apex|zone|possible|probable|likely)\b"
)
# "pneumothorax there is no pneumothorax": a label that cleaning robbed of its colon
_REPEATED = re.compile(r"(?:\w+ ){0,3}?(\w{6,}?)s? (?=there (?:is|are|was|were) .*\b\1)")
_TWICE = re.compile(r"^((?:\w+ ){0,2}\w+) no (?=(?:evidence of |focal |acute )*\1$)")  # "effusion no effusion"
_PRONOUN = re.compile(
    r"(?:(?:it|this|that|they|these) (?:is|are|was|were)|there (?:is|are) (?:an? )?(?=(?:\w+ )?ones?\b)) ?"
)
_SHARED = re.compile(r"[a-z]{5,}")
_COMMON = frozenset("right upper lower there which chest acute small large their other about".split())

# Answers without a colon
_LAST_ANSWERS = frozenset("no none nil yes absent negative present positive".split())
_STRONG = frozenset("no none nil yes".split())
_NO_ITEM = (
    "is|are|was|were|has|have|had|there|been|be|may|might|could|can|cannot|not|without|with|but|if|shows?|remains?|appears?"
    "|seen|demonstrates?|however|than|when|unless|any|evidence|no|none|nil|yes|absent|negative|present|positive"
)
_ITEM = re.compile(
    rf"(no findings? |(?:(?!(?:{_NO_ITEM})\b)\w+ ){{1,6}})(?:(?:present|seen|visible|identified) (?=no\b|yes\b))?"
    r"(no|none|nil|yes|absent|negative|present|positive)(?: |$)"
)


def answered(part: str) -> list[str]:
    """The normalised sentences of a part of a report in lower case, between two ends of sentences."""
    part = _CHOICE.sub("", _EQUALS.sub(": ", part.strip()))
    part = _SIGNS.sub(lambda sign: ": no" if "-" in sign[0] else ": yes", part)
    if "?" in part:
        part = _QUERIED.sub(" possible ", _DOUBTED.sub(": uncertain", _ASKED.sub(": ", part)))
    part = _DASHED.sub(": ", _BRACKETED.sub(r": \1,", part))
    found = _labelled(part) if ":" in part else normalised(part)
    found = [_TWICE.sub("no ", sentence) for sentence in found]
    if " there " in part:
        repeated = [_REPEATED.match(sentence) for sentence in found]
        found = [text[label.end() :] if label else text for text, label in zip(found, repeated, strict=True)]
    return [answer for sentence in found for answer in _answers(sentence)]


def _answers(sentence: str) -> list[str]:
    """The items of a sentence such as "pneumothorax no effusion yes"; any other sentence as it is.

    The whole sentence must be made of findings, each with its answer behind it. Where one of them is "no", which may
    also look ahead, the last one must be an answer that cannot ("small effusion no pneumothorax present" is no list).
    """
    last = sentence[sentence.rfind(" ") + 1 :]
    if last not in _LAST_ANSWERS:
        return [sentence]
    sentence = _QUESTION.sub("", sentence)
    items, end = [], 0
    while end < len(sentence) and (item := _ITEM.match(sentence, end)):
        items.append((item[1].strip(), item[2]))
        end = item.end()
    if end < len(sentence) or (last not in _STRONG and any(answer == "no" for _, answer in items)):
        return [sentence]
    return [_stated(label, answer) for label, answer in items]


def _stated(label: str, answer: str) -> str:
    if answer in ("yes", "present", "positive"):
        return label
    # "heart negative": the predicate stays; what it says of a finding is denied
    return f"no {label} negative" if answer == "negative" else f"no {label}"


def _labelled(part: str) -> list[str]:
    """The sentences of a part with colons: "a: no b: small c: yes" has three labels, "b" behind the answer of "a"."""
    label, *values = part.split(":")
    sentences = []
    for number, value in enumerate(values):
        following = ""
        if number < len(values) - 1:
            if answer := _BEGINS_ANSWER.match(value):
                value, following = answer[1], value[answer.end() :]
            elif "," in value:
                value, _, following = value.rpartition(",")
        sentences += _valued(label, value)
        label = following
    return sentences


def _valued(label: str, value: str) -> list[str]:
    """The sentences of one label and what stands behind its colon, up to the end of the sentence."""
    if label[-1:].isdigit() and value[:1].isdigit():  # a time, a ratio
        return normalised(f"{label} {value}")
    first = normalised(value.split(",")[0])
    names, values = normalised(label), normalised(value)
    if code := _CODE.fullmatch(value):
        value = _CODES[code[1]]
        values = first = [value]
    name = _QUESTION.sub("", names[0]) if names else ""
    if (kind := said_of_items(name)) is not None:
        return header_sentences(name, kind, value)
    if not name or len(names[0].split(" ")) > _LONGEST_LABEL or _VERB.search(name):
        return names + values
    if _HEADING.fullmatch(name):
        return values
    asserted = bool(_ASSERTED.search(name))
    if not values:
        return names if asserted else []
    if pronoun := _PRONOUN.match(values[0]):  # "effusion: it is absent", "effusion: there is a small one"
        values = first = [values[0][pronoun.end() :]]
    said, begin = values[0], first[0] if first else ""
    if _IS_SILENT.fullmatch(said):
        return []
    if _IS_NO.fullmatch(begin):
        denied = _stated(name, "negative" if begin == "negative" else "no")
        if _NORMAL.search(name):  # "heart size normal: no"
            denied = _NORMAL.sub(r"not \1", name)
        rest = normalised(value.partition(",")[2])
        return [denied, *rest]
    if _IS_UNSURE.fullmatch(said):
        return [f"possible {name}"]
    if _BEGINS_NORMAL.match(said):  # the heart is normal, an effusion is denied
        return [f"no {name} {said}", *values[1:]]
    shares = bool((set(_SHARED.findall(name)) - _COMMON) & set(_SHARED.findall(said)))
    kind, trigger = leading_trigger(re.sub(r"^there (?:is|are) ", "", said))
    if kind.startswith("negation") and trigger != "not" and not (asserted and shares):
        if asserted:
            return [name, *values]
        found = [f"no {name}", *values]
        if _BOTH_SIDES.search(said):
            found.append(name)
        elif trigger in ("no", "without") and not _VERB.search(said):
            found[:2] = [f"no {name} {said}"]
        return found
    if shares:
        return values
    if kind.startswith("uncertain_before") and not re.match(r"(?:may|might|could|would|cannot)\b", said):
        return [f"{said} {name}"]
    short = not _VERB.search(said) and len(said.split(" ")) <= _LONGEST_VALUE
    if short or kind.startswith("uncertain_after") or _BEGINS_YES.match(said):
        return [f"{name} {said}"]
    return [name, *values] if asserted else values
