"""Seconds to score a test set of MIMIC-CXR's size: text metrics, METEOR with its start, and the rule labeler.

    python scripts/benchmark/scoring.py [--samples 3858] [--words 95]

The reports are invented, drawn with a seed. Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from revtaf.eval import nlg
from revtaf.eval.meteor import Meteor
from revtaf.eval.protocol import PROTOCOL
from revtaf.knowledge.rules import RuleLabeler

TARGETS = {"BLEU, ROUGE-L, CIDEr": 8.0, "METEOR with start": 30.0, "rules, both sides": 5.0}

PLACES = "left base|right base|left upper lobe|right middle lobe|lingula|both lung bases|right apex".split("|")
FINDINGS = "atelectasis|consolidation|airspace opacity|pleural effusion|scarring|interstitial edema|a nodule".split("|")
DEGREES = "mild|moderate|small|unchanged|new|possible|slightly increased|no evidence of".split("|")
SENTENCES = (
    "There is {degree} {finding} in the {place}.",
    "As compared with the prior study, {degree} {finding} is seen at the {place}.",
    "The {place} shows {degree} {finding}, without {other}.",
    "The cardiac silhouette is {size} in size.",
    "No pneumothorax or {finding} is seen.",
    "A {side} central line ends in the {vein}, and the endotracheal tube is {number} cm above the carina.",
    "The bony structures are intact, with {degree} degenerative changes of the spine.",
)


def report(rng: np.random.Generator, words: int) -> str:
    """An invented report of at least `words` words."""
    sentences: list[str] = []
    while sum(len(s.split()) for s in sentences) < words:
        fields = {
            "degree": rng.choice(DEGREES), "finding": rng.choice(FINDINGS), "other": rng.choice(FINDINGS),
            "place": rng.choice(PLACES), "size": rng.choice(["normal", "enlarged", "top normal"]),
            "side": rng.choice(["left", "right"]), "vein": rng.choice(["upper SVC", "right atrium"]),
            "number": rng.integers(2, 9),
        }  # fmt: skip
        sentences.append(str(rng.choice(SENTENCES)).format(**fields))
    return " ".join(sentences)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def meteor(references: list[str], hypotheses: list[str]) -> None:
    with Meteor() as client:
        nlg.meteor_metric(references, hypotheses, client)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3858)
    parser.add_argument("--words", type=int, default=95)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    references, hypotheses = (
        [process(report(rng, arguments.words)) for _ in range(arguments.samples)]
        for process in (PROTOCOL.reference, PROTOCOL.hypothesis)
    )
    mean = np.mean([len(text.split()) for text in references + hypotheses])
    print(f"{arguments.samples} pairs of {mean:.0f} words")
    found = {
        "BLEU, ROUGE-L, CIDEr": seconds(lambda: nlg.metrics(references, hypotheses)),
        "rules, both sides": seconds(lambda: RuleLabeler().label(references + hypotheses)),
    }
    reason = nlg.meteor_status()
    if reason is None:
        found["METEOR with start"] = seconds(lambda: meteor(references, hypotheses))
    else:
        print(reason)
    for name, took in found.items():
        print(f"{name:24}{took:8.1f} s   target {TARGETS[name]:4.0f} s{'' if took <= TARGETS[name] else '   MISSED'}")
    return int(any(took > TARGETS[name] for name, took in found.items()))


if __name__ == "__main__":
    raise SystemExit(main())
