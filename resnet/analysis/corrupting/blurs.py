"""Blurs: out of focus, through frosted glass, by motion and by zoom."""

from itertools import count, takewhile

import torch
from torch import Tensor

from resnet.analysis.corrupting.draws import Draws
from resnet.analysis.corrupting.filters import disc, filtered, gaussian_blur, streaks, zoomed


def defocus(images: Tensor, setting: tuple[float, float], draws: Draws, pixel: float) -> Tensor:
    radius, edge = setting
    return filtered(images, disc(radius * pixel, edge * pixel))


def glass(images: Tensor, setting: tuple[float, int, int], draws: Draws, pixel: float) -> Tensor:
    """Each pixel takes the value of one nearby. The benchmark swaps them one after another instead, which no batch can."""
    deviation, distance, repetitions = setting
    reach = max(round(distance * pixel), 1)
    shuffled = gaussian_blur(images, deviation * pixel)
    for _ in range(repetitions):
        shuffled = _displaced(shuffled, draws.uniform(-reach - 0.5, reach + 0.5, 2, *images.shape[-2:]).round().long())
    return gaussian_blur(shuffled, deviation * pixel)


def _displaced(images: Tensor, offsets: Tensor) -> Tensor:
    """`offsets` (N, 2, H, W): from each pixel to its source, in rows and columns."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height)[:, None] + offsets[:, 0]).clamp(0, height - 1)
    columns = (torch.arange(width) + offsets[:, 1]).clamp(0, width - 1)
    sources = (rows * width + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, sources).view_as(images)


def motion(images: Tensor, setting: tuple[float, float], draws: Draws, pixel: float) -> Tensor:
    radius, deviation = setting
    return filtered(images, streaks(draws.uniform(-45, 45), radius * pixel, deviation * pixel))


def zoom(images: Tensor, setting: tuple[float, float], draws: Draws, pixel: float) -> Tensor:
    largest, step = setting
    factors = list(takewhile(lambda factor: factor < largest - step / 2, count(1.0, step)))
    return (images + sum(zoomed(images, factor) for factor in factors)) / (len(factors) + 1)
