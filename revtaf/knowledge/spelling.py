"""One spelling for the rules: contractions written out, British words as American, ligatures as letters.

The phrase lists are American and know "is not", not "isn't". A report may have either quote, or none where cleaning
removed it ("isnt"). A word is changed only where the stem is listed: "otherwise" and "contour" stay.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Marks that mean the same, before anything else. Ticks and crosses are boxes (boxes.py).
_MARKS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u02bc\u00b4`\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **dict.fromkeys("\u2014\u2015", " - "),
        **dict.fromkeys("\u2022\u2023\u25aa\u25cf\u25e6\u00b7\u2219\u25a0\u25cb", "\u2022"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f", " "),
        **dict.fromkeys("\u2713\u2714\u2705\u2611\u2612", " [x] "),
        **dict.fromkeys("\u2717\u2718\u274c\u2715\u2716\u2610", " [ ] "),
        **dict.fromkeys("\ufe0e\ufe0f", ""),
        **dict.fromkeys("\u2028\u2029", "\n"),
        **{"\u2192": ":", "\u21d2": ":", "\uff1a": ":", "\u00e6": "ae", "\u0153": "oe", "\u00c6": "Ae", "\u0152": "Oe"},
    }
)

_VERBS = "is|are|was|were|has|have|had|do|does|did|could|would|should|might|must"
_SHORT = {f"{verb}nt": f"{verb} not" for verb in _VERBS.split("|")}
_SHORT |= {
    "aint": "is not",
    "doesnot": "does not",
    "cant": "cannot",
    "wont": "will not",
    "theres": "there is",
    "wo": "without",
    "andor": "and or",
}
_SHORT |= {"neg": "negative", "pos": "positive"}
# British -> American, inside a word
_STEMS = {
    "oedem": "edem",
    "oesoph": "esoph",
    "paenia": "penia",
    "paenic": "penic",
    "paed": "ped",
    "aem": "em",
    "tumour": "tumor",
    "coeliac": "celiac",
    "aetiolog": "etiolog",
    "manoeuv": "maneuv",
    "gynaecom": "gynecom",
    "anaesth": "anesth",
    "caecum": "cecum",
    "foetal": "fetal",
    "diarrhoea": "diarrhea",
    "calibre": "caliber",
    "centre": "center",
    "fibre": "fiber",
    "metre": "meter",
    "litre": "liter",
    "favour": "favor",
    "colour": "color",
    "behaviour": "behavior",
    "neighbour": "neighbor",
    "artefact": "artifact",
    "tunnelled": "tunneled",
    "grey": "gray",
}
# Stems of verbs in -ise ("visualised", "demineralisation"). A list: "raised" and "otherwise" are none.
_ISE = (
    "visual|recogn|local|hospital|mineral|character|organ|catheter|general|minim|neutral|optim|summar|util|emphas|stabil"
    "|metastas|homogen|vascular|normal|equal|cephal|arterial|immobil|central|lateral|epithelial|crystall|digit|scrutin|mobil|steril|internal|external|pressur|oxygen|cauter|lobul"
)
_STEM = re.compile("|".join(sorted(_STEMS, key=len, reverse=True)))
_VERB_IN_ISE = re.compile(rf"((?:{_ISE}))is(e[ds]?|ing|ations?)")
_KNOWN_WORDS = 1 << 16
LONGEST = 300  # words of a sentence: no report has one, a run-away decoder has, and scopes cost its square

# Cleaning glues "a/b" to "ab"; a finding inside a longer word is set free ("consolidationatelectasis").
_GLUED = re.compile(
    r"(?<=[a-z]{4})(?<!lymph)(?<!papill)(?<!angio)"
    r"(?=(?:atelecta|consolidation|effusion|pneumonia|pneumothora|edema|opacit|infiltrat|scarring|tortuosity|fibrosis))"
)
_DEIDENTIFIED = re.compile(r"\bx{2,}\b|_+")
_NO_WORD = re.compile(r"[^a-z0-9]+")


def same_marks(text: str) -> str:
    """One quote, one dash, one bullet; ticks and crosses as boxes. Letters keep their case."""
    return text.replace("`", "'") if text.isascii() else text.translate(_MARKS)


@lru_cache(maxsize=_KNOWN_WORDS)
def one_spelling(word: str) -> str:
    """A word in lower case without marks -> the American one; a contraction -> its two words."""
    if word in _SHORT:
        return _SHORT[word]
    return _VERB_IN_ISE.sub(r"\1iz\2", _STEM.sub(lambda stem: _STEMS[stem.group()], word))


def normalised(text: str) -> list[str]:
    """[] or one sentence: words in one spelling between single blanks; several where one is longer than `LONGEST`."""
    text = _DEIDENTIFIED.sub(" ", text.replace("'", "").replace("w/o", "without"))
    sentence = _NO_WORD.sub(" ", text).strip()
    if not sentence:
        return []
    words = " ".join(map(one_spelling, sentence.split(" ")))
    words = _GLUED.sub(" ", words).split(" ")
    return [" ".join(words[i : i + LONGEST]) for i in range(0, len(words), LONGEST)]
