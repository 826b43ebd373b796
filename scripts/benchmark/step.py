"""One training step and one batch of reports at the configured size: seconds, and each module's share.

    python scripts/benchmark/step.py --config configs/mimic_cxr.yaml --batch 2

Needs no data: images and prompts are random tensors of the real shapes. Also shows that the paper's model builds
at full size, trains a step and writes reports with beam search on this machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from revtaf.config_file import load_settings
from revtaf.engine.optim import objective
from revtaf.labels import CATEGORIES, ENTITIES
from revtaf.lre.ball import pairwise
from revtaf.lre.rank_loss import rank_loss
from revtaf.model import REVTAF, Prompts, loss_weights
from revtaf.tokenizer import ReportTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/mimic_cxr.yaml")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--sentences", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--words", type=int, default=30_522, help="vocabulary size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    options = parser.parse_args()

    settings = load_settings(options.config)
    lre = settings.lre.model_copy(update={"steps": 0})  # every part trains in the step, LRE too
    settings = settings.model_copy(update={"lre": lre})
    torch.manual_seed(0)
    words = [f"word{i}" for i in range(options.words)]
    tokenizer = ReportTokenizer.fit([" ".join(words)] * 2, options.words)
    model = REVTAF(settings, len(CATEGORIES), tokenizer, *[settings.knowledge.text_width] * 2).to(options.device)
    b, n, w = options.batch, options.sentences, settings.knowledge.text_width
    size = settings.encoder.image_size

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=options.device)

    images, scores = normal(b, 3, size, size), torch.rand(b, len(ENTITIES), device=options.device)
    statuses = torch.randint(0, 4, (b, len(CATEGORIES)), device=options.device)
    tokens = torch.randint(100, 200, (b, options.tokens), device=options.device)
    mask = torch.ones(b, n, dtype=torch.bool, device=options.device)
    memory = normal(b, settings.classifier.memory_size, w)
    prompts = Prompts(memory, normal(b, len(ENTITIES), w), normal(b, n, w), mask, presence=scores)

    def precision() -> torch.autocast:
        return torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.precision == "bf16")

    def timed(work: Callable[[], object]) -> float:
        times = []
        for _ in range(options.repeats):
            model.zero_grad()
            start = time.perf_counter()
            with precision():
                work()
            if options.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    model.train()
    with torch.no_grad():
        vision = model.encoder(images)
        features = model.features(images, prompts)
    patches = vision.patches.clone().requires_grad_()

    def fuse() -> None:
        fusion = model.fvtaf(patches, prompts.retrieved, mask, prompts.local, prompts.presence)
        (fusion.features.sum() + model._consistency(fusion, prompts)).backward()

    def rank() -> None:
        points = model.embed(scores)
        rank_loss(pairwise(model.metric, points, points, model.curvature), statuses).backward()

    parts = {
        f"encoder ({settings.encoder.backbone})": lambda: model.encoder(images).pooled.sum().backward(),
        "classifier and memory": lambda: model.classifier(vision.pooled, prompts.memory).sum().backward(),
        "LRE: HNN and rank loss": rank,
        "FVTAF: two MPSA and FCC": fuse,
        "decoder": lambda: model.decoder.loss(tokens, statuses, features.decoder).backward(),
    }
    weights = loss_weights(settings)
    step = timed(lambda: objective(model(images, scores, statuses, tokens, prompts)._asdict(), weights).backward())
    count = sum(p.numel() for p in model.parameters())
    device = options.device if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    print(f"{options.config}: {count / 1e6:.1f} M parameters, batch {b}, {device}, precision {options.precision}")
    print(f"{'whole step, forward and backward':34s} {step:8.3f} s   1.00")
    if options.device != "cpu":
        print(f"peak memory of the step, without an optimiser: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    for name, work in parts.items():
        seconds = timed(work)
        print(f"{name:34s} {seconds:8.3f} s   {seconds / step:.2f}")

    model.eval()
    start = time.perf_counter()
    with precision():
        g = settings.generation.model_copy(update={"candidates": 0})
        written = model.generate(images, prompts, g).tokens
    seconds = time.perf_counter() - start
    print(
        f"{b} reports, beam {g.beams}, up to {g.max_new_tokens} new tokens: {seconds:.1f} s -> {tuple(written.shape)}"
    )


if __name__ == "__main__":
    main()
