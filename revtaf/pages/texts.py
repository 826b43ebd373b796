"""Lengths, variety, and the samples with the highest and the lowest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from revtaf.eval.diagnostics import extremes
from revtaf.eval.evaluate import Evaluation
from revtaf.pages.parts import bar, number, table, ticks

_NAMES = {
    "BLEU_4": "BLEU-4",
    "METEOR": "METEOR",
    "ROUGE_L": "ROUGE-L",
    "CIDEr": "CIDEr",
    "example_precision": "CE-P",
    "example_recall": "CE-R",
    "example_f1": "CE-F1",
}
_ORDERS = ("ROUGE_L", "BLEU_4", "METEOR", "CIDEr", "example_f1")
_LISTED = 20
# In units of the drawing, which are pixels at its full width.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 1060, 220, 44, 40, 12


def lengths_section(evaluation: Evaluation) -> str:
    """Tiles, the histogram of lengths, and the score by length of the reference."""
    return (
        _tiles(evaluation.lengths)
        + _histogram(evaluation.lengths["length_histogram"])
        + _by_length(evaluation.by_length)
    )


def samples_by_score(evaluation: Evaluation, shown: Sequence[str] = ()) -> str:
    """The worst and the best samples by each metric. shown: ids of the sample cards further down, in their order."""
    anchors = {sample: f"#sample-{i}" for i, sample in enumerate(shown, start=1)}
    place = {sample: i for i, sample in enumerate(evaluation.ids)}
    lists = []
    for key in (key for key in _ORDERS if key in evaluation.per_sample):
        others = [name for name in _NAMES if name in evaluation.per_sample and name != key]
        found = extremes(evaluation.ids, evaluation.per_sample[key], k=_LISTED)
        tables = []
        for side in ("worst", "best"):
            rows = []
            for sample, score in found[side]:
                name = escape(sample)
                name = f'<a href="{anchors[sample]}">{name}</a>' if sample in anchors else name
                rest = "".join(f"<td>{number(evaluation.per_sample[o][place[sample]])}</td>" for o in others)
                rows.append(f'<tr><th scope="row">{name}</th><td class="sorted">{number(score)}</td>{rest}</tr>')
            titles = ["", *(_NAMES[name] for name in (key, *others))]
            tables.append(f"<h3>{side.capitalize()}</h3>" + table(titles, rows, "listed"))
        state = "" if lists else " open"
        lists.append(f'<details name="order"{state}><summary>by {_NAMES[key]}</summary>{"".join(tables)}</details>')
    count = min(_LISTED, len(evaluation.ids))
    return (
        f"<p>The {count} worst and the {count} best samples by each metric, each sample scored as a corpus of its own. "
        "All samples are in per_sample.csv.</p>" + "".join(lists)
    )


def _tiles(lengths: Mapping) -> str:
    own, reference = lengths["hypothesis_words"], lengths["reference_words"]
    copied = lengths["share_copied_from_training"]
    tiles = (
        (f"{own['mean']:.1f}", f"words per generated report; median {own['median']:g}, {own['min']} to {own['max']}"),
        (
            f"{reference['mean']:.1f}",
            f"words per reference; median {reference['median']:g}, {reference['min']} to {reference['max']}",
        ),
        (f"{lengths['brevity_ratio']:.2f}", f"brevity ratio; BLEU takes a factor of {lengths['brevity_penalty']:.2f}"),
        (_percent(lengths["share_truncated_references"]), "of the references are cut at the protocol\u2019s limit"),
        (_percent(lengths["share_long_hypotheses"]), "of the generated reports are longer than that limit"),
        (_percent(lengths["share_empty_hypotheses"]), "are empty"),
        (_percent(lengths["share_repeated_hypotheses"]), "repeat the report of another study"),
        (_percent(lengths["share_most_frequent_hypothesis"]), "are the most frequent generated report"),
        (
            "n/a" if copied is None else _percent(copied),
            "are a training report word for word" + " (no training reports given)" * (copied is None),
        ),
        (
            f"{lengths['distinct_hypotheses']}",
            f"distinct generated reports, for {lengths['distinct_references']} distinct references",
        ),
        (
            f"{lengths['hypothesis_vocabulary']}",
            f"different words generated, {lengths['reference_vocabulary']} in the references",
        ),
    )
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{value}</b><span>{escape(what)}</span></div>' for value, what in tiles
    ) + "</div>"  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _histogram(histogram: Mapping[str, Sequence[int]]) -> str:
    """Reports by number of words, reference and generated side by side, without the empty bins at both ends."""
    edges = histogram["from"]
    counts = np.array([histogram["reference"], histogram["hypothesis"]])  # (2, bins)
    used = np.flatnonzero(counts.sum(axis=0))
    first, last = used[0], used[-1]
    bins = range(first, last + 1)
    slot = (_WIDTH - _LEFT) / len(bins)
    wide = min(0.4 * slot, 48.0)
    floor, tall = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    top = int(counts.max())
    parts = []
    for value, text in ticks(0, top, min(4, top)):
        y = floor - tall * value / top
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="count" x="{_LEFT - 8}" y="{y + 4:.1f}">{text}</text>')
    for i, b in enumerate(bins):
        middle = _LEFT + slot * (i + 0.5)
        name = f"{edges[b]}\u2013{edges[b + 1] - 1}" if b + 1 < len(edges) else f"{edges[b]}+"
        parts.append(f'<text class="tick" x="{middle:.1f}" y="{floor + 16}">{name}</text>')
        for kind, offset, count in (("reference", -wide, counts[0, b]), ("hypothesis", 0.0, counts[1, b])):
            high = tall * count / top
            parts.append(
                f'<rect class="{kind}" x="{middle + offset:.1f}" y="{floor - high:.1f}" width="{wide:.1f}" '
                f'height="{high:.1f}"><title>{name} words: {count}</title></rect>'
            )
    parts.append(f'<text class="tick" x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 4}">words</text>')
    return (
        '<h3>Reports by length <small><span class="key reference">reference</span> '
        '<span class="key hypothesis">generated</span></small></h3>'
        '<div class="scroll"><svg class="histogram" role="img" aria-label="Reports by number of words" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(parts)}</svg></div>'
    )


def _by_length(rows: Sequence[Mapping[str, float]]) -> str:
    if not rows:
        return ""
    lines = [
        f'<tr><th scope="row">{row["from"]} to {row["to"]}</th><td class="graph">{bar(row["mean"])}</td>'
        f"<td>{number(row['mean'])}</td><td>{row['n']}</td></tr>"
        for row in rows
    ]
    return "<h3>Score by length of the reference</h3>" + table(("Words", "", "ROUGE-L", "Reports"), lines, "perclass")
