"""Consistency: Eq. 12-14 by hand and by brute force."""

import math

import pytest
import torch

from revtaf.fvtaf.fcc import cosine_matrix, fcc_loss, hard_iou, soft_iou

HALF = 1 / (1 + math.exp(0))


def maps(batch=2, n=4, m=5, patches=49, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(batch, n, patches, generator=generator, dtype=dtype)
    b = torch.rand(batch, m, patches, generator=generator, dtype=dtype)
    return a, b, torch.rand(batch, n, m, generator=generator, dtype=dtype) * 2 - 1


def test_value_by_hand():
    # Normalised: (0, 1/2, 1, 0) and (1, 1, 0, 0): minima 1/2, maxima 3.
    a = torch.tensor([[[1.0, 2.0, 3.0, 1.0]]])
    b = torch.tensor([[[7.0, 7.0, 5.0, 5.0]]])
    cosine = torch.zeros(1, 1, 1)
    assert fcc_loss(a, b, cosine).item() == pytest.approx(1 - HALF * 0.5 / 3)
    # Above one half: {3rd} and {1st, 2nd}: nothing in common.
    assert fcc_loss(a, b, cosine, iou="hard").item() == 1
    assert fcc_loss(a, a, cosine).item() == pytest.approx(1 - HALF)
    assert fcc_loss(a, a, cosine, iou="hard").item() == pytest.approx(1 - HALF)


def test_soft_iou_is_the_sum_of_minima_over_the_sum_of_maxima():
    a, b, _ = maps()
    low, high = (f(a[:, :, None], b[:, None]).sum(-1) for f in (torch.minimum, torch.maximum))
    torch.testing.assert_close(soft_iou(a, b), low / high)


def test_soft_iou_has_the_gradient_of_minima_and_maxima():
    a, b, weight = (x.requires_grad_() for x in maps(dtype=torch.float64))
    brute = torch.minimum(a[:, :, None], b[:, None]).sum(-1) / torch.maximum(a[:, :, None], b[:, None]).sum(-1)
    expected = torch.autograd.grad((weight * brute).sum(), (a, b))
    found = torch.autograd.grad((weight * soft_iou(a, b)).sum(), (a, b))
    torch.testing.assert_close(found, expected)


def test_hard_iou_by_brute_force():
    a, b, _ = maps()
    x, y = (a > 0.5)[:, :, None], (b > 0.5)[:, None]
    torch.testing.assert_close(hard_iou(a, b), (x & y).sum(-1) / (x | y).sum(-1))


@pytest.mark.parametrize("upsample", (None, 14))
def test_gradient_reaches_both_maps(upsample):
    a, b, cosine = maps()
    a.requires_grad_(), b.requires_grad_(), cosine.requires_grad_()
    fcc_loss(a, b, cosine, upsample=upsample).backward()
    for tensor in (a, b, cosine):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0
    # Descent on the maps raises their overlap.
    with torch.no_grad():
        moved = fcc_loss(a - 0.05 * a.grad.sign(), b - 0.05 * b.grad.sign(), cosine, upsample=upsample)
    assert moved < fcc_loss(a, b, cosine, upsample=upsample)


def test_hard_iou_sends_no_gradient_to_the_maps():
    a, b, cosine = maps()
    a.requires_grad_(), b.requires_grad_(), cosine.requires_grad_()
    fcc_loss(a, b, cosine, iou="hard").backward()
    assert a.grad is None and b.grad is None and cosine.grad.abs().sum() > 0


@pytest.mark.parametrize("iou", ("soft", "hard"))
def test_enlarging_image_by_image_equals_enlarging_at_once(iou):
    a, b, cosine = maps()
    side = 28

    def enlarge(x):
        x = torch.nn.functional.interpolate(x.view(2, -1, 7, 7), (side, side), mode="bilinear").flatten(2)
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        return (x - low) / (high - low)

    a, b = a.requires_grad_(), b.requires_grad_()
    overlap = (soft_iou if iou == "soft" else hard_iou)(enlarge(a), enlarge(b))
    expected = (1 - cosine.sigmoid() * overlap).mean()
    found = fcc_loss(a, b, cosine, iou=iou, upsample=side)
    torch.testing.assert_close(found, expected)
    if iou == "soft":
        grads = [torch.autograd.grad(x, (a, b)) for x in (found, expected)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-7)


def test_padding_changes_nothing():
    a, b, cosine = maps()
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    loss = fcc_loss(a, b, cosine, mask)
    a2, cosine2 = a.clone(), cosine.clone()
    a2[0, 2:], cosine2[0, 2:] = 0, float("nan")
    assert torch.equal(fcc_loss(a2, b, cosine2, mask), loss)
    parts = [fcc_loss(a[:1, :2], b[:1], cosine[:1, :2]), fcc_loss(a[1:], b[1:], cosine[1:])]
    torch.testing.assert_close(loss, (2 * parts[0] + 4 * parts[1]) / 6)


def test_nothing_valid_is_zero_with_a_graph():
    a, b, cosine = maps()
    a.requires_grad_()
    loss = fcc_loss(a, b, cosine, torch.zeros(2, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and (a.grad == 0).all()


def test_a_constant_map_overlaps_with_nothing():
    """A uniform map carries no place; its rounding noise must not be blown up to one."""
    a, b, cosine = maps()
    a = (torch.full_like(a, 1 / 49 / 75) * (1 + 1e-7 * torch.randn(a.shape))).requires_grad_()
    loss = fcc_loss(a, b, cosine)
    loss.backward()
    assert loss.item() == 1 and (a.grad == 0).all()


def test_scale_and_shift_of_a_map_change_nothing():
    a, b, cosine = maps()
    torch.testing.assert_close(fcc_loss(3e-4 * a + 1e-4, b, cosine), fcc_loss(a, b, cosine), rtol=1e-4, atol=0)


def test_cosine_matrix():
    a, b = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    a[0, 0] = 0
    expected = torch.nn.functional.cosine_similarity(a[:, :, None], b[:, None], dim=-1)
    torch.testing.assert_close(cosine_matrix(a, b), expected)
    with pytest.raises(ValueError, match="8 and 7"):
        cosine_matrix(a, b[..., :7])


def test_errors():
    a, b, cosine = maps(patches=48)
    with pytest.raises(ValueError, match="48 patches"):
        fcc_loss(a, b, cosine, upsample=14)
    with pytest.raises(ValueError, match="fuzzy"):
        fcc_loss(a, b, cosine, iou="fuzzy")
