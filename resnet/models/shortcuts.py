"""The shortcuts: options A, B and C of He et al. 2015, section 4.1, and the article's.

They are only called where the shape changes, except for those marked by `in_every_block`.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnet.models.layers import Layers


def in_every_block(shortcut: Callable[..., Any]) -> Callable[..., Any]:
    shortcut.stands_in_every_block = True  # type: ignore[attr-defined]
    return shortcut


class ZeroPad(nn.Module):
    """Option A, without parameters: takes every stride-th pixel, and adds zero channels, half of them before the old ones and half
    after."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, layers: Layers) -> None:
        super().__init__()
        new = out_channels - in_channels
        self.stride, self.before, self.after = stride, new // 2, new - new // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def projection_1x1(in_channels: int, out_channels: int, stride: int, layers: Layers) -> nn.Module:
    """Option B."""
    return _projection(in_channels, out_channels, 1, stride, layers)


def projection_3x3(in_channels: int, out_channels: int, stride: int, layers: Layers) -> nn.Module:
    """The article's shortcut."""
    return _projection(in_channels, out_channels, 3, stride, layers)


def pool_projection(in_channels: int, out_channels: int, stride: int, layers: Layers) -> nn.Module:
    """ResNet-D (He et al. 2019): average pooling has the stride, and a 1x1 convolution follows."""
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    norm = [] if layers.is_preactivation else [layers.norm(out_channels)]
    return nn.Sequential(pool, layers.conv(in_channels, out_channels, 1), *norm)


@in_every_block
def projection_all(in_channels: int, out_channels: int, stride: int, layers: Layers) -> nn.Module:
    """Option C."""
    return _projection(in_channels, out_channels, 1, stride, layers)


@in_every_block
def none(in_channels: int, out_channels: int, stride: int, layers: Layers) -> None:
    """No shortcut: a plain network."""


def _projection(in_channels: int, out_channels: int, kernel_size: int, stride: int, layers: Layers) -> nn.Module:
    conv = layers.conv(in_channels, out_channels, kernel_size, stride)
    return conv if layers.is_preactivation else nn.Sequential(conv, layers.norm(out_channels))
