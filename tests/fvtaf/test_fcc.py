"""Consistency: Eq. 12-14 by hand and by brute force."""

import math

import pytest
import torch

from revtaf.fvtaf.fcc import (
    RELATED,
    cosine_matrix,
    difference_loss,
    fcc_loss,
    hard_iou,
    relatedness,
    soft_iou,
    unit_maps,
)
from revtaf.fvtaf.mpsa import MPSA

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


def texts(cone=0.0, seed=0):
    """One image: 3 sentences and 75 entities. Sentence 0 means entity 0, sentence 1 entities 1 and 2, sentence 2 none.
    `cone`: the length of a vector that all share, as in BERT."""
    generator = torch.Generator().manual_seed(seed)
    entities = torch.randn(1, 75, 64, generator=generator)
    sentences = torch.randn(1, 3, 64, generator=generator)
    sentences[0, 0] = entities[0, 0] + 0.7 * sentences[0, 0]
    sentences[0, 1] = entities[0, 1] + entities[0, 2] + 0.7 * sentences[0, 1]
    related = torch.zeros(1, 3, 75, dtype=torch.bool)
    related[0, 0, 0] = related[0, 1, 1] = related[0, 1, 2] = True
    constant = cone * torch.nn.functional.normalize(torch.ones(64), dim=0)
    return sentences + constant, entities + constant, related


@pytest.mark.parametrize("cone", (0.0, 100.0))
def test_related_texts_stand_out_also_where_all_cosines_are_high(cone):
    sentences, entities, related = texts(cone)
    found = relatedness(sentences, entities)
    assert found[related].min() > 0.7 and found[~related].mean() < 0.05
    assert (found[0, 2] < 0.6).all()
    raw = cosine_matrix(sentences, entities).sigmoid()
    if cone:  # Eq. 12 cannot tell them apart
        assert raw.max() - raw.min() < 0.01


def test_a_constant_of_either_source_changes_no_relatedness():
    sentences, entities, _ = texts()
    expected = relatedness(sentences, entities)
    moved = relatedness(sentences + 3 * torch.randn(64), entities + 3 * torch.randn(64))
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(relatedness(5 * sentences, 0.1 * entities), expected)


def test_relatedness_by_hand():
    """Two sentences on one axis, entities at both ends and 30 beside it: c is 1, -1 and 0."""
    sentences = torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]])
    beside = torch.tensor([[0.0, 1, 0], [0, -1, 0]]).repeat(15, 1)
    entities = torch.cat([torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]), beside])[None]
    found = relatedness(sentences, entities, temperature=0.5)
    z = (4 / 64) ** -0.5  # 4 of 64 pairs at +-1
    expected = torch.tensor([z, -z, *[0.0] * 30])
    torch.testing.assert_close(found[0, 0], ((expected - RELATED) / 0.5).sigmoid())
    torch.testing.assert_close(found[0, 1, :2], found[0, 0, :2].flip(0))


def test_padding_and_texts_that_are_all_alike_relate_to_nothing():
    sentences, entities, _ = texts()
    mask = torch.tensor([[True, True, True, False]])
    padded = torch.cat([sentences, torch.full((1, 1, 64), float("nan"))], 1)
    torch.testing.assert_close(relatedness(padded, entities, mask)[:, :3], relatedness(sentences, entities))
    alike = sentences[:, :1].expand(-1, 3, -1)
    assert (relatedness(alike, entities) < 0.01).all()
    assert relatedness(sentences, entities, torch.zeros(1, 3, dtype=torch.bool)).isfinite().all()


def test_difference_by_hand_and_by_padding():
    a, b = torch.tensor([[[1.0, 2, 3, 1]]]), torch.tensor([[[7.0, 7, 5, 5]]])
    related = torch.full((1, 1, 1), 0.75)
    assert difference_loss(a, b, related).item() == pytest.approx((0.75 - 0.5 / 3) ** 2)
    assert difference_loss(a, a, torch.ones(1, 1, 1)).item() == 0
    a, b, _ = maps()
    related, mask = torch.rand(2, 4, 5), torch.tensor([[True, True, False, False], [True] * 4])
    loss = difference_loss(a, b, related, mask)
    parts = [difference_loss(a[:1, :2], b[:1], related[:1, :2]), difference_loss(a[1:], b[1:], related[1:])]
    torch.testing.assert_close(loss, (2 * parts[0] + 4 * parts[1]) / 6)


def descend(parameters, maps_of, loss_of, steps, lr):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        loss = loss_of(*maps_of())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return soft_iou(*(unit_maps(m) for m in maps_of()))


@pytest.mark.parametrize("cone", (0.0, 100.0))
def test_the_difference_draws_related_maps_together_and_parts_the_rest(cone):
    """Descent on free maps. Eq. 14 as printed lays all maps onto each other, whatever the texts say: a known fault."""
    sentences, entities, related = texts(cone)
    target, cosine = relatedness(sentences, entities), cosine_matrix(sentences, entities)
    start = [torch.randn(1, n, 16, generator=torch.Generator().manual_seed(n)) for n in (3, 75)]
    losses = {
        "difference": lambda a, b: difference_loss(a, b, target),
        "product": lambda a, b: fcc_loss(a, b, cosine),
    }
    before = soft_iou(*(unit_maps(x.exp()) for x in start))
    for name, loss_of in losses.items():
        free = [x.clone().requires_grad_() for x in start]
        overlap = descend(free, lambda free=free: [x.exp() for x in free], loss_of, 60, 0.1)
        together, apart = overlap[related].mean(), overlap[~related].mean()
        if name == "difference":
            assert together > 0.6 and apart < 0.5 * before.mean()
        else:
            assert together > 0.8 and apart > 0.8


def test_control_two_maps_that_a_toy_can_align():
    """Patches of two kinds, a sentence and an entity of each kind: with the difference as the only loss, the attention
    of both sources finds one place for each kind, and the two kinds' places lie apart."""
    torch.manual_seed(0)
    kinds = torch.randn(2, 32)
    place = torch.tensor([0] * 3 + [1] * 3)
    visual = torch.cat([kinds[place], torch.randn(10, 32)])[None] + 0.1 * torch.randn(1, 16, 32)
    text = torch.randn(1, 12, 24)
    related = torch.zeros(1, 2, 10)
    related[0, 0, 0] = related[0, 1, 1] = 1
    report, entities = MPSA(32, 24, width=32, num_heads=2), MPSA(32, 24, width=32, num_heads=2)
    parameters = [p for m in (report, entities) for p in (*m.query.parameters(), *m.key.parameters())]

    def maps_of():
        return report(visual, text[:, :2])[1], entities(visual, text[:, 2:])[1]

    def together_and_apart():
        with torch.no_grad():
            overlap = soft_iou(*(unit_maps(m) for m in maps_of()))[0]
        together = overlap[:2, :2].diagonal()
        return together.mean(), (overlap.sum() - together.sum()) / (overlap.numel() - 2)

    together, apart = together_and_apart()
    assert together < 1.3 * apart
    descend(parameters, maps_of, lambda a, b: difference_loss(a, b, related), 80, 0.01)
    together, apart = together_and_apart()
    assert together > 0.5 and together > 3 * apart
