"""MedFuse-CLIP's objective: Eq. 9 as printed, hard negatives and their weights, the margin."""

import pytest
import torch
from torch.nn import functional as F

from revtaf.comparators.medfuse.objective import contrast, margin_loss


@pytest.fixture
def pairs():
    """Images, texts and three negatives each of seven samples, in float64; scale; the second has one negative, the
    third none."""
    torch.manual_seed(0)
    image, text, hard = (F.normalize(torch.randn(*shape, 8).double(), dim=-1) for shape in ((7,), (7,), (7, 3)))
    mask = torch.ones(7, 3, dtype=torch.bool)
    mask[1, 1:], mask[2] = False, False
    weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return image, text, torch.tensor(1 / 0.07).double(), hard, mask, weights.double()


def nothing(image):
    """No negatives at all."""
    return image.new_zeros(len(image), 0, image.shape[1]), torch.zeros(len(image), 0).bool(), image.new_zeros(7, 0)


def test_eq_9_is_twice_open_clip_s_loss(pairs):
    """It lacks the 1/2; with reduction=mean the two are one. Rows without a negative change nothing of it."""
    open_clip = pytest.importorskip("open_clip", reason="needs pip install 'revtaf[medfuse]'")
    image, text, scale, hard, mask, weights = pairs
    theirs = open_clip.loss.ClipLoss()(image, text, scale)
    torch.testing.assert_close(contrast(image, text, scale, *nothing(image)), 2 * theirs)
    torch.testing.assert_close(contrast(image, text, scale, *nothing(image), reduction="mean"), theirs)
    empty = torch.zeros_like(mask), torch.zeros_like(weights)
    torch.testing.assert_close(contrast(image, text, scale, hard, *empty), 2 * theirs)


def test_equal_weights_are_the_plain_concatenation_of_the_negatives(pairs):
    """More columns of the image -> report direction, and nothing else."""
    image, text, scale, hard, mask, weights = pairs
    expected = 0.0
    for i in range(7):
        columns = torch.cat([text, hard[i][mask[i]]])
        expected = expected - (image[i] @ columns.T * scale).log_softmax(0)[i] / 7
        expected = expected - (text[i] @ image.T * scale).log_softmax(0)[i] / 7
    torch.testing.assert_close(contrast(image, text, scale, hard, mask, weights), expected)


def test_weights_enter_the_loss(pairs):
    """A heavier negative that is nearer costs more: Eq. 8 is in no loss of the paper as printed, here it is."""
    image, text, scale, hard, mask, _ = pairs
    near = (image[:, None] * hard).sum(-1).masked_fill(~mask, -9)
    toward = (20 * near).softmax(1) * mask
    away = (-20 * near).masked_fill(~mask, -999).softmax(1) * mask
    of = {name: contrast(image, text, scale, hard, mask, w) for name, w in (("toward", toward), ("away", away))}
    assert of["toward"] > of["away"] + 0.01


def test_order_of_samples_and_of_negatives_is_without_effect(pairs):
    image, text, scale, hard, mask, weights = pairs
    order, inner = torch.randperm(7), torch.tensor([2, 0, 1])
    moved = (hard[order][:, inner], mask[order][:, inner], weights[order][:, inner])
    for same in (None, torch.rand(7, 7) < 0.3):
        same_moved = None if same is None else same[order][:, order]
        a = contrast(image, text, scale, hard, mask, weights, same)
        b = contrast(image[order], text[order], scale, *moved, same_moved)
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(
        margin_loss(image, text, hard, mask, weights, 0.2), margin_loss(image[order], text[order], *moved, 0.2)
    )


def test_samples_of_the_very_same_text_are_no_negatives(pairs):
    """Masked, a copy in the batch costs nothing; unmasked it does."""
    image, text, scale, *_ = pairs
    text = text.clone()
    text[1] = text[0]
    same = torch.eye(7, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    plain = contrast(image, text, scale, *nothing(image))
    assert contrast(image, text, scale, *nothing(image), same) < plain
    torch.testing.assert_close(contrast(image, text, scale, *nothing(image), torch.eye(7) > 0), plain)


def test_the_margin_by_hand(pairs):
    """Eq. 10 on cosines, of the hardest negative; nothing for who has none; weighted, of their mean."""
    image, text, _, hard, mask, weights = pairs
    expected = weighted = 0.0
    for i in range(7):
        if mask[i].any():
            cosines = (hard[i] @ image[i])[mask[i]]
            own = image[i] @ text[i]
            expected += max(0.0, 0.2 + cosines.max() - own) / 7
            weighted += max(0.0, 0.2 + cosines.mean() - own) / 7
    torch.testing.assert_close(margin_loss(image, text, hard, mask, weights, 0.2), expected)
    torch.testing.assert_close(margin_loss(image, text, hard, mask, weights, 0.2, "weighted"), weighted)
    assert margin_loss(image, text, hard, torch.zeros_like(mask), weights, 0.2) == 0


def test_gradients_are_finite_where_nobody_has_a_negative(pairs):
    image, text, scale, hard, mask, weights = pairs
    leaves = [x.clone().requires_grad_() for x in (image, text, hard)]
    none = torch.zeros_like(mask)
    loss = contrast(leaves[0], leaves[1], scale, leaves[2], none, weights * 0)
    loss = loss + margin_loss(*leaves, none, weights * 0, 0.2)
    loss.backward()
    assert all(torch.isfinite(x.grad).all() for x in leaves) and (leaves[2].grad == 0).all()
