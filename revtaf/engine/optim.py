"""The objective, AdamW, linear warm-up and cosine decay (docs/method.md section 7.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from revtaf.config import TrainSettings


def objective(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of a system's losses (paper Eq. 15), in the order of its weights."""
    first, *others = (weight * losses[name] for name, weight in weights.items())
    return sum(others, first)


def adamw(parts: Mapping[str, tuple[Iterable[nn.Parameter], float]], settings: TrainSettings) -> torch.optim.AdamW:
    """name -> (parameters, learning rate at its peak). Weight decay on matrices only; frozen parameters are left out.

    Each group carries its part's `name` and `relative`, its learning rate as a multiple of the schedule's.
    """
    groups = []
    for name, (parameters, rate) in parts.items():
        trained = [p for p in parameters if p.requires_grad]
        for matrix in (True, False):
            if chosen := [p for p in trained if (p.ndim > 1) == matrix]:
                decay = settings.weight_decay if matrix else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "name": name, "relative": rate / settings.lr})
    return torch.optim.AdamW(groups, lr=settings.lr)


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """Rate of update `step` (from 0) of `total`: linear warm-up from `warmup_lr`, cosine to `min_lr`.

    A run shorter than ten times its warm-up warms up for a tenth of its steps instead.
    """
    warmup = min(settings.warmup_steps, total // 10)
    if step < warmup:
        return settings.warmup_lr + (settings.lr - settings.warmup_lr) * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return settings.min_lr + (settings.lr - settings.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
