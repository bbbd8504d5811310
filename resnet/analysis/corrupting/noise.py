"""Noise of each pixel and channel."""

import torch
from torch import Tensor

from resnet.analysis.corrupting.draws import Draws


def gaussian(images: Tensor, deviation: float, draws: Draws, pixel: float) -> Tensor:
    return images + deviation * draws.normal(*images.shape[1:])


def shot(images: Tensor, photons: float, draws: Draws, pixel: float) -> Tensor:
    """The noise of counting; `photons` make a white pixel."""
    return draws.poisson(images * photons) / photons


def impulse(images: Tensor, share: float, draws: Draws, pixel: float) -> Tensor:
    """A share of the values becomes black or white (salt and pepper)."""
    drawn = draws.uniform(0, 1, *images.shape[1:])
    salted = torch.where(drawn > 1 - share / 2, 1.0, images)
    return torch.where(drawn < share / 2, 0.0, salted)
