"""Eq. 7: three studies by hand, then what must hold for any batch."""

import math

import pytest
import torch

from revtaf.lre.rank_loss import rank_loss

# Studies 0 and 1 differ in one category, 2 from both in two.
THREE = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 1, 0]])
DISTANCE = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 4.0], [2.0, 4.0, 0.0]])


def by_hand(ties):
    def term(to_target, to_other):
        return to_target + math.log(math.exp(-to_target) + math.exp(-to_other))

    first, second = term(1, 2), term(1, 4)
    third = (term(2, 4) + term(4, 2)) / 2 if ties == "soft" else term(2, 4)
    return (first + second + third) / 3


@pytest.mark.parametrize("ties", ("soft", "first"))
def test_three_studies_by_hand(ties):
    assert rank_loss(DISTANCE, THREE, ties).item() == pytest.approx(by_hand(ties), rel=1e-6)


def test_a_study_is_not_its_own_neighbour():
    """Whatever stands on the diagonal, even NaN, changes nothing."""
    spoiled = DISTANCE.clone().fill_diagonal_(float("nan"))
    assert torch.equal(rank_loss(spoiled, THREE), rank_loss(DISTANCE, THREE))


def test_ties_share_the_target():
    """Four equal studies: at equal distances the gradient vanishes, only with the soft target."""
    same = torch.zeros(4, 18, dtype=torch.long)
    for ties, balanced in (("soft", True), ("first", False)):
        d = torch.ones(4, 4, requires_grad=True)
        loss = rank_loss(d, same, ties)
        loss.backward()
        assert loss.item() == pytest.approx(math.log(3))
        assert (d.grad.abs().max() < 1e-7) == balanced


def test_gradient_pulls_label_neighbours_together():
    d = DISTANCE.clone().requires_grad_()
    rank_loss(d, THREE).backward()
    # Descent lowers d where the gradient is positive: 0 and 1 approach, 2 is pushed from them.
    assert d.grad[0, 1] > 0 > d.grad[0, 2] and d.grad[1, 0] > 0 > d.grad[1, 2]


def test_order_of_the_batch_and_temperature():
    order = torch.tensor([2, 0, 1])
    shuffled = rank_loss(DISTANCE[order][:, order], THREE[order])
    torch.testing.assert_close(shuffled, rank_loss(DISTANCE, THREE))
    torch.testing.assert_close(rank_loss(DISTANCE * 3, THREE, temperature=3.0), rank_loss(DISTANCE, THREE))


def test_batch_of_one_is_zero_with_a_graph():
    d = torch.ones(1, 1, requires_grad=True)
    loss = rank_loss(d, THREE[:1])
    loss.backward()
    assert loss.item() == 0 and d.grad.item() == 0


def test_errors():
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        rank_loss(DISTANCE[:2], THREE)
    with pytest.raises(ValueError, match="ties"):
        rank_loss(DISTANCE, THREE, ties="last")
