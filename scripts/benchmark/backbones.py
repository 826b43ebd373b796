"""Seconds of one training step of each backbone at several sizes, in float32 and under bfloat16 autocast, on a CPU.

    python scripts/benchmark/backbones.py --threads 1
    python scripts/benchmark/backbones.py --cases efficientnet_lite0:224 resnet18:128

Forward, backward and AdamW on random images, scaled from `--batch` to 32 images; the fastest of two steps after one to
warm up. Both the clock's seconds and the processor's: on a machine with other work only the processor's compare, and
with one thread alone, because waiting threads spin.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

from revtaf.labels import CATEGORIES
from revtaf.pretrained.backbone import Backbone

CASES = ("efficientnet_lite0:224", "efficientnet_lite0:192", "efficientnet_lite0:160")
CASES += ("resnet18:224", "resnet18:160", "resnet18:128")
QUOTED = 32  # images of the step that is printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES, help="backbone:pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'':24}{'float32':>20}{'bfloat16':>20}\n{'':24}" + f"{'wall s':>10}{'CPU s':>10}" * 2)
    for case in options.cases:
        name, size = case.split(":")
        found = [step(name, int(size), options.batch, bf16) for bf16 in (False, True)]
        print(f"{case:24}" + "".join(f"{wall:10.2f}{processor:10.2f}" for wall, processor in found), flush=True)


def step(name: str, size: int, batch: int, bf16: bool) -> tuple[float, float]:
    """(seconds, processor seconds) of a step, each the least of two, for `QUOTED` images."""
    torch.manual_seed(0)
    backbone = Backbone(name).train()
    head = nn.Linear(backbone.width, len(CATEGORIES))
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-4)
    images, truth = torch.randn(batch, 3, size, size), torch.rand(batch, len(CATEGORIES)).round()
    times = []
    for _ in range(3):
        before = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = head(backbone(images).mean((2, 3)))
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    wall, processor = (min(values) * QUOTED / batch for values in zip(*times[1:], strict=True))
    return wall, processor


if __name__ == "__main__":
    main()
