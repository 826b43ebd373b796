"""AdamW, linear warm-up and cosine decay (METHOD section 7)."""

from __future__ import annotations

import math

import torch
from torch import nn

from revtaf.config import TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Weight decay on matrices only; the image encoder may have a learning rate of its own.

    Each group carries `relative`, its learning rate as a multiple of the schedule's.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("encoder."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    ratio = (settings.encoder_lr or settings.lr) / settings.lr
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay if matrix else 0.0,
                "relative": ratio if encoder else 1.0,
            }
            for (encoder, matrix), parameters in groups.items()
        ],
        lr=settings.lr,
    )


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """Rate of update `step` (from 0) of `total`: linear warm-up from `warmup_lr`, cosine to `min_lr`.

    A run shorter than ten times its warm-up warms up for a tenth of its steps instead.
    """
    warmup = min(settings.warmup_steps, total // 10)
    if step < warmup:
        return settings.warmup_lr + (settings.lr - settings.warmup_lr) * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return settings.min_lr + (settings.lr - settings.min_lr) * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["relative"]
