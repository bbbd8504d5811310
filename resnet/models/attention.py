"""Channel attention, at the end of each residual branch."""

import math
from typing import Annotated

from torch import Tensor, nn


def none(channels: int) -> nn.Identity:
    return nn.Identity()


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a weight in 0..1 that depends on the means of all channels (Hu et al. 2018)."""

    def __init__(
        self, channels: int, reduction: Annotated[int, {"at_least": 1}] = 16, divisor: Annotated[int, {"at_least": 1}] = 1
    ) -> None:
        """`reduction`: channels divided by hidden units. Their number is rounded to a multiple of `divisor`, and is not below it; timm's
        is 8."""
        super().__init__()
        hidden = max((channels // reduction + divisor // 2) // divisor * divisor, divisor)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.weights = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weights(self.squeeze(x))  # (N, C, 1, 1)
        return x * weights


class EfficientChannelAttention(nn.Module):
    """Multiplies each channel by a weight in 0..1 that depends on the means of its neighbours in the order of channels (Wang et al. 2020).

    The number of neighbours grows with the logarithm of the number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)
        size = max(size + 1 - size % 2, 3)  # odd
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.conv(x.mean((2, 3))[:, None]).sigmoid()  # (N, 1, C)
        return x * weights[:, 0, :, None, None]
