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
    mass: Tensor | None = None,
    relaxation: float | None = None,
) -> Tensor | tuple[Tensor, int, float]:
    r"""The plan that moves the mass of P patches to N texts at the least cost, smoothed by an entropy.

    T = argmin <T, C> - epsilon H(T)   s.t.   T 1 = 1/P,   T^T 1 = b,   T >= 0

    cost (B, P, N), any real numbers; mask (B, N), True where a text exists; mass (B, N), 0 or more: b, brought
    to a sum of 1 over the texts that exist; without it b = 1/N_valid -> plan (B, P, N), in float32 (float64 if
    the cost is). Total mass 1 per sample; a text that is masked or has mass 0 gets exactly 0 and has no
    influence; a sample without any text has a plan of zeros. Rows hold to rounding; columns to `tolerance` (sum
    of absolute errors, worst sample) unless `max_iterations` comes first. In float32 the loop also ends when
    rounding keeps the error from falling.

    relaxation: rho of the semi-relaxed problem, where b is asked for and not forced. The texts compete for mass:

    T = argmin <T, C> - epsilon H(T) + rho KL(T^T 1 | b)   s.t.   T 1 = 1/P,   T >= 0

    Rows hold as before, the columns' masses are what the minimum gives them, b_n exp(-epsilon g_n / rho) up to a common
    factor (g as below): where a text costs the same everywhere, softmax_n(-C_n/(rho + epsilon)) for uniform b. A large
    rho is the problem above, and rho near 0 a softmax over the texts. The error then is how much the last iteration
    changed a text's factor.

    Surprise: T = 1/P softmax_n(-C/epsilon + g). The attention is a softmax with one bias g per text, and the
    iterations find the g that gives each text its mass.
    The gradient, of the cost and of `mass`, is that of the converged plan, by implicit differentiation: no
    iteration is stored.
    return_info: also the number of iterations and the column error reached.
    """
    if cost.dim() != 3:
        raise ValueError(f"expected a cost of 3 axes (B, P, N), got {tuple(cost.shape)}")
    if mask is not None and mask.shape != (cost.shape[0], cost.shape[2]):
        expected = (cost.shape[0], cost.shape[2])
        raise ValueError(f"expected a mask {expected} for a cost {tuple(cost.shape)}, got {tuple(mask.shape)}")
    if mass is not None and mass.shape != (cost.shape[0], cost.shape[2]):
        expected = (cost.shape[0], cost.shape[2])
        raise ValueError(f"expected a mass {expected} for a cost {tuple(cost.shape)}, got {tuple(mass.shape)}")
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
    info: list = []
    with torch.autocast(cost.device.type, enabled=False):
        share = _shares(cost, mask, mass)
        # Each iteration corrects the columns to this power; their constraint gives in by `slack`.
        power, slack = (1, 0) if relaxation is None else (relaxation / (relaxation + epsilon), epsilon / relaxation)
        plan = _Plan.apply(cost, share, epsilon, power, slack, max_iterations, tolerance, info)
    return (plan, *info) if return_info else plan


def _shares(cost: Tensor, mask: Tensor | None, mass: Tensor | None) -> Tensor:
    """What each text is due (B, N): sums to 1 per sample, and is 0 where no text is."""
    weight = cost.new_ones(cost.shape[0], cost.shape[2]) if mass is None else mass.to(cost.dtype)
    if mask is not None:
        weight = torch.where(mask, weight, 0)
    return weight / weight.sum(dim=1, keepdim=True).clamp_min(torch.finfo(cost.dtype).tiny)


class _Plan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cost, share, epsilon, power, slack, max_iterations, tolerance, info):
        plan, iterations, error = _solve(cost, share, epsilon, power, max_iterations, tolerance)
        info[:] = [iterations, error]
        ctx.epsilon, ctx.slack = epsilon, slack
        ctx.save_for_backward(plan, share)
        return plan

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """dL/dC = T (p + q - dL/dT) / epsilon and dL/db = q m / b, with p, q the answer of the marginals to a change,
        and m = T^T 1, the masses."""
        plan, share = ctx.saved_tensors
        rows, columns = _marginal_response(plan.double(), grad.double(), column_slack=ctx.slack)
        to_cost = plan * (rows + columns - grad) / ctx.epsilon
        to_share = columns[:, 0] * plan.sum(dim=1) / torch.where(share > 0, share, 1)
        return to_cost.to(grad.dtype), to_share.to(grad.dtype), None, None, None, None, None, None


