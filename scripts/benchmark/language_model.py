"""Memory and seconds of a training step of TRRG's second stage behind a frozen language model of Mistral's shape, on a
CPU; and the arithmetic for 7B on a GPU.

    python scripts/benchmark/language_model.py --threads 1
    python scripts/benchmark/language_model.py --layers 4 --width 256 --words 2048

Forward and backward to a random prefix, weights random and frozen; the faster of two steps. Peak memory is that of the
process above what it had before the step, in a process for each case.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import torch
from transformers import MistralConfig, MistralForCausalLM

PREFIX, REPORT = 113, 120  # places: 49 image tokens and 2 x 32 of CMCI; a report
# Of the model's width, kept by a frozen layer for each place: queries, keys, values and their outcome 2.5, both norms 6
# (float32, and half), gate, its activation and its partner 3 x 3.5.
KEPT = 19
SEVEN = {"parameters": 7_241_732_096, "layers": 32, "width": 4096, "words": 32_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--words", type=int, default=8000)
    options = parser.parse_args()
    print(f"{'':16}{'M parameters':>14}{'wall s':>10}{'CPU s':>10}{'peak MB':>10}")
    for checkpointing in (False, True):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(step, (options, checkpointing))
        name = "checkpointing" if checkpointing else "plain"
        print(f"{name:16}{found[0] / 1e6:14.1f}{found[1]:10.2f}{found[2]:10.2f}{found[3]:10.0f}", flush=True)
    print(seven(8))


def step(options: argparse.Namespace, checkpointing: bool) -> tuple[int, float, float, float]:
    """(parameters, seconds of the clock, of the processor, megabytes above what was there before)."""
    torch.set_num_threads(options.threads)
    sizes = {"hidden_size": options.width, "intermediate_size": int(3.5 * options.width) // 64 * 64}
    sizes |= {"num_hidden_layers": options.layers, "vocab_size": options.words}
    heads = {"num_attention_heads": options.width // 64, "num_key_value_heads": max(1, options.width // 256)}
    lm = MistralForCausalLM(MistralConfig(**sizes, **heads)).eval().requires_grad_(False)
    from revtaf.comparators.trrg.language import CausalLanguage

    words = type("Words", (), {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0})()
    language = CausalLanguage(lm, words, "", checkpointing)
    tokens = torch.randint(3, options.words, (options.batch, REPORT))
    real, mask = torch.ones_like(tokens, dtype=torch.bool), torch.ones(options.batch, PREFIX, dtype=torch.bool)
    before, times = _peak(), []
    for _ in range(2):
        prefix = torch.randn(options.batch, PREFIX, options.width, requires_grad=True)
        clock, processor = time.perf_counter(), time.process_time()
        language.loss(prefix, mask, tokens, real).backward()
        times.append((time.perf_counter() - clock, time.process_time() - processor))
    return sum(p.numel() for p in lm.parameters()), *min(times), _peak() - before


def seven(batch: int) -> str:
    """Bytes on one GPU with Mistral-7B, frozen in bfloat16."""
    places = batch * (PREFIX + REPORT)
    weights, one = 2 * SEVEN["parameters"] / 1e9, places * SEVEN["width"] * 2 / 1e9
    kept, hidden = KEPT * one * SEVEN["layers"], one * SEVEN["layers"]
    words = places * SEVEN["words"] * (2 + 4) / 1e9
    return (
        f"7B, {batch} samples of {PREFIX + REPORT} places: weights {weights:.1f} GB, activations {kept:.1f} GB, with "
        f"checkpointing {hidden + KEPT * one:.1f} GB, scores of the words {words:.1f} GB"
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
