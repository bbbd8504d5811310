"""Transforms of whole batches on their device: pure functions of images and parameters.

They match torchvision.transforms.v2 with the same parameters.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet.data.form import Size


def rotate_and_scale(images: Tensor, degrees: Tensor, factor: Tensor) -> Tensor:
    """Rotates uint8 images clockwise by degrees (N,) and enlarges them by a factor (N,), around their centres. Black outside."""
    cosine, sine = degrees.deg2rad().cos() / factor, degrees.deg2rad().sin() / factor
    zero, ratio = torch.zeros_like(cosine), images.shape[-2] / images.shape[-1]  # the grid counts both sides from -1 to 1
    inverse = torch.stack([cosine, sine * ratio, zero, -sine / ratio, cosine, zero], 1).view(-1, 2, 3)  # from a new pixel to its source
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round_().to(images.dtype)


def pad(images: Tensor, pixels: int, mode: str = "constant") -> Tensor:
    """Pads with black, or by reflection without repeating the edge."""
    sides = (pixels,) * 4
    if mode == "constant" or not pixels:
        return F.pad(images, sides)
    return F.pad(images.float(), sides, mode).to(images.dtype)  # reflection is not implemented for uint8


def crop(images: Tensor, top: Tensor, left: Tensor, size: Size) -> Tensor:
    """Cuts `size` out of each image, at its own corner `top` (N,), `left` (N,)."""
    height, width = size
    windows = images.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, H - height + 1, W - width + 1, height, width), no copy
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def centre_crop(images: Tensor, size: Size) -> Tensor:
    """Cuts or pads (black) evenly. An odd pixel goes to the right and the bottom."""
    sides = []
    for wanted, there in zip(reversed(size), reversed(images.shape[-2:]), strict=True):  # F.pad begins with the last dimension
        before = math.floor((wanted - there) / 2)
        sides += [before, wanted - there - before]
    return F.pad(images, sides) if any(sides) else images


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirrors the chosen (N,) images left to right."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def resize(images: Tensor, size: Size) -> Tensor:
    """Scales float images; each new pixel is a weighted mean of those that it covers."""
    if size == images.shape[-2:]:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def cutout(images: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """Blacks out a square around (row, column) of each image. The part outside the image is cut off."""
    top, left = row - side // 2, column - side // 2
    rows, columns = (torch.arange(length, device=images.device) for length in images.shape[-2:])
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)  # (N, H)
    in_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)  # (N, W)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)


def mixup(batch: Tensor, share: float) -> Tensor:
    """Returns `share` times each item plus (1 - share) times the item before it."""
    return batch * share + batch.roll(1, 0) * (1 - share)


def cutmix_box(share: float, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns (top, left, bottom, right) of a rectangle around (row, column). Outside it, about `share` of the image is left."""
    half = 0.5 * math.sqrt(1 - share)
    half_height, half_width = int(half * height), int(half * width)
    return max(row - half_height, 0), max(column - half_width, 0), min(row + half_height, height), min(column + half_width, width)


def cutmix(images: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Pastes into each image the rectangle of the image before it."""
    top, left, bottom, right = box
    images = images.clone()
    images[..., top:bottom, left:right] = images[..., top:bottom, left:right].roll(1, 0)
    return images


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Moves a tensor from the CPU to the device. A GPU copies it from pinned memory while the CPU goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
