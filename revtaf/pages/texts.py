"""Lengths, variety, and the samples with the highest and the lowest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from revtaf.eval.diagnostics import extremes
from revtaf.eval.evaluate import Evaluation
from revtaf.pages.parts import percent, ticks

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


class Bar(NamedTuple):
    """A bar of the histogram. kind: "reference" or "hypothesis". said: its bin and its reports."""

    kind: str
    x: float
    y: float
    height: float
    said: str


class Bin(NamedTuple):
    """Reports of one length. x: the middle. words: the limits, as text."""

    x: float
    words: str
    bars: list[Bar]


class Histogram(NamedTuple):
    """Reports by number of words. grid: (y, number of reports). All places are in units of the drawing, to a tenth."""

    width: int
    height: int
    left: int
    floor: int
    bar_width: float
    grid: list[tuple[float, str]]
    bins: list[Bin]


class Lengths(NamedTuple):
    """The section. tiles: (value, what it is). by_length: score by length of the reference, in bins."""

    tiles: list[tuple[str, str]]
    histogram: Histogram
    by_length: Sequence[Mapping[str, float]]


class Ranked(NamedTuple):
    """A sample of a list, its place among the cards further down (0: it has none), and its scores."""

    id: str
    card: int
    score: float
    others: list[float]


class Order(NamedTuple):
    """The worst and the best samples by one metric. columns: that metric, and the others beside it."""

    columns: list[str]
    worst: list[Ranked]
    best: list[Ranked]


class Orders(NamedTuple):
    """The section. size: how many samples stand in each list."""

    size: int
    orders: list[Order]


def lengths_section(evaluation: Evaluation) -> Lengths:
    """Tiles, the histogram of lengths, and the score by length of the reference."""
    found = evaluation.lengths
    return Lengths(_tiles(found), _histogram(found["length_histogram"]), evaluation.by_length)


def samples_by_score(evaluation: Evaluation, shown: Sequence[str] = ()) -> Orders:
    """The worst and the best samples by each metric. shown: ids of the sample cards further down, in their order."""
    cards = {sample: i for i, sample in enumerate(shown, start=1)}
    place = {sample: i for i, sample in enumerate(evaluation.ids)}
    orders = []
    for key in (key for key in _ORDERS if key in evaluation.per_sample):
        others = [name for name in _NAMES if name in evaluation.per_sample and name != key]
        found = extremes(evaluation.ids, evaluation.per_sample[key], k=_LISTED)
        worst, best = (
            [
                Ranked(name, cards.get(name, 0), score, [evaluation.per_sample[o][place[name]] for o in others])
                for name, score in found[side]
            ]
            for side in ("worst", "best")
        )
        orders.append(Order([_NAMES[name] for name in (key, *others)], worst, best))
    return Orders(min(_LISTED, len(evaluation.ids)), orders)


def _tiles(lengths: Mapping) -> list[tuple[str, str]]:
    own, reference = lengths["hypothesis_words"], lengths["reference_words"]
    copied = lengths["share_copied_from_training"]
    return [
        (f"{own['mean']:.1f}", f"words per generated report; median {own['median']:g}, {own['min']} to {own['max']}"),
        (
            f"{reference['mean']:.1f}",
            f"words per reference; median {reference['median']:g}, {reference['min']} to {reference['max']}",
        ),
        (f"{lengths['brevity_ratio']:.2f}", f"brevity ratio; BLEU takes a factor of {lengths['brevity_penalty']:.2f}"),
        (percent(lengths["share_truncated_references"]), "of the references are cut at the protocol\u2019s limit"),
        (percent(lengths["share_long_hypotheses"]), "of the generated reports are longer than that limit"),
        (percent(lengths["share_empty_hypotheses"]), "are empty"),
        (percent(lengths["share_repeated_hypotheses"]), "repeat the report of another study"),
        (percent(lengths["share_most_frequent_hypothesis"]), "are the most frequent generated report"),
        (
            "n/a" if copied is None else percent(copied),
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
    ]


def _histogram(histogram: Mapping[str, Sequence[int]]) -> Histogram:
    """Reference and generated side by side, without the empty bins at both ends."""
    edges = histogram["from"]
    counts = np.array([histogram["reference"], histogram["hypothesis"]])  # (2, bins)
    used = np.flatnonzero(counts.sum(axis=0))
    shown = range(used[0], used[-1] + 1)
    slot = (_WIDTH - _LEFT) / len(shown)
    wide = min(0.4 * slot, 48.0)
    floor, tall = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    top = int(counts.max())
    bins = []
    for i, b in enumerate(shown):
        middle = _LEFT + slot * (i + 0.5)
        name = f"{edges[b]}\u2013{edges[b + 1] - 1}" if b + 1 < len(edges) else f"{edges[b]}+"
        bars = []
        for kind, offset, count in (("reference", -wide, counts[0, b]), ("hypothesis", 0.0, counts[1, b])):
            high = tall * int(count) / top
            place = round(middle + offset, 1), round(floor - high, 1), round(high, 1)
            bars.append(Bar(kind, *place, f"{name} words: {count}"))
        bins.append(Bin(round(middle, 1), name, bars))
    grid = [(round(floor - tall * value / top, 1), text) for value, text in ticks(0, top, min(4, top))]
    return Histogram(_WIDTH, _HEIGHT, _LEFT, floor, round(wide, 1), grid, bins)
