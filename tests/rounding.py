"""How far two computations of the same mathematics may lie apart: what follows from rounding to float32, on any processor."""

from pathlib import Path

import torch
from torch import Tensor, nn

from resnet.analysis.answering import Answering
from resnet.analysis.saved import load_data, open_run


def tolerance(model: nn.Module, steps: int = 1, summed: int = 0) -> float:
    """Relative to the norm of what is compared: a rounding for each number that a layer sums, and for each step of training.

    The layers' roundings add up at worst; those within a sum, and from step to step, as a random walk does: with their root. This holds
    where nothing jumps: a rounding that turns a ReLU on or off in training is not small.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    longest = max(summed, *(layer.weight[0].numel() for layer in layers))
    return torch.finfo(torch.float32).eps * len(layers) * (longest * steps) ** 0.5


def assert_same_scores(ours: Tensor, theirs: Tensor, model: nn.Module) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance(model) * theirs.abs().max().item())


def assert_same_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor], allowed: float) -> None:
    assert ours.keys() == theirs.keys()
    one, other = (torch.cat([weights[name].double().flatten() for name in ours]) for weights in (ours, theirs))
    assert (one - other).norm() <= allowed * other.norm()


def near_ties(scores: Tensor, allowed: float) -> int:
    """How many answers rounding may turn: the two best scores are each off by at most `allowed` of the largest."""
    best = scores.topk(2).values
    return int((best[:, 0] - best[:, 1] <= 2 * allowed * scores.abs().max()).sum())


def scores_of(directory: Path) -> tuple[Tensor, Tensor]:
    """Of a finished run for the test images, and their labels."""
    run = open_run(directory)
    images = load_data(run).test
    return Answering(run).logits(images), images.labels
