"""The paper's claims, and whether our measurements support them: decided by a rule, never by hand.

A difference is evidence where its p over patients (Holm) and over seeds are below .05 and every seed agrees
(`collect.Pair.verdict`). A claim is
*supported* where at least one of its primary metrics is evidence for it and none against, *contradicted* the other way
round, *mixed* with both, and *not shown* where there is no evidence either way: with few patients that is no proof of
the opposite, so the interval is printed as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from revtaf.ablation.tables import HEADINGS, NAMES, rows_markdown, signed
from revtaf.errors import UserError
from revtaf.files import read_json
from revtaf.pages.parts import number

SCORES = ("example_f1", "micro_f1", "average")


@dataclass(frozen=True)
class Claim:
    """text: the claim; paper: what it prints for it; a, b: rows of `grid` of which a should be better; view: "scores",
    or the view whose rows are meant; metrics: the primary ones."""

    text: str
    paper: str
    grid: str
    a: str
    b: str
    metrics: tuple[str, ...] = SCORES
    view: str = "scores"


CLAIMS = (
    Claim("LRE helps", "F1 +.009, Avg +.015", "table3", "lre", "baseline"),
    Claim("LRE helps beside FVTAF", "F1 +.021, Avg +.014", "table3", "full", "fvtaf"),
    Claim(
        "LRE helps the tail more than the head",
        "head 5.4 %, tail 6.1 %, or the other way round",
        *("table3", "full", "fvtaf", ("tail_minus_head",)),
    ),
    Claim("FVTAF helps", "F1 +.009, Avg +.014", "table3", "fvtaf", "baseline"),
    Claim("FVTAF helps beside LRE", "F1 +.021, Avg +.013", "table3", "full", "lre"),
    Claim("both together help", "F1 +.030, Avg +.028", "table3", "full", "baseline"),
    Claim("hyperbolic beats cosine", "F1 +.009, Avg +.006", "supplement_table2", "hyperbolic", "cosine"),
    Claim("hyperbolic beats Euclidean", "F1 +.008, Avg +.010", "supplement_table2", "hyperbolic", "euclidean"),
    Claim("cosine beats Euclidean", "F1 -.001, Avg +.004", "supplement_table2", "cosine", "euclidean"),
    Claim(
        "hyperbolic retrieves better than Euclidean",
        "-",
        *("supplement_table2", "hyperbolic", "euclidean", ("overlap@1", "example_f1"), "retrieval"),
    ),
    Claim("MPSA beats softmax attention", "F1 +.007, Avg +.005", "supplement_table3", "mpsa", "softmax"),
    Claim(
        "FCC improves the alignment of MPSA's maps",
        "-",
        *("alignment", "mpsa", "mpsa_plain", ("local pointing", "local mass", "global mass"), "alignment"),
    ),
    Claim(
        "FCC improves the alignment of softmax maps",
        "-",
        *("alignment", "softmax", "softmax_plain", ("local pointing", "local mass", "global mass"), "alignment"),
    ),
    Claim(
        "MPSA's maps align better than softmax's (no FCC)",
        "-",
        *("alignment", "mpsa_plain", "softmax_plain", ("local pointing", "local mass", "global mass"), "alignment"),
    ),
    Claim(
        "the whole model's maps find the findings better than a uniform map",
        "-",
        *("alignment", "mpsa", "uniform map", ("local pointing", "local mass", "global mass"), "alignment"),
    ),
    Claim(
        "so do MPSA's maps without FCC",
        "-",
        *("alignment", "mpsa_plain", "uniform map", ("local pointing", "local mass", "global mass"), "alignment"),
    ),
    Claim(
        "the retrieved report matters: the true nearest as GRP beats a random one",
        "-",
        *("ceilings", "oracle_grp", "random_grp"),
    ),
)


def claims_markdown(tables: Path, data: Sequence[str]) -> str:
    """Every claim on every data set that has its grid."""
    lines = [["claim", "paper, MIMIC-CXR", "data", "measured", "verdict"], ["---"] * 5]
    for claim in CLAIMS:
        for name in data:
            found = _evidence(claim, tables / name / claim.grid / "summary.json")
            if found is None:
                continue
            measured, verdict = found
            lines.append([claim.text, claim.paper, NAMES.get(name, name), measured, verdict])
    return rows_markdown(lines)


def judge(verdicts: Sequence[str]) -> str:
    """Of the primary metrics' verdicts ("better", "worse", "not shown") the claim's."""
    better, worse = "better" in verdicts, "worse" in verdicts
    if better and worse:
        return "mixed"
    return "**supported**" if better else "**contradicted**" if worse else "not shown"


def _evidence(claim: Claim, path: Path) -> tuple[str, str] | None:
    if not path.is_file():
        return None
    content = read_json(path)
    if claim.view not in content["views"]:
        raise UserError(f"{path} has no view '{claim.view}', which the claim '{claim.text}' needs")
    view = content if claim.view == "scores" else content[claim.view]
    pair, sign = _pair(view["pairs"], claim.a, claim.b)
    if pair is None:
        return None
    parts, verdicts = [], []
    for name in claim.metrics:
        found = pair["metrics"].get(name)
        if found is None or found["difference"] is None:
            continue
        low, high = sorted((sign * found["low"], sign * found["high"]))
        verdict = found["verdict"] if sign > 0 else {"better": "worse", "worse": "better"}.get(*[found["verdict"]] * 2)
        verdicts.append(verdict)
        agree = f"{found['agree']}/{len(pair['seeds'])} seeds"
        if found["p_seeds"] is not None:
            agree += f", p {number(found['p_holm'])} and {number(found['p_seeds'])}".replace(" 0.", " .")
        parts.append(
            f"{HEADINGS.get(name, name)} {signed(sign * found['difference'])} [{signed(low)}, {signed(high)}], {agree}"
        )
    return "; ".join(parts), judge(verdicts)


def _pair(pairs: Sequence[Mapping[str, Any]], a: str, b: str) -> tuple[Mapping[str, Any] | None, int]:
    """The tested pair, and -1 where it was taken the other way round."""
    for pair in pairs:
        if (pair["a"], pair["b"]) == (a, b):
            return pair, 1
        if (pair["a"], pair["b"]) == (b, a):
            return pair, -1
    return None, 1
