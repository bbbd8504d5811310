"""The operations that `augment` may list: classes with the settings of the config.

An operation is called with uint8 images (N, C, H, W), the whole batch of all processes, and a generator, and returns such images. It
may have `output_size(size)`, pixels a side of what it makes of images of `size` pixels a side, which images to be evaluated are then cut
or padded to. Operations with `mix` come last: they act on normalised images and their targets.

Parameters are drawn on the CPU, so that every device augments alike. At zero strength nothing is drawn.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resnet.data import transforms
from resnet.data.errors import DataError
from resnet.data.transforms import to_device


class Affine:
    """Rotates by up to `rotate` degrees to either side, and enlarges or shrinks by up to the share `scale`."""

    def __init__(
        self,
        rotate: Annotated[float, {"at_least": 0, "at_most": 180}] = 0.0,
        scale: Annotated[float, {"at_least": 0, "below": 1}] = 0.0,
    ) -> None:
        self.rotate, self.scale = rotate, scale

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.rotate and not self.scale:
            return images
        degrees, factor = (2 * torch.rand(2, len(images), generator=generator) - 1) * torch.tensor([[self.rotate], [self.scale]])
        return transforms.rotate_and_scale(images, to_device(degrees, images.device), to_device(1 + factor, images.device))


class Crop:
    """Pads each side by `pad` pixels, black or reflected, then cuts `size` pixels a side at random; None: the image's own size."""

    def __init__(
        self,
        pad: Annotated[int, {"at_least": 0}] = 0,
        size: Annotated[int | None, {"at_least": 1}] = None,
        mode: Literal["constant", "reflect"] = "constant",
    ) -> None:
        self.pad, self.size, self.mode = pad, size, mode

    def output_size(self, size: int) -> int:
        """Raises DataError where the images are too small."""
        if self.size is not None and self.size > size + 2 * self.pad:
            raise DataError(
                f"size={self.size}: larger than the images of {size} pixels padded by pad={self.pad}; it must be at most "
                f"{size + 2 * self.pad}"
            )
        if self.mode == "reflect" and self.pad >= size:
            raise DataError(f"pad={self.pad}: too much to reflect in images of {size} pixels; it must be below {size}")
        return self.size or size

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        size = self.size or images.shape[-1]
        if not self.pad and size == images.shape[-1]:
            return images
        padded = transforms.pad(images, self.pad, self.mode)
        top, left = _offsets(images, padded.shape[-1] - size, generator)
        return transforms.crop(padded, top, left, size)


class Flip:
    """Mirrors left to right, each image with probability `p`."""

    def __init__(self, p: Annotated[float, {"at_least": 0, "at_most": 1}] = 0.5) -> None:
        self.p = p

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.p:
            return images
        return transforms.flip(images, to_device(torch.rand(len(images), generator=generator) < self.p, images.device))


class Cutout:
    """Blacks out a square of `side`, a share of the image's (DeVries and Taylor 2017, arXiv:1708.04552)."""

    def __init__(self, side: Annotated[float, {"at_least": 0, "below": 1}] = 0.5) -> None:
        self.side = side

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.side:
            return images
        size = images.shape[-1]
        row, column = _offsets(images, size - 1, generator)
        return transforms.cutout(images, row, column, round(self.side * size))


class Progressive:
    """Scales images to `sizes` pixels a side, each for an equal part of training, before a last part at full size."""

    def __init__(self, sizes: Annotated[list[int], {"at_least": 1, "may_be_empty": True}]) -> None:
        self.sizes = sizes

    def training_sizes(self, size: int) -> list[int]:
        """Pixels a side, in the order of training, of images that are `size` pixels in the end."""
        return [*self.sizes, size]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return images  # normalised images are scaled, which rounds less


class Mixup:
    """Mixes pairs of images, by a share drawn from Beta(alpha, alpha) for the batch (Zhang et al. 2018, arXiv:1710.09412)."""

    def __init__(self, alpha: Annotated[float, {"at_least": 0}] = 0.2) -> None:
        self.alpha = alpha

    def mix(self, images: Tensor, targets: Tensor, num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Normalised images and labels (N,) -> images and class probabilities (N, num_classes)."""
        if not self.alpha:
            return images, targets
        share = _beta(self.alpha, generator)
        targets = F.one_hot(targets, num_classes).to(images.dtype)
        return transforms.mixup(images, share), transforms.mixup(targets, share)


class CutMix:
    """Pastes a rectangle of another image, whose share of the area is drawn from Beta(alpha, alpha) (Yun et al. 2019, arXiv:1905.04899)."""

    def __init__(self, alpha: Annotated[float, {"at_least": 0}] = 1.0) -> None:
        self.alpha = alpha

    def mix(self, images: Tensor, targets: Tensor, num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Normalised images and labels (N,) -> images and class probabilities (N, num_classes)."""
        if not self.alpha:
            return images, targets
        share = _beta(self.alpha, generator)
        targets = F.one_hot(targets, num_classes).to(images.dtype)
        height, width = images.shape[-2:]
        centre = torch.rand(2, generator=generator)
        box = transforms.cutmix_box(share, int(centre[0] * height), int(centre[1] * width), height, width)
        top, left, bottom, right = box
        return transforms.cutmix(images, box), transforms.mixup(targets, 1 - (bottom - top) * (right - left) / (height * width))


def _offsets(images: Tensor, largest: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two whole numbers from 0 to `largest` for each image."""
    return tuple(to_device(torch.randint(largest + 1, (2, len(images)), generator=generator), images.device))  # type: ignore[return-value]


def _beta(alpha: float, generator: Generator) -> float:
    """One draw from Beta(alpha, alpha), which torch.distributions cannot take from a generator."""
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return first / (first + second)
