"""The objective (Eq. 9 to 11): contrast within the batch and with hard negatives, and a margin.

z_i, z_j of length 1 of image i and report j; s_ij = z_i . z_j; N_i the K_i hard negatives of image i with weights w_in
that sum to 1 (Eq. 8); t the temperature.

    nce    = mean_i [ log( sum_j e^{s_ij/t} + K_i sum_n w_in e^{s_in/t} ) - s_ii/t          image -> report
                    + log( sum_j e^{s_ji/t} ) - s_ii/t ]                                    report -> image
    margin = mean_i [ max(0, m + max_n s_in - s_ii) ]                     0 where N_i is empty
    loss   = nce + lambda margin

DIFFERS: Eq. 9 as printed has no hard negatives at all, and Eq. 8's weights are in no loss. As the paper's Table IV
measures both before the margin is added, they enter the denominator; equal weights are the plain concatenation of the
hard negatives. Without them nce is Eq. 9, which is exactly twice open_clip's loss: it lacks the 1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOTHING = -1e9  # a logit that adds nothing to a sum of exponentials: -inf has no gradient where all are left out


def contrast(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    negatives: Tensor,
    mask: Tensor,
    weights: Tensor,
    same: Tensor | None = None,
    reduction: str = "paper",
) -> Tensor:
    """nce, of image (B, D) and text (B, D) of length 1; scale: 1 / t.

    negatives (B, K, D), mask (B, K) where there is one, weights (B, K) of each row's, which sum to 1. same (B, B) bool:
    pairs beside the diagonal that are no negatives. reduction: "paper", or "mean", half of it. In float32 at least:
    half precision knows neither NOTHING nor the smallest weights.
    """
    image, text, scale, negatives, weights = (_at_least_float32(x) for x in (image, text, scale, negatives, weights))
    own = (image * text).sum(-1) * scale  # (B,)
    logits = image @ text.T * scale
    if same is not None:
        beside = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(beside, NOTHING)
    of_image = logits
    if negatives.shape[1]:
        hard = (image[:, None] * negatives).sum(-1) * scale
        mass = weights * mask.sum(1, keepdim=True)  # K_i w_in
        hard = torch.where(mask, hard + mass.clamp(min=1e-12).log(), torch.full_like(hard, NOTHING))
        of_image = torch.cat([logits, hard], 1)
    both = of_image.logsumexp(1) + logits.logsumexp(0) - 2 * own
    return both.mean() if reduction == "paper" else both.mean() / 2


def margin_loss(
    image: Tensor, text: Tensor, negatives: Tensor, mask: Tensor, weights: Tensor, margin: float, over: str = "max"
) -> Tensor:
    """Eq. 10 on cosines: max(0, m + s_in - s_ii), of the largest s_in, or (over="weighted") of their mean by weight; 0
    for a row without negatives. Image -> report only, as printed. Shapes as in `contrast`."""
    image, text, negatives, weights = (_at_least_float32(x) for x in (image, text, negatives, weights))
    if not mask.any():
        return (image.sum() + text.sum()) * 0.0
    own = (image * text).sum(-1)
    hard = (image[:, None] * negatives).sum(-1)
    if over == "max":
        hard = torch.where(mask, hard, torch.full_like(hard, -2.0)).amax(1)  # below any cosine
    else:
        hard = (hard * weights * mask).sum(1)
    return (torch.relu(margin + hard - own) * mask.any(1)).mean()


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
