"""Ranking-based metric learning: paper section 3.3, Eq. 7."""

import torch
from torch import Tensor
from torch.nn import functional as F

from revtaf.lre.labels import status_distance

TIES = ("soft", "first")


def rank_loss(distance: Tensor, statuses: Tensor, ties: str = "soft", temperature: float = 1.0) -> Tensor:
    """Cross-entropy that asks the study nearest by labels to be the nearest in the learned space.

    L_rank = mean_i CE(-d_i / temperature, pi_i), over the other studies j != i of the batch ("diagonal
    values are omitted"), with pi_i = argmin_j D_ij and D the Hamming distance of the status vectors (Eq. 6).

    distance (B, B), 0 or more; statuses (B, K) integers -> scalar, 0 or more. At equal distances it is
    log(B - 1).
    ties: several studies often share the smallest Hamming distance. "soft": the target is uniform over all
    of them; "first": the one of lowest index, as an argmin would give.
    With B = 1 (or 0) there is no other study: the loss is 0 and still has a graph.
    """
    # DIFFERS: Eq. 7 prints CE(D_hat, Pi), without a sign. A cross-entropy raises the logit of its target,
    # so that would push label-neighbours apart; the logits are minus the distances.
    if ties not in TIES:
        raise ValueError(f"ties must be one of {TIES}, got {ties!r}")
    size = len(statuses)
    if distance.shape != (size, size):
        raise ValueError(f"expected distances ({size}, {size}) for {size} studies, got {tuple(distance.shape)}")
    if size < 2:
        return distance.sum() * 0
    with torch.autocast(distance.device.type, enabled=False):
        others = ~torch.eye(size, dtype=torch.bool, device=distance.device)
        distance = distance.to(torch.promote_types(distance.dtype, torch.float32))
        logits = -distance[others].view(size, size - 1) / temperature
        hamming = status_distance(statuses, statuses).to(distance.device)[others].view(size, size - 1)
        nearest = hamming == hamming.min(dim=1, keepdim=True).values
        if ties == "first":
            return F.cross_entropy(logits, nearest.to(torch.int8).argmax(dim=1))
        nearest = nearest.to(logits.dtype)
        return F.cross_entropy(logits, nearest / nearest.sum(dim=1, keepdim=True))
