"""Common corruptions at five severities (Hendrycks and Dietterich 2019), made on the fly.

These are the benchmark's but frost, which needs photographs of frost. Their settings are the published ones: of CIFAR-10-C for small
images, of ImageNet-C for large ones. Lengths in pixels grow with the image's side. What is drawn for an image depends only on the seed and
on the image's number, and is the same at every severity.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet.analysis.corrupting import blurs, digital, noise, weather
from resnet.analysis.corrupting.draws import Draws

SEVERITIES = range(1, 6)
SMALL, LARGE = 32, 224  # pixels per side of the images of CIFAR-10-C and ImageNet-C
BETWEEN = 85  # from this side on, the settings of large images count: the geometric mean


@dataclass(frozen=True)
class Corruption:
    """`apply` takes images (N, C, H, W) in 0..1, the setting of a severity, the draws, and image pixels for one pixel of the benchmark."""

    apply: Callable[[Tensor, Any, Draws, float], Tensor]
    small: Sequence[Any]
    large: Sequence[Any]


CORRUPTIONS = {
    "gaussian_noise": Corruption(noise.gaussian, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption(noise.shot, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(noise.impulse, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Corruption(
        blurs.defocus,  # radius of the disc, standard deviation of its edge
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": Corruption(
        blurs.glass,  # standard deviation of the blur, largest distance, repetitions
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": Corruption(
        blurs.motion,  # radius, standard deviation
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": Corruption(
        blurs.zoom,  # largest factor, step
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Corruption(
        weather.snow,  # mean, standard deviation, zoom, least brightness of a flake; radius and deviation of its motion; share of the image
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": Corruption(
        weather.fog,  # density, by how much finer patches are weaker
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": Corruption(digital.brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(digital.contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption(
        digital.elastic,  # size of the displacement, its smoothness, size of the affine part; in sides of the image
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2.18, 0.76, 0.109), (2.18, 0.087, 0.218), (0.054, 0.011, 0.022), (0.076, 0.011, 0.022), (0.131, 0.011, 0.022)),
    ),
    "pixelate": Corruption(digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption(digital.jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}


def corrupted(images: Tensor, name: str, severity: int, indices: NDArray[np.int64], seed: int) -> Tensor:
    """Returns corrupted uint8 images (N, C, H, W). `indices` (N,): the number of each image, which decides what is drawn for it."""
    side, corruption = min(images.shape[-2:]), CORRUPTIONS[name]
    settings, benchmark = (corruption.small, SMALL) if side < BETWEEN else (corruption.large, LARGE)
    pixel = side / benchmark if side > SMALL else 1.0
    draws = Draws(seed, list(CORRUPTIONS).index(name), indices)
    changed = corruption.apply(images.float() / 255, settings[severity - 1], draws, pixel)
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8)
