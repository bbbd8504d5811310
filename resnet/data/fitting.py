"""Makes pixels fit a size: crop cuts out the centre, pad adds black borders, squash changes the ratio of the sides."""

import torch
from torch import Tensor

from resnet.data.form import Size

GAP = 2  # at this many times the size, nobody sees that a picture was first reduced by a whole factor


def fitted(pixels: Tensor, size: Size, fit: str) -> Tensor:
    """(C, H, W) uint8 -> (C, *size). Each new pixel is a weighted mean of those that it covers, the same on every processor."""
    height, width = pixels.shape[1:]
    if fit == "crop":
        pixels = _cut(pixels, scaled(size, 1 / _scale((height, width), size, fit)))
    inner = scaled((height, width), _scale((height, width), size, fit)) if fit == "pad" else size
    if pixels.shape[1:] != inner:
        as_stored = pixels[None].contiguous(memory_format=torch.channels_last)  # four times as fast as with the colours apart
        pixels = torch.nn.functional.interpolate(as_stored, inner, mode="bilinear", antialias=True)[0]
    return pixels if inner == size else _on_black(pixels, size)


def least_size(picture: Size, size: Size, fit: str) -> Size:
    """Returns the size to which a picture may be reduced before it is fitted."""
    return scaled(size if fit == "squash" else picture, GAP if fit == "squash" else GAP * _scale(picture, size, fit))


def _scale(picture: Size, size: Size, fit: str) -> float:
    return (max if fit == "crop" else min)(new / old for new, old in zip(size, picture, strict=True))


def scaled(size: Size, scale: float) -> Size:
    height, width = (max(round(side * scale), 1) for side in size)
    return height, width


def _cut(pixels: Tensor, size: Size) -> Tensor:
    top, left = ((side - part) // 2 for side, part in zip(pixels.shape[1:], size, strict=True))
    return pixels[:, top : top + size[0], left : left + size[1]]


def _on_black(pixels: Tensor, size: Size) -> Tensor:
    height, width = pixels.shape[1:]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas = pixels.new_zeros(len(pixels), *size)
    canvas[:, top : top + height, left : left + width] = pixels
    return canvas
