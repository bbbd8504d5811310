"""Losses against their definitions, torch's and each other."""

import pytest
import torch
import torch.nn.functional as F
from conftest import compose

from resnet.build import build_objective
from resnet.config import UserError
from resnet.losses import BCE, CrossEntropy, Focal

COUNTS = {"num_classes": 4, "class_counts": [10, 20, 30, 40]}


@pytest.fixture
def scores():
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(12) % 4
MIXED = 0.7 * F.one_hot(LABELS, 4) + 0.3 * F.one_hot(LABELS.roll(1), 4)


def test_smoothing_is_for_training_alone(scores) -> None:
    loss = CrossEntropy(0.1, **COUNTS)
    assert torch.equal(loss(scores, LABELS), F.cross_entropy(scores, LABELS, label_smoothing=0.1))
    assert torch.equal(loss.eval()(scores, LABELS), F.cross_entropy(scores, LABELS))


@pytest.mark.parametrize("make", [lambda: CrossEntropy(0.1, "balanced", **COUNTS), lambda: BCE(**COUNTS), lambda: Focal(**COUNTS)])
def test_parts_of_a_batch_weigh_as_the_whole(scores, make) -> None:
    loss = make()
    whole, parts = loss(scores, LABELS), [loss(scores[:5], LABELS[:5]), loss(scores[5:], LABELS[5:])]
    torch.testing.assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize(
    "make", [lambda: CrossEntropy(0.1, [1, 2, 0, 3], **COUNTS), lambda: BCE(0.1, **COUNTS), lambda: Focal(1.5, **COUNTS)]
)
def test_labels_are_targets_that_are_not_mixed(scores, make) -> None:
    loss = make()
    torch.testing.assert_close(loss(scores, LABELS), loss(scores, F.one_hot(LABELS, 4).float()))
    assert loss(scores, MIXED).shape == (12,)


def test_balanced_weights_give_each_class_the_same_part() -> None:
    weights = CrossEntropy(0.0, "balanced", **COUNTS).weights
    torch.testing.assert_close(weights * torch.tensor([10.0, 20, 30, 40]), torch.full((4,), 25.0))


def test_bce_is_torchs_and_focal_without_gamma_is_cross_entropy(scores) -> None:
    expected = F.binary_cross_entropy_with_logits(scores, F.one_hot(LABELS, 4).float())
    torch.testing.assert_close(BCE(**COUNTS)(scores, LABELS).mean(), expected)
    torch.testing.assert_close(Focal(0.0, **COUNTS)(scores, LABELS), F.cross_entropy(scores, LABELS, reduction="none"))


def test_focal_weighs_by_what_is_missing_of_the_probability(scores) -> None:
    right = scores.softmax(1)[torch.arange(12), LABELS]
    torch.testing.assert_close(Focal(2.0, [1, 2, 3, 4], **COUNTS)(scores, LABELS), -(LABELS + 1) * (1 - right) ** 2 * right.log())


def test_focal_has_a_gradient_where_the_answer_is_sure() -> None:
    scores = torch.tensor([[200.0, 0.0, 0.0, 0.0]], requires_grad=True)
    Focal(0.5, **COUNTS)(scores, torch.tensor([0])).sum().backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("[1,2]", "2 weights for 4 classes"),
        ("even", "balanced is needed, or a list"),
        ("[1,-1,1,1]", "balanced is needed, or a list"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(setting, told) -> None:
    config = compose("data=digits", f"loss.class_weights={setting}")
    with pytest.raises(UserError, match=told):
        build_objective(config, torch.device("cpu"), **COUNTS)
