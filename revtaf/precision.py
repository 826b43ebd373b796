"""Which devices compute in bfloat16: elsewhere it is emulated, ten times slower than full precision."""

from __future__ import annotations

import torch

_CPU = ("avx512_bf16", "amx_bf16", "bf16")  # instructions of x86 and of ARM


def computes_in_bf16(device: torch.device | str) -> bool:
    """Whether a CUDA device or this machine's processor has instructions for bfloat16."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
    return any(abilities.get(name) for name in _CPU)
