"""Tables of the views beside the scores, printed from the summary alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from revtaf.ablation.tables import cell, columns_markdown, differences_markdown, paper_label, rows_markdown
from revtaf.pages.parts import number, without_zero


def alignment_markdown(view: Mapping[str, Any]) -> str:
    """Scores of entity and sentence maps, the pairs, and the pointing game of each finding."""
    columns = {
        "local pointing": "entity maps: pointing",
        "local macro_pointing": "mean over findings",
        "local iou": "IoU",
        "local mass": "mass",
        "global pointing": "sentence maps: pointing",
        "global iou": "IoU",
        "global mass": "mass",
        "agreement": "sentence and entity map: IoU",
    }
    names = ("local pointing", "local iou", "local mass", "global pointing", "global mass", "agreement")
    side = view["grid"]
    intro = (
        f"Maps of {side} x {side} patches; {view['maps']['local']:.0f} findings with boxes, "
        f"{view['maps']['global']:.0f} of them stated by a sentence of the reference report (nearest by true statuses, "
        "the same for every row). Pointing: does the largest weight hit the box? Mass: share of the weight in the box. "
        "IoU: Eq. 13 against the box; a constant map has 0."
    )
    findings = [key for key in next(iter(view["rows"].values()))["mean"] if key.startswith("local pointing/")]
    each = [["entity maps, pointing", *(row["label"] for row in view["rows"].values())]]
    each.append(["---", *["---:"] * len(view["rows"])])
    for key in findings:
        each.append([key.split("/", 1)[1], *(cell(row, key) for row in view["rows"].values())])
    return "\n".join(
        [
            intro,
            "",
            columns_markdown(view["rows"].values(), columns),
            differences_markdown(view, names),
            "## Each finding",
            "",
            rows_markdown(each),
        ]
    )


def retrieval_markdown(view: Mapping[str, Any]) -> str:
    """Neighbours of the test images, the pairs, agreement of the distances, and the ball."""
    columns = {
        "distance@1": "status distance, first",
        "distance@5": "first five",
        "nearest@1": "first is nearest",
        "overlap@1": "overlap, first",
        "nDCG@5": "nDCG@5",
        "example_f1": "CE F1 of its statuses",
        "micro_f1": "micro",
        "head_f1": "head",
        "tail_f1": "tail",
    }
    parts = [
        "Training images nearest to each test image, never of its own patient. Status distance: categories that differ "
        "(less is better); first is nearest: no training report of another patient has a smaller one (ties count). "
        "Overlap: Jaccard of stated findings.",
        "",
        columns_markdown(view["rows"].values(), columns),
        differences_markdown(view, ("distance@1", "overlap@1", "nDCG@5", "example_f1", "micro_f1", "tail_f1")),
    ]
    if view["shared neighbours"]:
        shared = [
            ["the same points under two distances", "first neighbour shared", "first five"],
            ["---", "---:", "---:"],
        ]
        for found in view["shared neighbours"]:
            name = f"{found['row']}: {' and '.join(found['distances'])}"
            shared.append([name, number(found["top 1"]), number(found["top 5"])])
        parts.append(rows_markdown(shared))
    for ball in view["ball"]:
        quantiles = ball["quantiles"]
        correlation = ball["rank correlation with the number of findings"]
        who = f"{ball['row']}, seed {ball['seed']} (c = {ball['curvature']:.3g})"
        parts.append(
            f"- Ball of {who}: median radius {quantiles['0.5']:.3f} of 1, largest {quantiles['1']:.3f}; "
            f"{100 * ball['share beyond .9']:.1f} % beyond .9; rank correlation of the radius with the number of "
            f"findings {'n/a' if correlation is None else without_zero(correlation)}."
        )
    return "\n".join(parts)


def counts_markdown(view: Mapping[str, Any], data: str) -> str:
    """Supplement, Table 4: positives here and in the MIMIC-CXR test set."""
    lines = [
        ["category", data, "share", "", "paper, MIMIC-CXR", "share", ""],
        ["---", "---:", "---:", "---", "---:", "---:", "---"],
    ]
    for name, row in view["rows"].items():
        lines.append(
            [
                name,
                str(row["positives"]),
                f"{100 * row['share']:.1f} %",
                "head" if row["head here"] else "tail",
                str(row["paper"]),
                f"{100 * row['paper share']:.1f} %",
                "head" if row["head in the paper"] else "tail",
            ]
        )
    return rows_markdown(lines) + "\nHead: above 10 % of the samples.\n"


def advanced_markdown(content: Mapping[str, Any]) -> str:
    """Supplement, Table 5. What could not be computed is n/a; the notes say what was missing."""
    view = content["advanced"]
    names = list(dict.fromkeys(k for row in view["rows"].values() for found in row["per_seed"].values() for k in found))
    notes = view["notes"] if names else ["Not computed: eval.radgraph_model and eval.bertscore_model name no model."]
    names = names or ["1/RadCliQ_v1", "RadGraph_combined", "BERTScore"]
    lines = [["", *names], ["---", *["---:"] * len(names)]]
    for key, row in view["rows"].items():
        for seed, found in row["per_seed"].items():
            lines.append([f"{row['label']}, seed {seed}", *(number(found.get(name)) for name in names)])
        if paper := content["rows"][key]["paper"]:
            printed = (paper["figures"].get(name) for name in names)
            lines.append([f"*{paper_label(content['rows'][key])}*", *(f"*{number(value)}*" for value in printed)])
    return rows_markdown(lines) + "\n" + "\n".join(f"- {note}" for note in notes)
