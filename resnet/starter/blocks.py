"""A residual block of your own: `model.block=lab.blocks.ScaledBlock`."""

import torch
from torch import Tensor, nn

from resnet.models.blocks import Block
from resnet.models.layers import Layers


class ScaledBlock(Block):
    """x -> activation(scale * residual(x) + shortcut(x)), with a learned scale per channel (Touvron et al. 2021)."""

    def __init__(self, in_channels: int, width: int, stride: int, layers: Layers, drop_probability: float = 0.0) -> None:
        super().__init__(in_channels, width, stride, layers, drop_probability)
        self.branch_scale = nn.Parameter(torch.full((self.out_channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch_scale * self.attention(self.residual(x))
        if self.shortcut is not None:
            out = self.drop(out) + self.shortcut(x)
        return self.activation(out)
