"""The choices inside a block, by the short names of the config: activation, normalisation, initialisation."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


def make_activation(name: str, norm: str) -> nn.Module:
    """ReLU works in place behind a normalisation, whose output nobody else holds: less memory to write."""
    kinds = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    return nn.ReLU(inplace=norm != "none") if name == "relu" else kinds[name]()


def make_norm(name: str, channels: int) -> nn.Module:
    """Group normalisation (Wu and He 2018) takes 8 groups, or as many of them as divide the channels."""
    if name == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if name == "batch" else nn.GroupNorm(math.gcd(channels, 8), channels)


class StridedPointwiseConv(nn.Conv2d):
    """A 1x1 convolution with a stride, computed as one with stride 1 on every stride-th pixel: the same function and parameters.

    oneDNN (3.12, its issue 6035) computes the gradient of the strided one wrongly in channels_last, or writes past its memory and crashes.
    """

    def forward(self, x: Tensor) -> Tensor:
        kept = F.avg_pool2d(x, 1, self.stride)  # the mean of one pixel; unlike a slice it is as fast as the strided convolution
        return F.conv2d(kept, self.weight, self.bias)


def make_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: str) -> nn.Conv2d:
    """Keeps the size, or halves it with stride 2 (rounding up); has a bias only where no normalisation brings one."""
    kind = StridedPointwiseConv if kernel_size == 1 and stride > 1 else nn.Conv2d
    return kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=norm == "none")


def init_he(model: nn.Module) -> None:
    """He et al. 2015b: variance 2 / fan-out for the convolutions; PyTorch's own start for the rest."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
