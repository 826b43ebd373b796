"""Properties of the losses of MedFuse-CLIP and TRRG for whatever numbers come: masks, zero vectors, half precision."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from revtaf.comparators.medfuse.objective import contrast, margin_loss
from revtaf.comparators.trrg.interaction import alikeness, consistency_loss

MANY = settings(max_examples=40, deadline=None, derandomize=True)
HALF = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SEED = st.integers(0, 2**31)


def units(draw, *shape, dtype):
    return F.normalize(torch.randn(*shape, 8, generator=draw), dim=-1).to(dtype)


@MANY
@given(SEED, HALF, st.floats(1, 100), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_contrast_and_margin_are_finite(seed, dtype, scale, negatives, zeros, same):
    """With no, some or all hard negatives left out, weights of 0, zero vectors, and texts that are all alike."""
    draw = torch.Generator().manual_seed(seed)
    image, text = (units(draw, 4, dtype=dtype) for _ in range(2))
    image[:zeros] = 0
    hard = units(draw, 4, negatives, dtype=dtype)
    mask = torch.rand(4, negatives, generator=draw) > 0.5
    weights = torch.rand(4, negatives, generator=draw) * mask
    weights = (weights / weights.sum(1, keepdim=True).clamp_min(1e-6)).to(dtype)
    image.requires_grad_(), text.requires_grad_()
    beside = torch.ones(4, 4, dtype=torch.bool) if same else None
    loss = contrast(image, text, torch.tensor(scale, dtype=dtype), hard, mask, weights, beside)
    for over in ("max", "weighted"):
        loss = loss + margin_loss(image, text, hard, mask, weights, 0.2, over)
    loss.backward()
    assert loss.isfinite() and image.grad.isfinite().all() and text.grad.isfinite().all()


@MANY
@given(SEED, st.floats(1, 100))
def test_contrast_without_hard_negatives_is_the_symmetric_cross_entropy(seed, scale):
    draw = torch.Generator().manual_seed(seed)
    image, text = (units(draw, 5, dtype=torch.float32) for _ in range(2))
    none = image.new_zeros(5, 0)
    found = contrast(image, text, torch.tensor(scale), image[:, None][:, :0], none.bool(), none)
    logits, own = image @ text.T * scale, torch.arange(5)
    assert_close(found, F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own), rtol=1e-5, atol=1e-5)


@MANY
@given(SEED, HALF, st.floats(-8, 4), st.integers(0, 2), st.sampled_from(["none", "clue"]))
def test_the_consistency_loss_is_a_cosine_of_any_tokens(seed, dtype, exponent, zeros, stopgrad):
    """Between -1 and 1, zero tokens too, with finite gradients; the gauge as well."""
    draw = torch.Generator().manual_seed(seed)
    visual, clue = ((torch.randn(3, 2, 6, generator=draw) * 10**exponent).to(dtype) for _ in range(2))
    visual[:zeros] = 0
    visual.requires_grad_(), clue.requires_grad_()
    loss = consistency_loss(visual, clue, stopgrad)
    loss.backward()
    assert loss.isfinite() and loss.abs() <= 1 + 1e-4 and visual.grad.isfinite().all()
    assert clue.grad is None if stopgrad == "clue" else clue.grad.isfinite().all()
    assert alikeness(visual).isfinite() and alikeness(visual).abs() <= 1 + 1e-4
