"""Entropic optimal transport between patches and texts: the "Sinkhorn" of paper Eq. 10 (its reference [40]).

Written here rather than taken from POT: `ot.batch` turns a text of mass 0 into NaN, keeps every iteration
for the backward pass, and its argument names change between versions. POT is the judge in the tests.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The marginal error is looked at every so many iterations: on a GPU each look waits for the device.
CHECK_EVERY = 5
# Added to the diagonal of the backward system, relative to its entries. Without it a tiny epsilon, whose
# plan falls apart into blocks that exchange no mass, makes the system singular; at epsilon .05 it changes
# nothing visible.
RIDGE = 1e-10


def transport_plan(
    cost: Tensor,
    epsilon: float = 0.05,
    mask: Tensor | None = None,
    max_iterations: int = 200,
    tolerance: float = 1e-6,
    return_info: bool = False,
) -> Tensor | tuple[Tensor, int, float]:
    r"""The plan that moves the mass of P patches to N texts at the least cost, smoothed by an entropy.

    T = argmin <T, C> - epsilon H(T)   s.t.   T 1 = 1/P,   T^T 1 = 1/N_valid,   T >= 0

    cost (B, P, N), any real numbers; mask (B, N), True where a text exists -> plan (B, P, N), in float32
    (float64 if the cost is). Total mass 1 per sample; a masked text has exactly 0 and no influence; a
    sample without any text has a plan of zeros. Rows hold to rounding; columns to `tolerance` (sum of
    absolute errors, worst sample) unless `max_iterations` comes first. In float32 the loop also ends when
    rounding keeps the error from falling.

    Surprise: T = 1/P softmax_n(-C/epsilon + g). The attention is a softmax with one bias g per text, and the
    iterations find the g that gives all texts the same mass.
    The gradient is that of the converged plan, by implicit differentiation: no iteration is stored.
    return_info: also the number of iterations and the column error reached.
    """
    if cost.dim() != 3:
        raise ValueError(f"expected a cost of 3 axes (B, P, N), got {tuple(cost.shape)}")
    if mask is not None and mask.shape != (cost.shape[0], cost.shape[2]):
        expected = (cost.shape[0], cost.shape[2])
        raise ValueError(f"expected a mask {expected} for a cost {tuple(cost.shape)}, got {tuple(mask.shape)}")
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
    info: list = []
    with torch.autocast(cost.device.type, enabled=False):
        plan = _Plan.apply(cost, mask, epsilon, max_iterations, tolerance, info)
    return (plan, *info) if return_info else plan


class _Plan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cost, mask, epsilon, max_iterations, tolerance, info):
        plan, iterations, error = _solve(cost, mask, epsilon, max_iterations, tolerance)
        info[:] = [iterations, error]
        ctx.epsilon = epsilon
        ctx.save_for_backward(plan)
        return plan

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """dL/dC = T (p_n' + q_n - dL/dT) / epsilon, with p, q the answer of the marginals to the change."""
        (plan,) = ctx.saved_tensors
        rows, columns = _marginal_response(plan.double(), grad.double())
        return (plan * (rows + columns - grad) / ctx.epsilon).to(grad.dtype), None, None, None, None, None


def _solve(cost: Tensor, mask: Tensor | None, epsilon: float, max_iterations: int, tolerance: float):
    """Sinkhorn's iterations in the log domain: plan (B, P, N), iterations, column error."""
    batch, patches, texts = cost.shape
    if mask is None:
        mask = cost.new_ones(batch, texts, dtype=torch.bool)
    if not mask.numel() or not patches:
        return torch.zeros_like(cost), 0, 0.0
    real = mask.any(dim=1)
    # A sample without texts is solved as if all were there, and zeroed at the end: -inf everywhere would be
    # NaN.
    valid = mask | ~real[:, None]
    share = valid.to(cost.dtype) / valid.sum(dim=1, keepdim=True)
    log_share = share.log()
    score = (-cost / epsilon).masked_fill(~valid[:, None], -torch.inf)
    score = torch.where(real[:, None, None], score, 0)
    bias = cost.new_zeros(batch, texts)

    iterations, error = 0, torch.inf
    for iterations in range(1, max_iterations + 1):
        row_sum = torch.logsumexp(score + bias[:, None], dim=2, keepdim=True)
        step = (log_share - torch.logsumexp(score - row_sum, dim=1) + _log(patches, cost)).masked_fill(~valid, 0)
        # exp(bias - step) is the ratio of a text's present mass to its due: the error costs nothing extra.
        if iterations % CHECK_EVERY == 0 or iterations == max_iterations or iterations == 1:
            last, error = error, (share * torch.expm1(bias - step).abs()).sum(dim=1).max().item()
            if error < tolerance or (iterations > CHECK_EVERY and error >= last):
                break
        bias = step
    plan = torch.softmax(score + bias[:, None], dim=2) / patches
    return plan * real[:, None, None], iterations, error


def _log(number: int, like: Tensor) -> Tensor:
    return torch.log(torch.tensor(float(number), dtype=like.dtype, device=like.device))


def _marginal_response(plan: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Solves [diag(T1) T; T^T diag(T^T 1)] [p; q] = [(T*G) 1; (T*G)^T 1] -> p (B, P, 1), q (B, 1, N).

    It is the linearised pair of marginal constraints. One side is eliminated, so the system has min(P, N)
    unknowns.
    """
    if plan.shape[2] < plan.shape[1]:
        q, p = _marginal_response(plan.mT, grad.mT)
        return p.mT, q.mT
    weighted = plan * grad
    row, column = plan.sum(dim=2), plan.sum(dim=1)
    row_side, column_side = weighted.sum(dim=2), weighted.sum(dim=1)
    # Masked texts and empty samples have no mass: their unknowns are 0, whatever the diagonal says.
    row = torch.where(row > 0, row, 1)
    column = torch.where(column > 0, column, 1)
    scaled = plan / column[:, None]
    system = torch.diag_embed(row * (1 + RIDGE)) - scaled @ plan.mT
    # p + 1, q - 1 is a solution too: the rank-one term picks the one with mean 0 and makes the system
    # invertible.
    system = system + row.mean(dim=1)[:, None, None] / plan.shape[1]
    right = row_side - (scaled @ column_side[..., None])[..., 0]
    p = torch.cholesky_solve(right[..., None], torch.linalg.cholesky_ex(system).L)
    q = (column_side[:, None] - p.mT @ plan) / column[:, None]
    return p, q
