"""A grid's numbers as Markdown and LaTeX. Printed from the summary file alone, so that a table is never typed by hand.

`Content` below is the content of a `summary.json` (`revtaf.ablation.output`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from revtaf.errors import UserError
from revtaf.eval.classified import RULE
from revtaf.eval.evaluate import COLUMNS
from revtaf.files import read_json
from revtaf.labels import CHEXPERT_CATEGORIES, HEAD_CATEGORIES
from revtaf.pages.parts import number, without_zero
from revtaf.pages.report import tex

Content = Mapping[str, Any]
SUMMARY = "summary.json"
ROUNDING = 1e-9  # a spread below is none: the row has no random part
HEADINGS = {key: heading for heading, (_, key) in COLUMNS.items()} | {
    "average": "Avg",
    "head_f1": "head F1",
    "tail_f1": "tail F1",
    "tail_minus_head": "tail minus head F1",
    "repeat_positive": "positives of the prompt repeated",
    "repeat_negative": "negatives repeated",
    "auc": "AUC of the classifier",
    "no_finding_share": "says \u201cno finding\u201d",
    **{
        f"{source} {score}": f"{name} maps, {score.replace('iou', 'IoU')}"
        for source, name in (("local", "entity"), ("global", "sentence"))
        for score in ("pointing", "iou", "mass")
    },
}
# What the texts say at all: a table of its own below the scores.
SAID = ("micro_f1_positive", "no_finding_share", "repeat_positive", "repeat_negative", "auc")
MAIN = (*(key for _, key in COLUMNS.values() if key not in SAID), "average")
NAMES = {
    "mimic_cxr": "MIMIC-CXR",
    "iu_xray": "IU X-Ray",
    "phantom": "phantom",
    "phantom_other": "phantom, other patients",
    "medfuse_phantom": "phantom",
    "medfuse_iu_xray": "IU X-Ray",
    "medfuse_mimic_cxr": "MIMIC-CXR",
}
PAPER_COLUMNS = tuple(key for key in MAIN if key not in ("CIDEr", "micro_f1", "macro_f1"))
NLG_COLUMNS = PAPER_COLUMNS[:6]
_COMPARED = ("BLEU_4", "ROUGE_L", "CIDEr", "example_f1", "micro_f1", "tail_f1", "average")


def summaries(tables: Path, data: str = "*") -> list[tuple[Path, Content]]:
    """The summaries of the grids of a data set, or of all, by name. Files of that name that another command wrote there
    (`revtaf study`) are none."""
    found = [(path, read_json(path)) for path in sorted(tables.glob(f"{data}/*/{SUMMARY}"))]
    return [(path, content) for path, content in found if _of_a_grid(content)]


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of a grid. UserError where the file is of something else."""
    content = read_json(path, "summary of a grid")
    if not _of_a_grid(content):
        raise UserError(f"{path} is no summary of a grid: another command wrote it; move its folder elsewhere")
    return content


def _of_a_grid(content: Any) -> bool:
    return isinstance(content, dict) and {"views", "rows", "pairs"} <= content.keys()


def columns_of(content: Content, standard: Sequence[str] = MAIN) -> tuple[str, ...]:
    """The metrics of a grid's tables: its own, where it has rows of rankings or names them, else the standard ones."""
    return tuple(content.get("metrics") or standard)


def name_of(content: Content, key: str) -> str:
    """A metric by the name that its system has for it, else by ours."""
    return content.get("headings", {}).get(key) or HEADINGS.get(key, key.replace("_", " "))


def heading(content: Content, key: str) -> str:
    """The same as a column's heading, with an arrow where less is better."""
    return name_of(content, key) + " ↓" * (key in content.get("lower is better", ()))


