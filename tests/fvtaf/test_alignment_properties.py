"""Properties of transport and consistency for whatever numbers come: scales, masks, zero vectors, half precision."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from revtaf.fvtaf.fcc import IOUS, cosine_matrix, difference_loss, fcc_loss, relatedness
from revtaf.fvtaf.sinkhorn import transport_plan

MANY = settings(max_examples=40, deadline=None, derandomize=True)
HALF = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SEED = st.integers(0, 2**31)


@MANY
@given(SEED, HALF, st.floats(-6, 4), st.floats(0.01, 1), st.integers(0, 4), st.sampled_from([None, 0.1, 10.0]))
def test_a_plan_has_its_marginals_and_a_finite_gradient(seed, dtype, exponent, epsilon, texts, relaxation):
    """Of any costs, with any number of texts masked: rows hold, masked texts get nothing, a sample without any is 0."""
    draw = torch.Generator().manual_seed(seed)
    cost = (torch.rand(2, 5, 4, generator=draw) * 10**exponent).to(dtype).requires_grad_()
    mask = torch.tensor([[i < texts for i in range(4)], [True] * 4])
    plan = transport_plan(cost, epsilon, mask, relaxation=relaxation)
    (plan * torch.rand(plan.shape, generator=draw)).sum().backward()
    assert plan.isfinite().all() and (plan >= 0).all() and cost.grad.isfinite().all()
    real = mask.any(1, keepdim=True).expand(-1, 5)
    assert_close(plan.sum(2), real / 5, rtol=1e-4, atol=1e-6)
    assert (plan.masked_select(~mask[:, None].expand_as(plan)) == 0).all()
    assert (cost.grad.masked_select(~mask[:, None].expand_as(plan)) == 0).all()


@MANY
@given(SEED, st.floats(-3, 3))
def test_a_constant_on_a_texts_cost_changes_no_plan(seed, shift):
    """The marginals take it up: an identity of balanced transport."""
    draw = torch.Generator().manual_seed(seed)
    cost = torch.rand(1, 6, 3, generator=draw, dtype=torch.float64)
    moved = cost + torch.tensor([0.0, shift, 0.0])
    plans = [transport_plan(each, 0.1, max_iterations=2000, tolerance=1e-12) for each in (cost, moved)]
    assert_close(*plans, rtol=1e-6, atol=1e-9)


@MANY
@given(SEED, HALF, st.floats(-4, 4), st.integers(0, 3), st.booleans(), st.sampled_from(IOUS))
def test_both_losses_are_finite_whatever_the_maps_and_texts_are(seed, dtype, exponent, sentences, constant, iou):
    """Between 0 and 1, with zero texts, constant maps and sentences that are not there."""
    draw = torch.Generator().manual_seed(seed)
    texts = (torch.randn(2, 3, 8, generator=draw) * 10**exponent).to(dtype)
    entities = (torch.randn(2, 5, 8, generator=draw) * 10**exponent).to(dtype)
    texts[0, 0], entities[0, 0] = 0, 0
    maps = [torch.rand(2, n, 9, generator=draw).to(dtype) for n in (3, 5)]
    if constant:
        maps = [m * 0 + 0.125 for m in maps]
    maps = [m.requires_grad_() for m in maps]
    mask = torch.tensor([[i < sentences for i in range(3)], [True] * 3])
    cosine, related = cosine_matrix(texts, entities), relatedness(texts, entities, mask)
    assert cosine.abs().max() <= 1 + 1e-5 and cosine.isfinite().all()
    for loss in (fcc_loss(*maps, cosine, mask, iou), difference_loss(*maps, related, mask, iou)):
        assert loss.isfinite() and 0 <= loss <= 1 + 1e-5
        if loss.requires_grad:
            loss.backward()
    assert all(m.grad is None or m.grad.isfinite().all() for m in maps)
