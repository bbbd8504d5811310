"""Filters of whole batches. Beyond its edge an image goes on as in a mirror."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolves images (N, C, H, W) with one kernel (h, w) or one each (N, h, w), of odd sides. By FFT, as kernels may be large."""
    above, left = kernels.shape[-2] // 2, kernels.shape[-1] // 2
    padded = images[..., _mirrored(images.shape[-2], above)[:, None], _mirrored(images.shape[-1], left)]
    size = list(padded.shape[-2:])
    spectrum = torch.fft.rfft2(kernels, s=size).unsqueeze(-3)
    whole = torch.fft.irfft2(torch.fft.rfft2(padded) * spectrum, s=size)
    return whole[..., 2 * above :, 2 * left :]


def _mirrored(side: int, added: int) -> Tensor:
    """Returns the pixel for each place from -added to side + added; F.pad cannot add more than the side."""
    places = torch.arange(-added, side + added) % (2 * side)
    return torch.where(places < side, places, 2 * side - 1 - places)


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    radius = int(4 * deviation + 0.5)
    if radius == 0:
        return images
    line = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * deviation**2))
    line = line / line.sum()
    return filtered(filtered(images, line[:, None]), line[None])


def disc(radius: float, edge: float) -> Tensor:
    """Returns a kernel: a disc whose edge is blurred with the standard deviation `edge`."""
    half = math.ceil(radius + 4 * edge)
    squares = torch.arange(-half, half + 1) ** 2
    kernel = (squares[:, None] + squares <= radius**2).float()
    kernel = gaussian_blur(kernel[None, None], edge)[0, 0]
    return kernel / kernel.sum()


def streaks(angles: Tensor, radius: float, deviation: float) -> Tensor:
    """Returns a kernel (h, h) for each angle (N,) in degrees: a line from the middle that fades like one side of a normal curve."""
    half = 2 * math.ceil(radius)
    along = torch.arange(half + 1)  # pixels from the middle
    weights = torch.exp(-(along**2) / (2 * deviation**2))
    rows, columns = (half + (part[:, None] * along).round().long() for part in (angles.deg2rad().sin(), angles.deg2rad().cos()))
    side = 2 * half + 1
    kernels = torch.zeros(len(angles), side * side)
    kernels.scatter_add_(1, rows * side + columns, (weights / weights.sum()).expand(len(angles), -1).contiguous())
    return kernels.view(-1, side, side)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Enlarges images around their middle; the size stays."""
    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
