"""Augmentation of whole batches, on their device: pure functions of images and parameters, and the drawing of the parameters.

Parameters are drawn on the CPU, so that every device augments alike, and for the global batch, so that every number of processes
does. The functions match torchvision.transforms.v2 on the same parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class Augment:
    """What may be done to an image; `crop` is also the size of the images that are evaluated. Zero or None: left out."""

    rotate: float = 0.0
    scale: float = 0.0
    pad: int = 0
    crop: int | None = None
    padding_mode: str = "constant"
    flip: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    progressive: Sequence[int] = ()

    def output_size(self, size: int) -> int:
        return self.crop or size

    def training_size(self, size: int, share: float) -> int:
        """Of the images that are trained on after this share (0..1) of training: the progressive ones in turn, then the full size."""
        sizes = [*self.progressive, self.output_size(size)]
        return sizes[min(int(share * len(sizes)), len(sizes) - 1)]

    def geometry(self, images: Tensor, generator: Generator) -> Tensor:
        """Rotation, scale, crop, flip and cutout: (N, C, H, W) uint8 -> (N, C, S, S) uint8."""
        num_images, size = len(images), self.output_size(images.shape[-1])
        if self.rotate or self.scale:
            degrees, factor = (2 * torch.rand(2, num_images, generator=generator) - 1) * torch.tensor([[self.rotate], [self.scale]])
            images = turn(images, moved(degrees, images.device), moved(1 + factor, images.device))
        if self.pad or size != images.shape[-1]:
            padded = pad(images, self.pad, self.padding_mode)
            images = crop(padded, *_offsets(num_images, padded.shape[-1] - size, generator, images.device), size)
        if self.flip:
            images = flip(images, moved(torch.rand(num_images, generator=generator) < self.flip, images.device))
        if self.cutout:
            images = cutout(images, *_offsets(num_images, size - 1, generator, images.device), round(self.cutout * size))
        return images

    def mix(self, images: Tensor, targets: Tensor, num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixup or CutMix: float images and labels (N,) -> images and class probabilities (N, num_classes)."""
        alpha = self.mixup or self.cutmix
        if not alpha:
            return images, targets
        share = _beta(alpha, generator)
        targets = F.one_hot(targets, num_classes).to(images.dtype)
        if self.mixup:
            return mixup(images, share), mixup(targets, share)
        height, width = images.shape[-2:]
        centre = torch.rand(2, generator=generator)
        box = cutmix_box(share, int(centre[0] * height), int(centre[1] * width), height, width)
        top, left, bottom, right = box
        return cutmix(images, box), mixup(targets, 1 - (bottom - top) * (right - left) / (height * width))


def turn(images: Tensor, degrees: Tensor, factor: Tensor) -> Tensor:
    """Rotates square uint8 images clockwise by degrees (N,) and enlarges them by a factor (N,), around their centres; black outside."""
    cosine, sine = degrees.deg2rad().cos() / factor, degrees.deg2rad().sin() / factor
    zero = torch.zeros_like(cosine)
    inverse = torch.stack([cosine, sine, zero, -sine, cosine, zero], 1).view(-1, 2, 3)  # from a new pixel to where it came from
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round_().to(images.dtype)


def pad(images: Tensor, pixels: int, mode: str = "constant") -> Tensor:
    """Black, or reflected without repeating the edge."""
    sides = (pixels,) * 4
    if mode == "constant" or not pixels:
        return F.pad(images, sides)
    return F.pad(images.float(), sides, mode).to(images.dtype)  # reflection is not implemented for uint8


def crop(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Cuts size x size pixels out of each image, from its own corner (N,), (N,)."""
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, H - size + 1, W - size + 1, size, size), no copy
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def centre_crop(images: Tensor, size: int) -> Tensor:
    """Cuts or pads (black) evenly to size x size; an odd pixel goes to the right and the bottom."""
    missing = size - images.shape[-1]
    before = math.floor(missing / 2)
    return F.pad(images, (before, missing - before) * 2) if missing else images


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirrors the chosen (N,) images left to right."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def resize(images: Tensor, size: int) -> Tensor:
    """Scales float images to size x size pixels; each new one is a mean of those that it covers."""
    if size == images.shape[-1]:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def cutout(images: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """Blacks out a square around (row, column) of each image; what lies outside the image is cut off."""
    top, left = row - side // 2, column - side // 2
    rows, columns = (torch.arange(length, device=images.device) for length in images.shape[-2:])
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)  # (N, H)
    in_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)  # (N, W)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)


def mixup(batch: Tensor, share: float) -> Tensor:
    """share of each item, the rest from the item before it."""
    return batch * share + batch.roll(1, 0) * (1 - share)


def cutmix_box(share: float, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the rectangle around (row, column) that leaves about `share` of the image."""
    half = 0.5 * math.sqrt(1 - share)
    half_height, half_width = int(half * height), int(half * width)
    return max(row - half_height, 0), max(column - half_width, 0), min(row + half_height, height), min(column + half_width, width)


def cutmix(images: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Pastes the rectangle of the image before it into each image."""
    top, left, bottom, right = box
    images = images.clone()
    images[..., top:bottom, left:right] = images[..., top:bottom, left:right].roll(1, 0)
    return images


def _offsets(num_images: int, largest: int, generator: Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    return tuple(moved(torch.randint(largest + 1, (2, num_images), generator=generator), device))  # type: ignore[return-value]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device; a GPU takes it from pinned memory, while the CPU goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _beta(alpha: float, generator: Generator) -> float:
    """One draw from Beta(alpha, alpha), which torch.distributions cannot take from a generator."""
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return first / (first + second)
