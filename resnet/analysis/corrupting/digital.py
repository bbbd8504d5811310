"""Brightness, contrast, elastic deformation, coarse pixels and JPEG's artefacts."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnet.analysis.corrupting.draws import Draws
from resnet.analysis.corrupting.filters import gaussian_blur


def brightness(images: Tensor, added: float, draws: Draws, pixel: float) -> Tensor:
    """Adds to the value of HSV; hue and saturation stay."""
    value = images.amax(1, keepdim=True)
    brighter = (value + added).clamp_max(1)
    return torch.where(value > 0, images * brighter / value.clamp_min(1e-6), brighter)


def contrast(images: Tensor, kept: float, draws: Draws, pixel: float) -> Tensor:
    means = images.mean((2, 3), keepdim=True)
    return (images - means) * kept + means


def elastic(images: Tensor, setting: tuple[float, float, float], draws: Draws, pixel: float) -> Tensor:
    """Moves three points at random, with the affine map that follows, and then each pixel by a smooth random field."""
    size, smoothness, affine = setting
    height, width = images.shape[-2:]
    points = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * 2 / 3  # in a square from -1 to 1
    moved = points + 2 * draws.uniform(-affine, affine, 3, 2)
    homogeneous = torch.cat([moved, torch.ones(len(images), 3, 1)], 2)
    matrix = torch.linalg.solve(homogeneous, points.expand_as(moved)).transpose(1, 2)  # from a new pixel to its source, (N, 2, 3)
    field = gaussian_blur(draws.uniform(-1, 1, 2, height, width), smoothness * min(height, width)) * 2 * size
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    places = torch.stack([columns, rows]) + field  # (N, 2, H, W)
    sources = torch.einsum("nij,njhw->nhwi", matrix, torch.cat([places, torch.ones_like(places[:, :1])], 1))
    return F.grid_sample(images, sources, padding_mode="reflection", align_corners=True)


def pixelate(images: Tensor, share: float, draws: Draws, pixel: float) -> Tensor:
    height, width = images.shape[-2:]
    coarse = F.interpolate(images, (max(int(height * share), 1), max(int(width * share), 1)), mode="area")
    return F.interpolate(coarse, (height, width), mode="nearest-exact")


def jpeg(images: Tensor, quality: int, draws: Draws, pixel: float) -> Tensor:
    return torch.stack([_through_jpeg(image, quality) for image in images])


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", quality=quality)
    read = np.array(Image.open(buffer), np.float32).reshape(pixels.shape)
    return torch.from_numpy(read).permute(2, 0, 1) / 255
