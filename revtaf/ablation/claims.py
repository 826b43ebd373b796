"""The paper's claims, and whether our measurements support them: decided by a rule, never by hand.

A difference is evidence where its p over patients (Holm) and over seeds are below .05 and every seed agrees
(`collect.Pair.verdict`). A claim is *supported* where at least one of its primary metrics is evidence for it and none
against, *contradicted* the other way round, and *not shown* where there is no evidence either way: that is no proof of
the opposite, so the smallest effect that would have been seen stands beside it (`revtaf.ablation.detectable`). There is
*no verdict* where metrics contradict each other, and none where a control on which the claim depends failed on this
data set or was not run: a path that passes nothing on cannot show that what it carries is worthless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from revtaf.ablation.controls import FAILED, NOT_RUN, PASSED, pair_of, verdicts
from revtaf.ablation.detectable import of_pair
from revtaf.ablation.tables import HEADINGS, NAMES, SUMMARY, rows_markdown, signed
from revtaf.errors import UserError
from revtaf.files import read_json
from revtaf.pages.parts import number, without_zero

SCORES = ("example_f1", "micro_f1", "average")


@dataclass(frozen=True)
class Claim:
    """text: the claim; paper: what it prints for it; controls: which have to pass first; a, b: rows of `grid` of which
    a should be better; view: "scores", or the view whose rows are meant; metrics: the primary ones."""

    text: str
    paper: str
    controls: tuple[str, ...]
    grid: str
    a: str
    b: str
    metrics: tuple[str, ...] = SCORES
    view: str = "scores"


MAPS = ("local pointing", "local mass", "global mass")
CLAIMS = (
    Claim("LRE helps", "F1 +.009, Avg +.015", ("GRP", "LRE"), "table3", "lre", "baseline"),
    Claim("LRE helps beside FVTAF", "F1 +.021, Avg +.014", ("GRP", "LRE"), "table3", "full", "fvtaf"),
    Claim(
        "LRE helps the tail more than the head",
        "head 5.4 %, tail 6.1 %, or the other way round",
        ("GRP", "LRE"),
        *("table3", "full", "fvtaf", ("tail_minus_head",)),
    ),
    Claim("FVTAF helps", "F1 +.009, Avg +.014", ("GRP", "LRP"), "table3", "fvtaf", "baseline"),
    Claim("FVTAF helps beside LRE", "F1 +.021, Avg +.013", ("GRP", "LRP"), "table3", "full", "lre"),
    Claim("both together help", "F1 +.030, Avg +.028", ("GRP", "LRP", "LRE"), "table3", "full", "baseline"),
    Claim(
        "hyperbolic beats cosine",
        "F1 +.009, Avg +.006",
        ("GRP", "LRE"),
        *("supplement_table2", "hyperbolic", "cosine"),
    ),
    Claim(
        "hyperbolic beats Euclidean",
        "F1 +.008, Avg +.010",
        ("GRP", "LRE"),
        *("supplement_table2", "hyperbolic", "euclidean"),
    ),
    Claim(
        "cosine beats Euclidean",
        "F1 -.001, Avg +.004",
        ("GRP", "LRE"),
        *("supplement_table2", "cosine", "euclidean"),
    ),
    Claim(
        "hyperbolic retrieves better than Euclidean",
        "-",
        ("LRE",),
        *("supplement_table2", "hyperbolic", "euclidean", ("overlap@1", "example_f1"), "retrieval"),
    ),
    Claim("MPSA beats softmax attention", "F1 +.007, Avg +.005", ("LRP",), "supplement_table3", "mpsa", "softmax"),
    Claim(
        "FCC improves the alignment of MPSA's maps",
        "-",
        ("FCC", "LRP"),
        *("alignment", "mpsa", "mpsa_plain", MAPS, "alignment"),
    ),
    Claim(
        "FCC improves the alignment of softmax maps",
        "-",
        ("FCC", "LRP"),
        *("alignment", "softmax", "softmax_plain", MAPS, "alignment"),
    ),
    Claim(
        "MPSA's maps align better than softmax's (no FCC)",
        "-",
        ("FCC", "LRP"),
        *("alignment", "mpsa_plain", "softmax_plain", MAPS, "alignment"),
    ),
    Claim(
        "the whole model's maps find the findings better than a uniform map",
        "-",
        ("FCC", "LRP"),
        *("alignment", "mpsa", "uniform map", MAPS, "alignment"),
    ),
    Claim(
        "so do MPSA's maps without FCC",
        "-",
        ("FCC", "LRP"),
        *("alignment", "mpsa_plain", "uniform map", MAPS, "alignment"),
    ),
    Claim(
        "the retrieved report matters: the true nearest as GRP beats a random one",
        "-",
        ("GRP",),
        *("ceilings", "oracle_grp", "random_grp"),
    ),
)


def claims_markdown(tables: Path, data: Sequence[str]) -> str:
    """Every claim on every data set that has its grid."""
    lines = [["claim", "paper, MIMIC-CXR", "data", "needs", "measured", "verdict"], ["---"] * 6]
    for claim in CLAIMS:
        for name in data:
            found = _evidence(claim, tables / name / claim.grid / SUMMARY)
            if found is None:
                continue
            measured, verdict = found
            verdict = silenced(claim.controls, known_controls(tables, name)) or verdict
            needs = ", ".join(claim.controls)
            lines.append([claim.text, claim.paper, NAMES.get(name, name), needs, measured, verdict])
    return rows_markdown(lines)


def known_controls(tables: Path, data: str) -> dict[str, str]:
    """Verdicts on the controls of a data set; of a set that tests another's models, those of that set where it has none
    of its own."""
    own = verdicts(tables, data)
    trained_on = {read_json(path).get("trained on", data) for path in sorted((tables / data).glob(f"*/{SUMMARY}"))}
    others = [verdicts(tables, name) for name in sorted(trained_on - {data})]
    return {name: verdict for found in others for name, verdict in found.items()} | own


def silenced(needs: Sequence[str], controls: Mapping[str, str]) -> str:
    """Why there is no verdict: the controls that failed, else those that were not run; empty where all passed."""
    state = {name: controls.get(name, NOT_RUN) for name in needs}
    for verdict in (FAILED, NOT_RUN):
        if names := [name for name, found in state.items() if found == verdict]:
            return f"no verdict: control{'s' * (len(names) > 1)} {', '.join(names)} {verdict}"
    assert set(state.values()) <= {PASSED}
    return ""


def judge(verdicts: Sequence[str], would_have_seen: str = "") -> str:
    """Of the primary metrics' verdicts ("better", "worse", "not shown") the claim's."""
    better, worse = "better" in verdicts, "worse" in verdicts
    if better and worse:
        return "no verdict: metrics contradict each other"
    if better or worse:
        return "**supported**" if better else "**contradicted**"
    return f"not shown ({would_have_seen})" if would_have_seen else "not shown"


def _evidence(claim: Claim, path: Path) -> tuple[str, str] | None:
    if not path.is_file():
        return None
    content = read_json(path)
    if claim.view not in content["views"]:
        raise UserError(f"{path} has no view '{claim.view}', which the claim '{claim.text}' needs")
    view = content if claim.view == "scores" else content[claim.view]
    pair, sign = pair_of(view["pairs"], claim.a, claim.b)
    if pair is None:
        return None
    parts, said, seen = [], [], {}
    for name in claim.metrics:
        found = pair["metrics"].get(name)
        if found is None or found["difference"] is None:
            continue
        low, high = sorted((sign * found["low"], sign * found["high"]))
        said.append(
            found["verdict"] if sign > 0 else {"better": "worse", "worse": "better"}.get(*[found["verdict"]] * 2)
        )
        agree = f"{found['agree']}/{len(pair['seeds'])} seeds"
        if found["p_seeds"] is not None:
            agree += f", p {number(found['p_holm'])} and {number(found['p_seeds'])}".replace(" 0.", " .")
        heading = HEADINGS.get(name, name)
        parts.append(f"{heading} {signed(sign * found['difference'])} [{signed(low)}, {signed(high)}], {agree}")
        seen[heading] = of_pair(pair, view["rows"], name)
    return "; ".join(parts), judge(said, _would_have_seen(seen, len(pair["seeds"])))


def _would_have_seen(effects: Mapping[str, float | None], seeds: int) -> str:
    """Of each primary metric the smallest effect that would have been evidence."""
    if seeds < 2:
        return "one seed: no effect would have been seen"
    known = [f"{heading} {without_zero(effect)}" for heading, effect in effects.items() if effect is not None]
    return (
        f"would have seen {' or '.join([', '.join(known[:-1]), known[-1]] if known[1:] else known)} or more"
        if known
        else ""
    )