def _solve(cost: Tensor, share: Tensor, epsilon: float, power: float, max_iterations: int, tolerance: float):
    """Sinkhorn's iterations in the log domain: plan (B, P, N), iterations, column error."""
    batch, patches, texts = cost.shape
    if not share.numel() or not patches:
        return torch.zeros_like(cost), 0, 0.0
    mask = share > 0
    real = mask.any(dim=1)
    # A sample without texts is solved as if all were there, and zeroed at the end: -inf everywhere would be
    # NaN.
    valid = mask | ~real[:, None]
    share = torch.where(real[:, None], share, 1 / texts)
    log_share = share.log()
    score = (-cost / epsilon).masked_fill(~valid[:, None], -torch.inf)
    score = torch.where(real[:, None, None], score, 0)
    bias = cost.new_zeros(batch, texts)

    iterations, error = 0, torch.inf
    for iterations in range(1, max_iterations + 1):
        row_sum = torch.logsumexp(score + bias[:, None], dim=2, keepdim=True)
        step = log_share - torch.logsumexp(score - row_sum, dim=1) + _log(patches, cost)
        step = (power * step).masked_fill(~valid, 0)
        # exp(bias - step) is the ratio of a text's present mass to its due: the error costs nothing extra.
        if iterations % CHECK_EVERY == 0 or iterations == max_iterations or iterations == 1:
            change = bias - step
            if power != 1:  # a common factor of all texts changes no plan, and settles slowly
                change = change - torch.logsumexp(change + log_share, dim=1, keepdim=True)
            last, error = error, (share * torch.expm1(change).abs()).sum(dim=1).max().item()
            if error < tolerance or (iterations > CHECK_EVERY and error >= last):
                break
        bias = step
    plan = torch.softmax(score + bias[:, None], dim=2) / patches
    return plan * real[:, None, None], iterations, error


def _log(number: int, like: Tensor) -> Tensor:
    return torch.log(torch.tensor(float(number), dtype=like.dtype, device=like.device))


def _marginal_response(
    plan: Tensor, grad: Tensor, row_slack: float = 0, column_slack: float = 0
) -> tuple[Tensor, Tensor]:
    """Solves [(1 + r) diag(T1) T; T^T (1 + c) diag(T^T 1)] [p; q] = [(T*G) 1; (T*G)^T 1] -> p (B, P, 1), q (B, 1, N).

    It is the linearised pair of marginal constraints; one that is relaxed gives in by its slack r or c. One side is
    eliminated, so the system has min(P, N) unknowns. It is scaled to a diagonal of about 1: the masses of texts may
    differ by many powers of ten.
    """
    if plan.shape[2] < plan.shape[1]:
        q, p = _marginal_response(plan.mT, grad.mT, column_slack, row_slack)
        return p.mT, q.mT
    weighted = plan * grad
    row, column = plan.sum(dim=2), plan.sum(dim=1)
    row_side, column_side = weighted.sum(dim=2), weighted.sum(dim=1)
    null = row.sqrt() / row.sum(dim=1, keepdim=True).clamp_min(torch.finfo(row.dtype).tiny).sqrt()
    # Masked texts and empty samples have no mass: their unknowns are 0, whatever the diagonal says.
    root = (torch.where(row > 0, row, 1) * (1 + row_slack)).sqrt()[..., None]
    column = torch.where(column > 0, column, 1) * (1 + column_slack)
    scaled = plan / root
    eliminated = scaled / column[:, None]
    system = -eliminated @ scaled.mT
    system.diagonal(dim1=1, dim2=2).add_(1 + RIDGE)
    if not row_slack and not column_slack:
        # p + 1, q - 1 is a solution too: the rank-one term picks the one with (weighted) mean 0 and makes the system
        # invertible.
        system = system + null[..., None] * null[:, None]
    right = row_side[..., None] / root - eliminated @ column_side[..., None]
    p = torch.cholesky_solve(right, torch.linalg.cholesky_ex(system).L) / root
    q = (column_side[:, None] - p.mT @ plan) / column[:, None]
    return p, q
