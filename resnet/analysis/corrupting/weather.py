"""Snow and fog."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet.analysis.corrupting.draws import Draws
from resnet.analysis.corrupting.filters import filtered, streaks, zoomed

LUMA = (0.299, 0.587, 0.114)


def snow(images: Tensor, setting: tuple[float, ...], draws: Draws, pixel: float) -> Tensor:
    mean, deviation, factor, least, radius, spread, kept = setting
    flakes = zoomed(mean + deviation * draws.normal(1, *images.shape[-2:]), max(factor * pixel, 1.0))
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    flakes = filtered(flakes, streaks(draws.uniform(-135, -45), radius * pixel, spread * pixel))
    whitened = torch.maximum(images, _gray(images) * 1.5 + 0.5)
    return kept * images + (1 - kept) * whitened + flakes + flakes.flip(-1, -2)


def fog(images: Tensor, setting: tuple[float, float], draws: Draws, pixel: float) -> Tensor:
    density, decay = setting
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + density * _patches(images, decay, draws)) * brightest / (brightest + density)


def _patches(images: Tensor, decay: float, draws: Draws) -> Tensor:
    """Returns (N, 1, H, W) in 0..1: random values on grids of 2, 4, 8, ... cells a side, each `decay` times weaker than the one before."""
    height, width = images.shape[-2:]
    whole = torch.zeros(len(images), 1, height, width)
    for level in range(1, max(height, width).bit_length()):
        grid = draws.uniform(-1, 1, 1, 2**level + 1, 2**level + 1)
        whole += F.interpolate(grid, (height, width), mode="bilinear", align_corners=True) / decay**level
    lowest, highest = whole.amin((2, 3), keepdim=True), whole.amax((2, 3), keepdim=True)
    return (whole - lowest) / (highest - lowest)


def _gray(images: Tensor) -> Tensor:
    if images.shape[1] != len(LUMA):
        return images.mean(1, keepdim=True)
    return (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
