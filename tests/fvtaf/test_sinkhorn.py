"""The transport plan: POT in float64 is the judge."""

import numpy as np
import pytest
import torch

from revtaf.fvtaf.sinkhorn import transport_plan


def cosine_cost(batch: int, patches: int, texts: int, width: int = 8, seed: int = 0, dtype=torch.float64):
    """Few dimensions: cosines fill [-1, 1], so that the plan is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (
        torch.nn.functional.normalize(torch.randn(batch, n, width, generator=generator, dtype=dtype), dim=-1)
        for n in (patches, texts)
    )
    return 1 - q @ k.mT


def pot(cost, epsilon=0.05, mass=None):
    ot = pytest.importorskip("ot")
    settings = {"numItermax": 20000, "stopThr": 1e-13}
    a, b = (np.full(n, 1 / n) for n in cost.shape[1:])
    b = [b] * len(cost) if mass is None else mass.double().numpy()
    plans = [
        ot.sinkhorn(a, m, c.double().numpy(), epsilon, "sinkhorn_log", **settings) for c, m in zip(cost, b, strict=True)
    ]
    return torch.from_numpy(np.stack(plans))


def uneven(batch: int, texts: int, seed: int = 0):
    """Masses that sum to 1 and differ by a factor of some hundreds."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(batch, texts, generator=generator, dtype=torch.float64)).softmax(1)


@pytest.mark.parametrize("texts", (1, 10, 75))
@pytest.mark.parametrize("epsilon", (0.05, 0.5))
def test_agrees_with_pot(texts, epsilon):
    cost = cosine_cost(3, 49, texts)
    expected = pot(cost, epsilon)
    assert (transport_plan(cost, epsilon) - expected).abs().max() < 1e-6
    single = transport_plan(cost.float(), epsilon)
    assert single.dtype == torch.float32
    # Plans of 49 x 75 have entries of 3e-4: the second line is the stricter one.
    assert (single - expected).abs().max() < 1e-6
    assert ((single - expected).abs() / expected.clamp_min(1e-6)).max() < 1e-3


