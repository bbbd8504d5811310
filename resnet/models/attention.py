"""Channel attention, at the end of each residual branch."""

from typing import Annotated

from torch import Tensor, nn


def none(channels: int) -> nn.Identity:
    return nn.Identity()


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a weight in 0..1 that depends on the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: Annotated[int, {"at_least": 1}] = 16) -> None:
        """`reduction`: channels divided by hidden units; there is at least one hidden unit."""
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.weights = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weights(self.squeeze(x))  # (N, C, 1, 1)
        return x * weights
