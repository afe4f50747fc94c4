"""The terms against the losses they complete, written out."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from truthful_rlhf.reward_model.losses import LOSSES, ROBUST_FLIP_RATE, hard, make_term, robust, soft_bce

Z = torch.linspace(-6, 6, 25, dtype=torch.float64)


@pytest.mark.parametrize("q", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_soft_bce_completes_the_hard_loss_to_the_cross_entropy(q: float) -> None:
    labels = torch.full_like(Z, q)
    expected = binary_cross_entropy_with_logits(Z, labels, reduction="none")
    torch.testing.assert_close(-logsigmoid(Z) + soft_bce(Z, labels), expected)


def test_hard_labels_follow_the_side_of_one_half() -> None:
    q = torch.tensor([0.51, 1.0, 0.49, 0.0], dtype=torch.float64)
    z = torch.full_like(q, 2.0)
    expected = -logsigmoid(torch.tensor([2.0, 2.0, -2.0, -2.0], dtype=torch.float64))
    torch.testing.assert_close(-logsigmoid(z) + hard(z, q), expected)


@pytest.mark.parametrize("q", [0.6, 1.0])
def test_robust_completes_the_hard_loss_to_that_of_its_paper(q: float) -> None:
    """arXiv 2403.00409: ((1 - e) l(z) - e l(-z)) / (1 - 2e); the confidence in the label plays no part."""
    e = ROBUST_FLIP_RATE
    expected = ((1 - e) * -logsigmoid(Z) - e * -logsigmoid(-Z)) / (1 - 2 * e)
    torch.testing.assert_close(-logsigmoid(Z) + robust(Z, torch.full_like(Z, q)), expected)


def test_robust_is_unbiased_where_labels_are_flipped_as_often_as_it_assumes() -> None:
    """Averaged over flips it is the hard loss of the label before flipping; the hard loss itself is not."""
    e, ones = ROBUST_FLIP_RATE, torch.ones_like(Z)
    for term, unbiased in ((robust, True), (hard, False)):
        averaged = (1 - e) * term(Z, ones) + e * term(Z, 0 * ones)
        assert torch.allclose(averaged, torch.zeros_like(Z), atol=1e-12) is unbiased


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "robust"])
def test_certain_labels_add_nothing(name: str) -> None:
    term = make_term(name)
    torch.testing.assert_close(term(Z, torch.ones_like(Z)), torch.zeros_like(Z))


@pytest.mark.parametrize(("z", "expected"), [(0.0, 0.0), (2.0, 0.380797)])
def test_an_undecided_pair_is_pulled_to_no_difference(z: float, expected: float) -> None:
    """The gradient of soft BCE at q = 1/2 is sigmoid(z) - 1/2: none at z = 0; the hard loss has one there."""
    point = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    (-logsigmoid(point) + soft_bce(point, torch.tensor([0.5]))).sum().backward()
    assert point.grad is not None
    assert point.grad.item() == pytest.approx(expected, abs=1e-6)
    if z == 0.0:  # negative control
        alone = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (-logsigmoid(alone)).sum().backward()
        assert alone.grad is not None
        assert alone.grad.item() == -0.5


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'soft_bce'"):
        make_term("softbce")
