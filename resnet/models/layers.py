"""The layers that all blocks of a network share: convolutions, normalisations, activations, shortcuts and attention."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnet.config.names import ACTIVATIONS, ATTENTIONS, NORMS, SHORTCUTS
from resnet.models.parts import Part, find_part


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network in its style. Each part is a name or a component, as in the config.

    `is_preactivation`: each block begins with a normalisation and an activation, so stems end without them and shortcuts have no
    normalisation.
    """

    norm_part: Any = "batch"
    activation_part: Any = "relu"
    shortcut_part: Any = "projection_3x3"
    attention_part: Any = "none"
    is_preactivation: bool = False
    is_in_shortcut: bool = False

    def conv(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
        """Keeps the size, or halves it with stride 2 (rounding up). Has a bias only if the network has no normalisation."""
        kind = StridedPointwiseConv if kernel_size == 1 and stride > 1 else nn.Conv2d
        return kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=self._norm.func is no_norm)

    def norm(self, channels: int) -> nn.Module:
        return nn.Identity() if self.is_in_shortcut and self.is_preactivation else self._norm(channels)

    def activation(self, inplace: bool = False) -> nn.Module:
        """`inplace`: nothing else uses the input, so ReLU may write into it if the normalisation before it is built-in."""
        if inplace and self._activation.func is nn.ReLU and self._norm.func in (nn.BatchNorm2d, group_norm):
            return nn.ReLU(inplace=True)
        return self._activation()

    def shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
        """Returns the identity if the shape stays the same, and None in a plain network."""
        keeps_shape = stride == 1 and in_channels == out_channels
        if keeps_shape and not getattr(self._shortcut.func, "stands_in_every_block", False):
            return nn.Identity()
        return self._shortcut(in_channels, out_channels, stride, replace(self, is_in_shortcut=True))  # type: ignore[no-any-return]

    def attention(self, channels: int) -> nn.Module:
        return self._attention(channels)  # type: ignore[no-any-return]

    @cached_property
    def _norm(self) -> Part:
        return find_part("norm", self.norm_part, NORMS)

    @cached_property
    def _activation(self) -> Part:
        return find_part("activation", self.activation_part, ACTIVATIONS)

    @cached_property
    def _shortcut(self) -> Part:
        return find_part("shortcut", self.shortcut_part, SHORTCUTS)

    @cached_property
    def _attention(self) -> Part:
        return find_part("attention", self.attention_part, ATTENTIONS)


class StridedPointwiseConv(nn.Conv2d):
    """A 1x1 convolution with a stride, computed with stride 1 on every stride-th pixel: the same function and parameters.

    oneDNN (3.12, its issue 6035) computes a wrong gradient of the strided convolution in channels_last, or writes past its memory and
    crashes.
    """

    def forward(self, x: Tensor) -> Tensor:
        subsampled = F.avg_pool2d(x, 1, self.stride)  # the mean of one pixel; as fast as the strided convolution, unlike a slice
        return F.conv2d(subsampled, self.weight, self.bias)


def group_norm(channels: int) -> nn.GroupNorm:
    """Wu and He 2018, with 8 groups, or fewer if 8 does not divide the channels."""
    return nn.GroupNorm(math.gcd(channels, 8), channels)


def no_norm(channels: int) -> nn.Identity:
    return nn.Identity()


def init_he(model: nn.Module) -> None:
    """He et al. 2015b: variance 2 / fan-out for the convolutions. Other layers keep PyTorch's initialisation."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