@pytest.mark.parametrize("texts", (10, 75))
@pytest.mark.parametrize("epsilon", (0.05, 0.5))
def test_texts_of_different_mass_agree_with_pot(texts, epsilon):
    cost, mass = cosine_cost(3, 49, texts), uneven(3, texts)
    expected = pot(cost, epsilon, mass)
    plan = transport_plan(cost, epsilon, mass=mass, max_iterations=2000, tolerance=1e-10)
    torch.testing.assert_close(plan, expected, rtol=1e-6, atol=1e-12)
    single, _, error = transport_plan(cost.float(), epsilon, mass=7 * mass.float(), return_info=True)
    assert (single - expected).abs().max() < 1e-6 and error < 1e-5
    torch.testing.assert_close(single.sum(1).double(), mass, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(single.sum(2), torch.full((3, 49), 1 / 49))


def test_equal_masses_are_no_masses():
    cost, mask = cosine_cost(2, 9, 6), torch.tensor([[1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    mass = torch.full((2, 6), 0.3, dtype=cost.dtype)
    torch.testing.assert_close(transport_plan(cost, mask=mask, mass=mass), transport_plan(cost, mask=mask))


def test_a_text_without_mass_is_a_masked_text():
    cost, mass = cosine_cost(3, 9, 6).requires_grad_(), uneven(3, 6)
    mask = torch.tensor([[1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    expected = transport_plan(cost, mask=mask, mass=mass)
    spoiled = mass.masked_fill(~mask, float("nan")).requires_grad_()
    plan = transport_plan(cost, mask=mask, mass=spoiled)
    assert torch.equal(plan, expected) and (plan[0, :, [2, 4]] == 0).all() and (plan[2] == 0).all()
    assert torch.equal(transport_plan(cost, mass=mass * mask), expected)
    (plan * torch.randn_like(plan)).sum().backward()
    for grad in (cost.grad.mT, spoiled.grad):
        assert grad.isfinite().all() and (grad[0, [2, 4]] == 0).all() and (grad[2] == 0).all() and grad[1].any()


@pytest.mark.parametrize("shape", ((2, 5, 4), (2, 4, 5)))
def test_implicit_gradient_of_cost_and_mass(shape):
    cost, mass = cosine_cost(*shape).requires_grad_(), uneven(shape[0], shape[2]).requires_grad_()
    mask = torch.ones(shape[0], shape[2], dtype=torch.bool)
    mask[0, -1] = False
    settings = {"epsilon": 0.1, "mask": mask, "max_iterations": 5000, "tolerance": 1e-14}
    assert torch.autograd.gradcheck(lambda c, m: transport_plan(c, mass=m, **settings), (cost, mass))


@pytest.mark.parametrize("texts", (4, 20))
def test_the_gradient_survives_masses_of_many_orders(texts):
    """A text of mass 1e-12 leaves the gradient of the others as it is without that text."""
    cost, mass = cosine_cost(2, 9, texts), uneven(2, texts)
    mass[:, 0] = 1e-12
    weight = torch.randn(2, 9, texts, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grads = []
    for part in (slice(None), slice(1, None)):
        c, m = cost[..., part].clone().requires_grad_(), mass[:, part].clone().requires_grad_()
        (weight[..., part] * transport_plan(c, mass=m, max_iterations=5000, tolerance=1e-13)).sum().backward()
        grads.append((c.grad, m.grad))
    (cost_grad, mass_grad), (cost_alone, mass_alone) = grads
    torch.testing.assert_close(cost_grad[..., 1:], cost_alone, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(mass_grad[:, 1:], mass_alone, rtol=1e-6, atol=1e-8)
    assert cost_grad[..., 0].abs().max() < 1e-10


@pytest.mark.filterwarnings("ignore:If reg_type = entropy")
@pytest.mark.parametrize("texts", (1, 10, 75))
@pytest.mark.parametrize("relaxation", (0.02, 0.1, 5.0))
def test_relaxed_masses_agree_with_pot(texts, relaxation):
    ot = pytest.importorskip("ot")
    cost, mass = cosine_cost(2, 49, texts), uneven(2, texts)
    settings = {"reg": 0.05, "reg_m": (float("inf"), relaxation), "reg_type": "entropy", "method": "sinkhorn"}
    solved = [
        ot.unbalanced.sinkhorn_unbalanced(
            np.full(49, 1 / 49), m.numpy(), c.numpy(), numItermax=20000, stopThr=1e-14, **settings
        )
        for c, m in zip(cost, mass, strict=True)
    ]
    expected = torch.from_numpy(np.stack(solved))
    plan = transport_plan(cost, mass=mass, relaxation=relaxation, max_iterations=5000, tolerance=1e-12)
    torch.testing.assert_close(plan, expected, rtol=1e-6, atol=1e-10)
    single, iterations, _ = transport_plan(cost.float(), mass=mass.float(), relaxation=relaxation, return_info=True)
    assert (single - expected).abs().max() < 1e-6 and iterations < 200
    torch.testing.assert_close(single.sum(2), torch.full((2, 49), 1 / 49))


def test_relaxed_masses_by_hand():
    """Costs that differ by text alone: b^(rho/(rho+epsilon)) exp(-C/(rho+epsilon)), to a sum of 1."""
    cost, mass = torch.tensor([[0.1, 0.4, 1.3]], dtype=torch.float64), uneven(1, 3)
    plan = transport_plan(cost[:, None].expand(-1, 9, -1), mass=mass, relaxation=0.1, tolerance=1e-12)
    expected = ((0.1 * mass.log() - cost) / 0.15).softmax(1)
    torch.testing.assert_close(plan, expected[:, None].expand(-1, 9, -1) / 9, rtol=1e-9, atol=0)


def test_relaxation_leads_from_a_softmax_to_the_forced_masses():
    cost, mass = cosine_cost(2, 9, 6), uneven(2, 6)
    settings = {"mass": mass, "max_iterations": 50000, "tolerance": 1e-13}
    forced, loose = (transport_plan(cost, relaxation=r, **settings) for r in (1e5, 1e-7))
    torch.testing.assert_close(forced, transport_plan(cost, **settings), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(loose, (-cost / 0.05).softmax(2) / 9, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("shape", ((2, 5, 4), (2, 4, 5)))
@pytest.mark.parametrize("relaxation", (0.03, 2.0))
def test_implicit_gradient_of_relaxed_masses(shape, relaxation):
    cost, mass = cosine_cost(*shape).requires_grad_(), uneven(shape[0], shape[2]).requires_grad_()
    mask = torch.ones(shape[0], shape[2], dtype=torch.bool)
    mask[0, -1] = False
    settings = {"epsilon": 0.1, "mask": mask, "max_iterations": 5000, "tolerance": 1e-14, "relaxation": relaxation}
    assert torch.autograd.gradcheck(lambda c, m: transport_plan(c, mass=m, **settings), (cost, mass))
    empty = transport_plan(cost, mask=torch.zeros_like(mask), relaxation=relaxation)
    (gradient,) = torch.autograd.grad(empty.sum(), cost)
    assert (empty == 0).all() and (gradient == 0).all()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_both_marginals_hold(dtype):
    plan, iterations, error = transport_plan(cosine_cost(4, 49, 75, dtype=dtype), return_info=True)
    assert (plan >= 0).all() and error < 1e-5 and 1 < iterations <= 200
    torch.testing.assert_close(plan.sum(2), torch.full_like(plan.sum(2), 1 / 49), rtol=1e-5, atol=0)
    torch.testing.assert_close(plan.sum(1), torch.full_like(plan.sum(1), 1 / 75), rtol=1e-4, atol=0)


def test_rows_hold_even_without_convergence():
    plan, iterations, error = transport_plan(cosine_cost(2, 9, 7), max_iterations=2, return_info=True)
    assert iterations == 2 and error > 1e-3
    torch.testing.assert_close(plan.sum(2), torch.full((2, 9), 1 / 9, dtype=plan.dtype))


@pytest.mark.parametrize("poison", (0.0, 50.0, float("nan"), float("inf")))
def test_a_masked_text_has_no_influence(poison):
    cost = cosine_cost(2, 9, 6)
    mask = torch.tensor([[1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    plan = transport_plan(cost, mask=mask)
    spoiled = cost.clone()
    spoiled[0, :, [2, 4]] = poison
    spoiled.requires_grad_()
    other = transport_plan(spoiled, mask=mask)
    assert torch.equal(other, plan)
    assert (plan[0, :, [2, 4]] == 0).all()
    alone = transport_plan(cost[:1, :, mask[0]], tolerance=1e-12)
    torch.testing.assert_close(plan[:1, :, mask[0]], alone, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(plan[1:], transport_plan(cost[1:]), rtol=1e-4, atol=1e-9)
    (other * torch.randn_like(other)).sum().backward()
    assert spoiled.grad.isfinite().all() and (spoiled.grad[0, :, [2, 4]] == 0).all()


def test_a_sample_without_texts_has_a_plan_of_zeros():
    cost = cosine_cost(2, 9, 4).requires_grad_()
    mask = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    plan = transport_plan(cost, mask=mask)
    (plan * torch.randn_like(plan)).sum().backward()
    assert (plan[0] == 0).all() and (cost.grad[0] == 0).all()
    assert plan[1].sum().item() == pytest.approx(1) and cost.grad[1].abs().sum() > 0
    assert transport_plan(cost[:1], mask=mask[:1]).sum() == 0


@pytest.mark.parametrize("shape", ((2, 5, 4), (2, 4, 5)))
def test_implicit_gradient_is_right(shape):
    cost = cosine_cost(*shape).requires_grad_()
    mask = torch.ones(shape[0], shape[2], dtype=torch.bool)
    mask[0, -1] = False
    settings = {"epsilon": 0.1, "mask": mask, "max_iterations": 5000, "tolerance": 1e-14}
    assert torch.autograd.gradcheck(lambda c: transport_plan(c, **settings), cost)


def test_implicit_gradient_equals_that_of_the_unrolled_loop():
    cost = cosine_cost(2, 12, 9).requires_grad_()
    weight = torch.randn(2, 12, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad((weight * unrolled(cost)).sum(), cost)
    (found,) = torch.autograd.grad((weight * transport_plan(cost, tolerance=1e-9)).sum(), cost)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    (single,) = torch.autograd.grad((weight * transport_plan(cost.float())).sum(), cost)
    torch.testing.assert_close(single, expected, rtol=1e-3, atol=1e-5)


def unrolled(cost, epsilon=0.05, iterations=1000):
    f, g = cost.new_zeros(cost.shape[:2]), cost.new_zeros(cost.shape[0], cost.shape[2])
    for _ in range(iterations):
        f = -torch.logsumexp(-cost / epsilon + g[:, None], 2) - np.log(cost.shape[1])
        g = -torch.logsumexp(-cost / epsilon + f[:, :, None], 1) - np.log(cost.shape[2])
    return torch.exp(-cost / epsilon + f[:, :, None] + g[:, None])


def test_a_shift_of_rows_or_columns_changes_nothing():
    """Only relative costs matter: the marginals absorb the rest."""
    cost = cosine_cost(2, 9, 7)
    shifted = cost + torch.randn(2, 9, 1, dtype=cost.dtype) + torch.randn(2, 1, 7, dtype=cost.dtype)
    plans = [transport_plan(c, max_iterations=5000, tolerance=1e-12) for c in (cost, shifted)]
    torch.testing.assert_close(*plans, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("epsilon", (1e-3, 10.0))
def test_extreme_epsilon_stays_finite(epsilon):
    cost = cosine_cost(2, 49, 20, dtype=torch.float32).requires_grad_()
    plan = transport_plan(cost, epsilon)
    (plan * torch.randn_like(plan)).sum().backward()
    assert plan.isfinite().all() and cost.grad.isfinite().all()
    assert plan.sum(dim=(1, 2)).sub(1).abs().max() < 1e-5


def test_half_types_and_autocast_are_solved_in_float32():
    cost = cosine_cost(2, 9, 7).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plan = transport_plan(cost)
    assert plan.dtype == torch.float32 and torch.equal(plan, transport_plan(cost.float()))


def test_errors_name_both_sides():
    with pytest.raises(ValueError, match=r"\(2, 7\).*\(2, 6\)"):
        transport_plan(torch.zeros(2, 9, 7), mask=torch.ones(2, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mass \(2, 7\).*\(2, 6\)"):
        transport_plan(torch.zeros(2, 9, 7), mass=torch.ones(2, 6))
    with pytest.raises(ValueError, match=r"\(9, 7\)"):
        transport_plan(torch.zeros(9, 7))
