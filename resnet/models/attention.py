"""What stands at the end of each residual branch and weighs its channels."""

from typing import Annotated

from torch import Tensor, nn


def none(channels: int) -> nn.Identity:
    return nn.Identity()


class SqueezeExcitation(nn.Module):
    """Hu et al. 2018: each channel times a weight in 0..1 that depends on the means of all channels."""

    def __init__(self, channels: int, reduction: Annotated[int, {"at_least": 1}] = 16) -> None:
        """`reduction`: channels over hidden units, of which there is at least one."""
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.weights = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weights(self.squeeze(x))  # (N, C, 1, 1)
        return x * weights
