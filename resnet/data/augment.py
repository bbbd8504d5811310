"""The operations that `augment` may list: classes whose arguments are the settings in the config.

Most change each image on its own (`PerImage`). Any other callable of uint8 images (N, C, H, W), which are then the whole batch of all
processes, and a generator will do too. If an operation changes the size, its method `output_size(size)` returns the new (height, width) for
images of `size`; images for evaluation are then cut or padded to that size. Operations with `mix` come last: they work on normalised images
and their targets.

Parameters are drawn on the CPU, so that augmentation is the same on every device. At zero strength nothing is drawn.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resnet.data import transforms
from resnet.data.errors import DataError
from resnet.data.form import Size, as_size, pixels, plain_size
from resnet.data.operation import PerImage
from resnet.data.resized_crop import random_boxes, resized_crop
from resnet.data.transforms import to_device


class Affine(PerImage):
    """Rotates by up to `rotate` degrees in either direction, and enlarges or shrinks by up to the share `scale`."""

    def __init__(
        self,
        rotate: Annotated[float, {"at_least": 0, "at_most": 180}] = 0.0,
        scale: Annotated[float, {"at_least": 0, "below": 1}] = 0.0,
    ) -> None:
        self.rotate, self.scale = rotate, scale

    def draw(self, number: int, size: Size, generator: Generator) -> Tensor | None:
        """Returns degrees and the change of the scale."""
        if not self.rotate and not self.scale:
            return None
        return ((2 * torch.rand(2, number, generator=generator) - 1) * torch.tensor([[self.rotate], [self.scale]])).T

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        degrees, factor = to_device(drawn.T.contiguous(), images.device)
        return transforms.rotate_and_scale(images, degrees, 1 + factor)


class Crop(PerImage):
    """Pads each side by `pad` pixels, black or reflected, then cuts out `size` at random: pixels a side, or [height, width]. None: the
    image's own size."""

    def __init__(
        self,
        pad: Annotated[int, {"at_least": 0}] = 0,
        size: Annotated[int | list[int] | None, {"at_least": 1}] = None,
        mode: Literal["constant", "reflect"] = "constant",
    ) -> None:
        self.pad, self.size, self.mode = pad, _given_size(size), mode

    def output_size(self, size: Size) -> Size:
        """Raises DataError if the images are too small."""
        given, (height, width) = pixels(size), (side + 2 * self.pad for side in size)
        if self.size is not None and (self.size[0] > height or self.size[1] > width):
            largest = min(height, width) if self.size[0] == self.size[1] else f"[{height},{width}]"
            wanted = str(plain_size(self.size)).replace(" ", "")
            raise DataError(f"size={wanted}: larger than the images of {given} padded by pad={self.pad}; it must be at most {largest}")
        if self.mode == "reflect" and self.pad >= min(size):
            raise DataError(f"pad={self.pad}: too much to reflect in images of {given}; it must be below {min(size)}")
        return self.size or size

    def draw(self, number: int, size: Size, generator: Generator) -> Tensor | None:
        """Returns the row and the column of the corner."""
        height, width = self.output_size(size)
        if not self.pad and (height, width) == size:
            return None
        return _offsets(number, (size[0] + 2 * self.pad - height, size[1] + 2 * self.pad - width), generator)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        size = self.output_size((images.shape[-2], images.shape[-1]))
        top, left = to_device(drawn.T.contiguous(), images.device)
        return transforms.crop(transforms.pad(images, self.pad, self.mode), top, left, size)


class RandomResizedCrop(PerImage):
    """Cuts out a random part and scales it to `size`: pixels a side, or [height, width]; None: the image's own size (Szegedy et al. 2015,
    arXiv:1409.4842).

    `scale`: from and to which share of the image's area the part has. `ratio`: the same of its width over its height.
    """

    def __init__(
        self,
        size: Annotated[int | list[int] | None, {"at_least": 1}] = None,
        scale: Annotated[Sequence[float], {"above": 0, "at_most": 1}] = (0.08, 1.0),
        ratio: Annotated[Sequence[float], {"above": 0}] = (0.75, 1.3333333333333333),
    ) -> None:
        self.size, self.scale, self.ratio = _given_size(size), _range("scale", scale), _range("ratio", ratio)

    def output_size(self, size: Size) -> Size:
        return self.size or size

    def draw(self, number: int, size: Size, generator: Generator) -> Tensor:
        """Returns top, left, height and width of each part."""
        return random_boxes(number, size, self.scale, self.ratio, generator)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return resized_crop(images, drawn, self.output_size((images.shape[-2], images.shape[-1])))


class Flip(PerImage):
    """Mirrors left to right, each image with probability `p`."""

    def __init__(self, p: Annotated[float, {"at_least": 0, "at_most": 1}] = 0.5) -> None:
        self.p = p

    def draw(self, number: int, size: Size, generator: Generator) -> Tensor | None:
        return torch.rand(number, generator=generator) < self.p if self.p else None

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return transforms.flip(images, to_device(drawn, images.device))


class Cutout(PerImage):
    """Blacks out a square whose side is the share `side` of the image's shorter one (DeVries and Taylor 2017, arXiv:1708.04552)."""

    def __init__(self, side: Annotated[float, {"at_least": 0, "below": 1}] = 0.5) -> None:
        self.side = side

    def draw(self, number: int, size: Size, generator: Generator) -> Tensor | None:
        """Returns the row and the column of the centre."""
        return _offsets(number, (size[0] - 1, size[1] - 1), generator) if self.side else None

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        row, column = to_device(drawn.T.contiguous(), images.device)
        return transforms.cutout(images, row, column, round(self.side * min(images.shape[-2:])))


class Progressive(PerImage):
    """Scales images to `sizes` pixels per shorter side, each for an equal part of training, followed by an equal part at full size."""

    def __init__(self, sizes: Annotated[list[int], {"at_least": 1, "may_be_empty": True}]) -> None:
        self.sizes = sizes

    def training_sizes(self, size: Size) -> list[Size]:
        """Returns the sizes in the order of training, for images of `size` at the end."""
        height, width = size
        shorter = min(size)
        return [*((round(height * side / shorter), round(width * side / shorter)) for side in self.sizes), size]

    def draw(self, number: int, size: Size, generator: Generator) -> None:
        return None  # normalised images are scaled instead, which rounds less

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images


class Mixup:
    """Mixes pairs of images with a share drawn from Beta(alpha, alpha) per batch (Zhang et al. 2018, arXiv:1710.09412)."""

    pairs_with_previous = True

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

    pairs_with_previous = True

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


def _given_size(size: int | Sequence[int] | None) -> Size | None:
    if isinstance(size, Sequence) and len(size) != 2:
        raise DataError(f"size={list(size)}: one number of pixels is needed, or [height,width]")
    return None if size is None else as_size(size)


def _range(name: str, given: Sequence[float]) -> tuple[float, float]:
    if len(given) != 2 or given[0] > given[1]:
        raise DataError(f"{name}={list(given)}: two numbers are needed, the smaller one first")
    return given[0], given[1]


def _offsets(number: int, largest: Size, generator: Generator) -> Tensor:
    """Returns for each image a random row and a random column, from 0 to `largest`: (number, 2)."""
    rows, columns = largest
    if rows == columns:  # one draw of both, as squares have always had it: results stay the same
        return torch.randint(rows + 1, (2, number), generator=generator).T
    return torch.stack([torch.randint(side + 1, (number,), generator=generator) for side in largest], 1)


def _beta(alpha: float, generator: Generator) -> float:
    """Draws one value from Beta(alpha, alpha). torch.distributions cannot use a generator."""
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return first / (first + second)
