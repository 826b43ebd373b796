"""The paper's claims, and whether our measurements support them: decided by a rule, never by hand.

A difference is evidence where its p over patients (Holm) and over seeds are below .05 and every seed agrees
(`collect.Pair.verdict`). A claim is *supported* where at least one of its primary metrics is evidence for it and none
against, *contradicted* the other way round, and *not shown* where there is no evidence either way: that is no proof of
the opposite, so the smallest effect that would have been seen stands beside it (`revtaf.ablation.detectable`). There is
*no verdict* where metrics contradict each other, and none where a control on which the claim depends failed on this
data set or was not run: a path that passes nothing on cannot show that what it carries is worthless.

That something changes hardly anything is another kind of claim (`Claim.within`): no evidence of a loss does not make
it so. It is *supported* where in every primary metric the lower ends of both 95 % intervals of the difference, over
patients and over seeds, lie above the loss that is allowed, *contradicted* where in one of them the upper ends lie
below it, and *not shown* else, with the loss that cannot be ruled out. Its control is a row that has to lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from revtaf.ablation.controls import FAILED, NOT_RUN, PASSED, pair_of, verdicts
from revtaf.ablation.detectable import of_pair
from revtaf.ablation.tables import (
    NAMES,
    SUMMARY,
    bounds_of,
    name_of,
    read_summary,
    rows_markdown,
    signed,
    summaries,
)
from revtaf.errors import UserError
from revtaf.pages.parts import number, without_zero

SCORES = ("example_f1", "micro_f1", "average")


@dataclass(frozen=True)
class Claim:
    """text: the claim; paper: what it prints for it; controls: which have to pass first; a, b: rows of `grid` of which
    a should be better; view: "scores", or the view whose rows are meant; metrics: the primary ones. within: where a
    should be no worse than b, the loss that counts as none, as a share of what b has."""

    text: str
    paper: str
    controls: tuple[str, ...]
    grid: str
    a: str
    b: str
    metrics: tuple[str, ...] = SCORES
    view: str = "scores"
    within: float | None = None


EVEN = "LRP (even masses)"  # the path of the entities in rows with the paper's even masses
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
    Claim("MPSA beats softmax attention", "F1 +.007, Avg +.005", (EVEN,), "supplement_table3", "mpsa", "softmax"),
    Claim(
        "FCC improves the alignment of MPSA's maps",
        "-",
        ("FCC", EVEN),
        *("alignment", "mpsa", "mpsa_plain", MAPS, "alignment"),
    ),
    Claim(
        "FCC improves the alignment of softmax maps",
        "-",
        ("FCC", EVEN),
        *("alignment", "softmax", "softmax_plain", MAPS, "alignment"),
    ),
    Claim(
        "MPSA's maps align better than softmax's (no FCC)",
        "-",
        ("FCC", EVEN),
        *("alignment", "mpsa_plain", "softmax_plain", MAPS, "alignment"),
    ),
    Claim(
        "the whole model's maps find the findings better than a uniform map",
        "-",
        ("FCC", "LRP"),
        *("alignment", "full", "uniform map", MAPS, "alignment"),
    ),
    Claim(
        "MPSA's maps with even masses find them better than a uniform map",
        "-",
        ("FCC", EVEN),
        *("alignment", "mpsa", "uniform map", MAPS, "alignment"),
    ),
    Claim(
        "so do they without FCC",
        "-",
        ("FCC", EVEN),
        *("alignment", "mpsa_plain", "uniform map", MAPS, "alignment"),
    ),
    Claim(
        "the retrieved report matters: the true nearest as GRP beats a random one",
        "-",
        ("GRP",),
        *("ceilings", "oracle_grp", "random_grp"),
    ),
)


def claims_markdown(tables: Path, data: Sequence[str], claims: Sequence[Claim] = CLAIMS) -> str:
    """Every claim on every data set that has its grid."""
    lines = [["claim", "paper, MIMIC-CXR", "data", "needs", "measured", "verdict"], ["---"] * 6]
    for claim in claims:
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
    trained_on = {content.get("trained on", data) for _, content in summaries(tables, data)}
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
    content = read_summary(path)
    if claim.view not in content["views"]:
        raise UserError(f"{path} has no view '{claim.view}', which the claim '{claim.text}' needs")
    view = content if claim.view == "scores" else content[claim.view]
    pair, sign = pair_of(view["pairs"], claim.a, claim.b)
    if pair is None:
        return None
    if claim.within is not None:
        return _kept(claim, view, pair, sign, content)
    parts, said, seen = [], [], {}
    for name in claim.metrics:
        found = pair["metrics"].get(name)
        if found is None or found["difference"] is None:
            continue
        said.append(
            found["verdict"] if sign > 0 else {"better": "worse", "worse": "better"}.get(*[found["verdict"]] * 2)
        )
        agree = f"{found['agree']}/{len(pair['seeds'])} seeds"
        if found["p_seeds"] is not None:
            agree += f", p {number(found['p_holm'])} and {number(found['p_seeds'])}".replace(" 0.", " .")
        heading = name_of(content, name)
        parts.append(f"{heading} {signed(sign * found['difference'])} {bounds_of(found, sign)}, {agree}")
        seen[heading] = of_pair(pair, view["rows"], name)
    return "; ".join(parts), judge(said, _would_have_seen(seen, len(pair["seeds"])))


def judge_kept(bounds: Sequence[tuple[float, float]], allowed: Sequence[float], asked: int) -> str:
    """Of a claim that nothing is lost. bounds: for each primary metric that was measured the smallest lower and the
    largest upper end of the difference's intervals; allowed: the losses that count as none; asked: how many metrics
    the claim has."""
    pairs = list(zip(bounds, allowed, strict=True))
    if any(high < -loss for (_, high), loss in pairs):
        return "**contradicted**"
    if len(pairs) == asked and all(low > -loss for (low, _), loss in pairs):
        return "**supported**"
    worst = min((low for low, _ in bounds), default=None)
    return "not shown" if worst is None else f"not shown (a loss of {without_zero(-worst)} is not ruled out)"


def _kept(claim: Claim, view: Mapping, pair: Mapping, sign: int, content: Mapping) -> tuple[str, str]:
    parts, bounds, allowed = [], [], []
    for name in claim.metrics:
        found, full = pair["metrics"].get(name), view["rows"][claim.b]["mean"].get(name)
        if found is None or found["low"] is None or full is None:
            continue
        low, high = sorted((sign * found["low"], sign * found["high"]))
        over_seeds = _over_seeds(claim, view, pair["seeds"], name)
        text = f"{name_of(content, name)} {signed(sign * found['difference'])} [{signed(low)}, {signed(high)}]"
        if over_seeds is not None:
            text += f", over seeds [{signed(over_seeds[0])}, {signed(over_seeds[1])}]"
            bounds.append((min(low, over_seeds[0]), max(high, over_seeds[1])))
            allowed.append(claim.within * full)
        parts.append(f"{text}; allowed {signed(-claim.within * full)}")
    if len(pair["seeds"]) < 2:
        return "; ".join(parts), "not shown (one seed: nothing is)"
    return "; ".join(parts), judge_kept(bounds, allowed, len(claim.metrics))


def _over_seeds(claim: Claim, view: Mapping[str, Any], seeds: Sequence[int], name: str) -> tuple[float, float] | None:
    """The 95 % t-interval of a - b over trainings; None of one seed."""
    if len(seeds) < 2:
        return None
    a, b = (view["rows"][row]["per_seed"] for row in (claim.a, claim.b))
    each = np.array([a[str(seed)][name] - b[str(seed)][name] for seed in seeds])
    half = float(stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    return float(each.mean()) - half, float(each.mean()) + half


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
