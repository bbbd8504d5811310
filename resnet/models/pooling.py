"""Pooling beyond PyTorch's own: what `anti_alias` puts in the place of strides, and the pool of BiT's stem."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn


class BlurPool(nn.Module):
    """A binomial filter with a stride, over reflected borders. It removes what is too fine for the coarser grid (Zhang 2019).

    The filter is a repeated mean of two pixels, so it needs no weights.
    """

    def __init__(self, channels: int, stride: int, size: Annotated[int, {"at_least": 2}] = 3) -> None:
        """`size`: pixels per side of the filter."""
        super().__init__()
        self.kernel_size, self.stride = size, stride
        self.padding = [(size - 1) // 2, size // 2] * 2

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.padding, mode="reflect")
        for _ in range(self.kernel_size - 2):
            x = F.avg_pool2d(x, 2, 1)
        return F.avg_pool2d(x, 2, self.stride)


def no_anti_alias(channels: int, stride: int) -> nn.Identity:
    """The strides stay in the convolutions and pools."""
    return nn.Identity()


class ZeroPaddedMaxPool(nn.MaxPool2d):
    """Takes zeros for the pixels outside the image, as networks from TensorFlow do. They count where all others are negative."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, [self.padding] * 4), self.kernel_size, self.stride)  # type: ignore[list-item]