def scores_markdown(content: Content) -> str:
    """Mean and, in small print, the standard deviation over seeds; the paper's row below ours."""
    shown = columns_of(content)
    lines = [["", *(heading(content, key) for key in shown)], ["---", *["---:"] * len(shown)]]
    for row in content["rows"].values():
        lines.append([row["label"], *(cell(row, key) for key in shown)])
        if row["paper"]:
            printed = row["paper"]["figures"]
            lines.append([f"*{paper_label(row)}*", *(_italic(printed.get(key)) for key in shown)])
            if content["of the paper"] == row["paper"]["on"]:  # the same samples
                mean, by_chexbert = row["mean"], "ce:chexbert" in content["signature"]
                kept = [key for key in printed if mean.get(key) is not None and (by_chexbert or key in NLG_COLUMNS)]
                apart = {key: mean[key] - printed[key] for key in kept}
                if apart:
                    lines.append(["*ours − paper*", *(_italic_signed(apart.get(key)) for key in shown)])
    return rows_markdown(lines)


def said_markdown(content: Content) -> str:
    """Whether the rows say more than "no finding": shares, the score over the findings, different texts, and what the
    references allow. Empty for rankings."""
    references = content.get("references")
    if not references:
        return ""
    shown = [key for key in SAID if any(row["mean"].get(key) is not None for row in content["rows"].values())]
    heads = ["", *(heading(content, key) for key in shown), "different texts"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row in content["rows"].values():
        lines.append([row["label"], *(cell(row, key) for key in shown), distinct(row)])
    always = references["always no finding"]
    lines.append(['*always "no finding"*', *(_italic(always.get(key)) for key in shown), "*1*"])
    lines.append(["*references*", *(_italic(references.get(key)) for key in shown), f"*{references['distinct']}*"])
    return rows_markdown(lines) + (
        "\nRepeated: the share of the prompt\u2019s statuses that the labeler reads in the text, \u201cno "
        f"finding\u201d aside. AUC: P(positive) against the references, the mean over {RULE}. micro-F1-positive: over "
        "the 13 findings without \u201cno finding\u201d. Always \u201cno finding\u201d has a CE-F1 of "
        f"{without_zero(always['example_f1'])} and a micro-F1 of {without_zero(always['micro_f1'])}. A report whose "
        "reference has no positive category scores 0 in CE-F1 whatever it says: at most "
        f"{without_zero(references['example_f1_ceiling'])} can be reached.\n"
    )


def distinct(row: Mapping) -> str:
    """How many different texts a row has, the mean over its seeds."""
    found = list(row["distinct reports"].values())
    return f"{sum(found) / len(found):.0f}" if found else "n/a"


def differences_markdown(content: Content, names: Sequence[str] = ()) -> str:
    """Each tested pair: difference, 95 % interval, Holm's p, seeds that agree; the paper's difference below."""
    pairs = content["pairs"]
    if not pairs:
        return ""
    names = names or columns_of(content, _COMPARED)
    names = [name for name in names if any(name in pair["metrics"] for pair in pairs)]
    lines = [["difference", *(heading(content, n) for n in names)], ["---", *["---:"] * len(names)]]
    labels = {name: row["label"] for name, row in content["rows"].items()}
    for pair in pairs:
        lines.append(
            [
                f"{labels.get(pair['a'], pair['a'])} − {labels.get(pair['b'], pair['b'])}",
                *(_difference(pair, name) for name in names),
            ]
        )
        a, b = (content["rows"].get(pair[side], {}) for side in "ab")
        if a.get("paper") and b.get("paper"):
            one, other = a["paper"]["figures"], b["paper"]["figures"]
            apart = {name: one[name] - other[name] for name in names if name in one and name in other}
            lines.append([f"*{paper_label(a)}*", *(_italic_signed(apart.get(name)) for name in names)])
    return rows_markdown(lines)


def classes_markdown(content: Content) -> str:
    """F1 of each category, head and tail apart (the paper's grouping), with the means."""
    rows = content["rows"]
    lines = [["", "positives", *(row["label"] for row in rows.values())], ["---", *["---:"] * (len(rows) + 1)]]
    tail = [c for c in CHEXPERT_CATEGORIES if c not in HEAD_CATEGORIES]
    for group, names, mean in (("head", HEAD_CATEGORIES, "head_f1"), ("tail", tail, "tail_f1")):
        for name in names:
            values = (cell(row, f"f1/{name}") for row in rows.values())
            lines.append([f"{name} ({group})", str(content["support"][name]), *values])
        lines.append([f"**mean of the {group}**", "", *(cell(row, mean) for row in rows.values())])
    return rows_markdown(lines)


def scores_latex(content: Content) -> str:
    """The paper's nine columns and Avg as a booktabs tabular; standard deviations as subscripts."""
    shown = columns_of(content, PAPER_COLUMNS)
    lines = [
        r"\begin{tabular}{l" + "c" * len(shown) + "}",
        r"\toprule",
        " & ".join(["", *(tex(heading(content, key)).replace("↓", r"$\downarrow$") for key in shown)]) + r" \\",
        r"\midrule",
    ]
    for row in content["rows"].values():
        cells = []
        for key in shown:
            mean, spread = row["mean"].get(key), row["sd"].get(key)
            small = "" if spread is None else rf"$_{{\pm {without_zero(spread)}}}$"
            cells.append("--" if mean is None else without_zero(mean) + small)
        lines.append(" & ".join([tex(row["label"]), *cells]) + r" \\")
        if row["paper"]:
            printed = (row["paper"]["figures"].get(key) for key in shown)
            cells = ["--" if value is None else without_zero(value) for value in printed]
            lines.append(" & ".join([rf"\quad {paper_label(row)}", *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def rows_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a Markdown table; the second is the rule below the heading. A | in a cell is escaped."""
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped) + "\n"


def columns_markdown(rows: Iterable[Mapping], columns: Mapping[str, str]) -> str:
    """rows of a summary as lines; columns: metric -> heading."""
    lines = [["", *columns.values()], ["---", *["---:"] * len(columns)]]
    return rows_markdown([*lines, *([row["label"], *(cell(row, key) for key in columns)] for row in rows)])


def cell(row: Mapping, key: str) -> str:
    """Mean of a row and, where it varies, its deviation over seeds: .324 <sub>±.012</sub>; n/a where it is missing."""
    mean, spread = row["mean"].get(key), row["sd"].get(key)
    if mean is None:
        return "n/a"
    return without_zero(mean) + (f" <sub>±{without_zero(spread)}</sub>" if (spread or 0) > ROUNDING else "")


def seeds_of(content: Content) -> list[int]:
    """All seeds that a row of the grid has."""
    return sorted({seed for row in content["rows"].values() for seed in row["seeds"]})


def _italic(value: float | None) -> str:
    return "" if value is None else f"*{without_zero(value)}*"


def _italic_signed(value: float | None) -> str:
    return "" if value is None else f"*{signed(value)}*"


def paper_label(row: Mapping) -> str:
    """For example paper, MIMIC-CXR."""
    return f"paper, {NAMES.get(row['paper']['on'], row['paper']['on'])}"


def signed(value: float) -> str:
    """+.012"""
    return ("+" if value > 0 else "") + without_zero(value)


def bounds_of(found: Mapping, sign: int = 1) -> str:
    """The interval of a difference, or of its opposite (sign -1): [-.010, +.020]; one patient has none."""
    if found["low"] is None or found["high"] is None:
        return "no interval"
    low, high = sorted((sign * found["low"], sign * found["high"]))
    return f"[{signed(low)}, {signed(high)}]"


def _difference(pair: Mapping, name: str) -> str:
    found = pair["metrics"].get(name)
    if found is None or found["difference"] is None:
        return "n/a"
    bounds = bounds_of(found)
    value = signed(found["difference"])
    if found["verdict"] != "not shown":
        value = f"**{value}**"
    p = "n/a" if found["p_holm"] is None else number(found["p_holm"]).removeprefix("0")
    seeds = len(pair["seeds"])
    over_seeds = "" if found["p_seeds"] is None else f" p {number(found['p_seeds']).removeprefix('0')}"
    return f"{value} <sub>{bounds} p {p}; {found['agree']}/{seeds}{over_seeds}</sub>"
