"""Time and memory of the consistency loss (forward + backward), and of the transport plan beneath it.

    python scripts/benchmark/fcc.py                     batch 18, 30 sentences
    python scripts/benchmark/fcc.py --cases soft broadcast plan pot

Each case runs in a process of its own; memory is the peak beyond the inputs.
"""

import argparse
import re
import sys

import torch
from retrieval import in_own_process, measure

CASES = ("soft", "broadcast", "hard", "soft-224", "hard-224", "plan", "pot", "pot-log")


def run(case: str, batch: int, sentences: int, entities: int) -> None:
    torch.manual_seed(0)
    action_of = plan_action if case in ("plan", "pot", "pot-log") else loss_action
    action_of(case, 1, 2, 3)()  # loads what is loaded on first use
    action = action_of(case, batch, sentences, entities)
    first, memory, _ = measure(action, repeat=1)
    seconds = first if case.endswith("224") else measure(action, repeat=7)[0]
    print(f"{case:10s} {seconds * 1e3:10.1f} ms {memory:8.0f} MB")


def loss_action(case: str, batch: int, sentences: int, entities: int):
    from revtaf.fvtaf.fcc import fcc_loss, unit_maps

    a = torch.rand(batch, sentences, 49, requires_grad=True)
    b = torch.rand(batch, entities, 49, requires_grad=True)
    cosine = (torch.rand(batch, sentences, entities) * 2 - 1).requires_grad_()

    def broadcast():
        x, y = unit_maps(a)[:, :, None], unit_maps(b)[:, None]
        overlap = torch.minimum(x, y).sum(-1) / torch.maximum(x, y).sum(-1)
        (1 - cosine.sigmoid() * overlap).mean().backward()

    iou, _, side = case.partition("-")
    if case == "broadcast":
        return broadcast
    return lambda: fcc_loss(a, b, cosine, iou=iou, upsample=int(side) if side else None).backward()


def plan_action(case: str, batch: int, sentences: int, entities: int):
    from revtaf.fvtaf.sinkhorn import transport_plan

    q, k = (torch.nn.functional.normalize(torch.randn(batch, n, 8), dim=-1) for n in (49, entities))
    cost = (1 - q @ k.mT).requires_grad_()
    weight = torch.randn_like(cost)
    if case == "plan":
        return lambda: (transport_plan(cost) * weight).sum().backward()
    from ot.batch import solve_batch

    method = "sinkhorn" if case == "pot" else "log_sinkhorn"
    rows, columns = (torch.full((batch, n), 1 / n) for n in cost.shape[1:])

    def solve():
        solved = solve_batch(cost, 0.05, rows, columns, method=method, tol=1e-6, grad="autodiff")
        (solved.plan * weight).sum().backward()

    return solve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=18)
    parser.add_argument("--sentences", type=int, default=30)
    parser.add_argument("--entities", type=int, default=75)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        run(options.case, options.batch, options.sentences, options.entities)
        return
    sizes = [f"--{name}={getattr(options, name)}" for name in ("batch", "sentences", "entities")]
    print(f"batch {options.batch}, {options.sentences} sentences, {options.entities} entities, 49 patches")
    milliseconds = {}
    for case in options.cases:
        text = in_own_process(case, [sys.argv[0], *sizes])
        milliseconds[case] = float(re.search(r"([\d.]+) ms", text)[1])
        print(text, end="", flush=True)
    for slow, fast in (("broadcast", "soft"), ("hard-224", "soft"), ("pot", "plan"), ("pot-log", "plan")):
        if slow in milliseconds and fast in milliseconds:
            print(f"{slow} / {fast}: {milliseconds[slow] / milliseconds[fast]:.1f}x")


if __name__ == "__main__":
    main()
