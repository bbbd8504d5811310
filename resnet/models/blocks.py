"""Residual blocks: the original order (He et al. 2015) and pre-activation (He et al. 2016), basic and bottleneck."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from resnet.models.layers import make_activation, make_conv, make_norm
from resnet.models.shortcuts import make_shortcut


@dataclass(frozen=True)
class Style:
    """What all blocks of a network share."""

    shortcut: str
    activation: str
    norm: str


class Block(nn.Module):
    """x -> activation(residual(x) + shortcut(x)); a plain network's block (no shortcut) leaves out the sum."""

    expansion = 1  # output channels over width

    def __init__(self, in_channels: int, width: int, stride: int, style: Style, drop_probability: float = 0.0) -> None:
        super().__init__()
        self.out_channels = width * self.expansion
        self.residual = self.make_residual(in_channels, width, stride, style)
        self.shortcut = self.make_shortcut(in_channels, stride, style)
        self.drop = make_drop(drop_probability)
        self.activation = make_activation(style.activation, style.norm)

    def make_residual(self, in_channels: int, width: int, stride: int, style: Style) -> nn.Sequential:
        shapes = self.conv_shapes(in_channels, width, stride)
        layers = [layer for shape in shapes for layer in _conv_norm_activation(*shape, style)]
        return nn.Sequential(*layers[:-1])  # the last activation comes after the sum

    def make_shortcut(self, in_channels: int, stride: int, style: Style) -> nn.Module | None:
        return make_shortcut(style.shortcut, in_channels, self.out_channels, stride, style.norm)

    def conv_shapes(self, in_channels: int, width: int, stride: int) -> Sequence[tuple[int, int, int, int]]:
        """(in_channels, out_channels, kernel_size, stride) of each convolution of the residual."""
        return [(in_channels, width, 3, stride), (width, width, 3, 1)]

    def zero_init_residual(self) -> None:
        """Makes the block start as its shortcut (Goyal et al. 2017): its last layer with parameters gives zero."""
        last = [layer for layer in self.residual if next(layer.parameters(), None) is not None][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        if self.shortcut is not None:
            out = self.drop(out) + self.shortcut(x)
        return self.activation(out)


class Bottleneck(Block):
    expansion = 4

    def conv_shapes(self, in_channels: int, width: int, stride: int) -> Sequence[tuple[int, int, int, int]]:
        return [(in_channels, width, 1, stride), (width, width, 3, 1), (width, width * self.expansion, 1, 1)]


class PreactBlock(Block):
    """x -> residual(x) + shortcut(x), each convolution after its normalisation and activation.

    A shortcut that changes the shape starts from the activated input, as in the authors' code, and has no normalisation.
    """

    def __init__(self, in_channels: int, width: int, stride: int, style: Style, drop_probability: float = 0.0) -> None:
        super().__init__(in_channels, width, stride, style, drop_probability)
        self.norm = make_norm(style.norm, in_channels)

    def make_residual(self, in_channels: int, width: int, stride: int, style: Style) -> nn.Sequential:
        first, *rest = self.conv_shapes(in_channels, width, stride)
        layers = [layer for shape in rest for layer in _norm_activation_conv(*shape, style)]
        return nn.Sequential(make_conv(*first, style.norm), *layers)

    def make_shortcut(self, in_channels: int, stride: int, style: Style) -> nn.Module | None:
        shortcut = super().make_shortcut(in_channels, stride, style)
        return shortcut[0] if isinstance(shortcut, nn.Sequential) else shortcut

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.norm(x))
        out = self.residual(activated)
        if self.shortcut is None:
            return out
        return self.drop(out) + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated))


class PreactBottleneck(PreactBlock):
    expansion = Bottleneck.expansion
    conv_shapes = Bottleneck.conv_shapes


BLOCKS: dict[str, type[Block]] = {
    "basic": Block,
    "bottleneck": Bottleneck,
    "preact_basic": PreactBlock,
    "preact_bottleneck": PreactBottleneck,
}


def make_drop(probability: float) -> nn.Module:
    """Stochastic depth (Huang et al. 2016): drops the residual of whole images while training."""
    if probability == 0:
        return nn.Identity()
    from torchvision.ops import StochasticDepth  # takes seconds to import

    return StochasticDepth(probability, "row")


def _conv_norm_activation(in_channels: int, out_channels: int, kernel_size: int, stride: int, style: Style) -> list[nn.Module]:
    conv = make_conv(in_channels, out_channels, kernel_size, stride, style.norm)
    return [conv, make_norm(style.norm, out_channels), make_activation(style.activation, style.norm)]


def _norm_activation_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int, style: Style) -> list[nn.Module]:
    conv = make_conv(in_channels, out_channels, kernel_size, stride, style.norm)
    return [make_norm(style.norm, in_channels), make_activation(style.activation, style.norm), conv]
