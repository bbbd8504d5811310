"""The layers that all blocks of a network share: convolutions, normalisations, activations, shortcuts and attention."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet.config.errors import UserError
from resnet.config.names import ACTIVATIONS, ANTI_ALIASES, ATTENTIONS, NORMS, SHORTCUTS
from resnet.models.parts import Part, find_part
from resnet.models.pooling import ZeroPaddedMaxPool, no_anti_alias


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
    anti_alias_part: Any = "none"
    groups: int = 1
    width_per_group: int = 64
    bottleneck_stride: str = "1x1"
    weight_standardization: bool = False
    residual_scale: float | None = None
    is_preactivation: bool = False
    is_in_shortcut: bool = False

    def conv(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """Keeps the size, or halves it with stride 2 (rounding up). Has a bias only if the network has no normalisation."""
        strided = StridedPointwiseConv if kernel_size == 1 and stride > 1 else nn.Conv2d
        kind = StandardizedConv if self.weight_standardization else strided
        has_bias = self._norm.func is no_norm
        return kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=has_bias)

    def downsampling(self, channels: int, stride: int) -> tuple[int, list[nn.Module]]:
        """Returns the stride of a residual branch's convolution, and what follows its activation. With anti-aliasing the convolution keeps
        the size, and the layer after it has the stride (Zhang 2019)."""
        if stride == 1 or self._anti_alias.func is no_anti_alias:
            return stride, []
        return 1, [self._anti_alias(channels, stride)]

    def max_pool(self, channels: int, is_zero_padded: bool = False) -> nn.Module:
        """Halves the size (rounding up)."""
        stride, smoothing = self.downsampling(channels, 2)
        pool = (ZeroPaddedMaxPool if is_zero_padded else nn.MaxPool2d)(3, stride, 1)
        return nn.Sequential(pool, *smoothing) if smoothing else pool

    def inner_width(self, width: int) -> int:
        """Returns the channels of a bottleneck's 3x3 convolution: `groups` times width * width_per_group / 64, as torchvision has it."""
        inner = width * self.width_per_group // 64 * self.groups
        if inner == 0:
            raise UserError(f"model.width_per_group={self.width_per_group}: less than one channel per group for a stage of width {width}")
        return inner

    def scale(self) -> nn.Module:
        return nn.Identity() if self.residual_scale is None else Scale(self.residual_scale)

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

    @cached_property
    def _anti_alias(self) -> Part:
        return find_part("anti_alias", self.anti_alias_part, ANTI_ALIASES)


class StridedPointwiseConv(nn.Conv2d):
    """A 1x1 convolution with a stride, computed with stride 1 on every stride-th pixel: the same function and parameters.

    oneDNN (3.12, its issue 6035) computes a wrong gradient of the strided convolution in channels_last, or writes past its memory and
    crashes.
    """

    def forward(self, x: Tensor) -> Tensor:
        subsampled = F.avg_pool2d(x, 1, self.stride)  # the mean of one pixel; as fast as the strided convolution, unlike a slice
        return F.conv2d(subsampled, self.weight, self.bias)


class StandardizedConv(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 in each output channel (Qiao et al. 2019). A 1x1 convolution with a stride
    subsamples first, as `StridedPointwiseConv` does."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-8)  # BiT's epsilon (Kolesnikov et al. 2020)
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            return F.conv2d(F.avg_pool2d(x, 1, self.stride), weight, self.bias)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scale(nn.Module):
    """Multiplies by one learned number."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([float(start)]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def group_norm(channels: int, groups: Annotated[int, {"at_least": 1}] = 8) -> nn.GroupNorm:
    """Wu and He 2018. Where `groups` does not divide the channels, their greatest common divisor is taken."""
    return nn.GroupNorm(math.gcd(channels, groups), channels)


def no_norm(channels: int) -> nn.Identity:
    return nn.Identity()


def init_he(model: nn.Module) -> None:
    """He et al. 2015b: variance 2 / fan-out for the convolutions. Other layers keep PyTorch's initialisation."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
