"""The operations that `augment` may list: classes whose arguments are the settings in the config.

An operation is called with uint8 images (N, C, H, W), which are the whole batch of all processes, and a generator. It returns images of
this kind. If it changes the size, its method `output_size(size)` returns the new (height, width) for images of `size`; images for
evaluation are then cut or padded to that size. Operations with `mix` come last: they work on normalised images and their targets.

Parameters are drawn on the CPU, so that augmentation is the same on every device. At zero strength nothing is drawn.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resnet.data import transforms
from resnet.data.errors import DataError
from resnet.data.form import Size, pixels
from resnet.data.transforms import to_device


class Affine:
    """Rotates by up to `rotate` degrees in either direction, and enlarges or shrinks by up to the share `scale`."""

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
    """Pads each side by `pad` pixels, black or reflected, then cuts a random square of `size` pixels per side. None: the image's own
    size."""

    def __init__(
        self,
        pad: Annotated[int, {"at_least": 0}] = 0,
        size: Annotated[int | None, {"at_least": 1}] = None,
        mode: Literal["constant", "reflect"] = "constant",
    ) -> None:
        self.pad, self.size, self.mode = pad, size, mode

    def output_size(self, size: Size) -> Size:
        """Raises DataError if the images are too small."""
        side, given = min(size), pixels(size)
        if self.size is not None and self.size > side + 2 * self.pad:
            raise DataError(
                f"size={self.size}: larger than the images of {given} padded by pad={self.pad}; it must be at most {side + 2 * self.pad}"
            )
        if self.mode == "reflect" and self.pad >= side:
            raise DataError(f"pad={self.pad}: too much to reflect in images of {given}; it must be below {side}")
        return (self.size, self.size) if self.size else size

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        before = (images.shape[-2], images.shape[-1])
        height, width = self.output_size(before)
        if not self.pad and (height, width) == before:
            return images
        padded = transforms.pad(images, self.pad, self.mode)
        top, left = _offsets(images, (padded.shape[-2] - height, padded.shape[-1] - width), generator)
        return transforms.crop(padded, top, left, (height, width))


class Flip:
    """Mirrors left to right, each image with probability `p`."""

    def __init__(self, p: Annotated[float, {"at_least": 0, "at_most": 1}] = 0.5) -> None:
        self.p = p

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.p:
            return images
        return transforms.flip(images, to_device(torch.rand(len(images), generator=generator) < self.p, images.device))


class Cutout:
    """Blacks out a square whose side is the share `side` of the image's shorter one (DeVries and Taylor 2017, arXiv:1708.04552)."""

    def __init__(self, side: Annotated[float, {"at_least": 0, "below": 1}] = 0.5) -> None:
        self.side = side

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.side:
            return images
        height, width = images.shape[-2:]
        row, column = _offsets(images, (height - 1, width - 1), generator)
        return transforms.cutout(images, row, column, round(self.side * min(height, width)))


class Progressive:
    """Scales images to `sizes` pixels per shorter side, each for an equal part of training, followed by an equal part at full size."""

    def __init__(self, sizes: Annotated[list[int], {"at_least": 1, "may_be_empty": True}]) -> None:
        self.sizes = sizes

    def training_sizes(self, size: Size) -> list[Size]:
        """Returns the sizes in the order of training, for images of `size` at the end."""
        height, width = size
        shorter = min(size)
        return [*((round(height * side / shorter), round(width * side / shorter)) for side in self.sizes), size]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return images  # normalised images are scaled instead, which rounds less


class Mixup:
    """Mixes pairs of images with a share drawn from Beta(alpha, alpha) per batch (Zhang et al. 2018, arXiv:1710.09412)."""

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
    """Pastes in a rectangle of another image. The share of the area that stays is drawn from Beta(alpha, alpha) (Yun et al. 2019,
    arXiv:1905.04899).
    """

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


def _offsets(images: Tensor, largest: Size, generator: Generator) -> tuple[Tensor, Tensor]:
    """Returns for each image a random row and a random column, from 0 to `largest`."""
    rows, columns = largest
    if rows == columns:  # one draw of both, as squares have always had it: results stay the same
        return tuple(to_device(torch.randint(rows + 1, (2, len(images)), generator=generator), images.device))  # type: ignore[return-value]
    row, column = (torch.randint(side + 1, (len(images),), generator=generator) for side in largest)
    return to_device(row, images.device), to_device(column, images.device)


def _beta(alpha: float, generator: Generator) -> float:
    """Draws one value from Beta(alpha, alpha). torch.distributions cannot use a generator."""
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return first / (first + second)
