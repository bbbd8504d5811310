"""Residual blocks, basic and bottleneck, in the original order (He et al. 2015) and with pre-activation (He et al. 2016)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from resnet.models.layers import Layers, init_zero


class Block(nn.Module):
    """x -> activation(residual_scale(attention(residual(x))) + shortcut(x)). Without a shortcut, as in a plain network, there is no sum."""

    expansion = 1  # output channels divided by width
    is_preactivation = False  # True if the block begins with a normalisation and an activation

    def __init__(self, in_channels: int, width: int, stride: int, layers: Layers, drop_probability: float = 0.0) -> None:
        super().__init__()
        self.out_channels = width * self.expansion
        self.residual = self.make_residual(in_channels, width, stride, layers)
        self.attention = layers.attention(self.out_channels)
        self.residual_scale = layers.scale()
        self.shortcut = layers.shortcut(in_channels, self.out_channels, stride)
        self.drop = make_drop(drop_probability)
        self.activation = layers.activation(inplace=True)

    def make_residual(self, in_channels: int, width: int, stride: int, layers: Layers) -> nn.Sequential:
        made: list[nn.Module] = []
        *inner, last = self.shapes(in_channels, width, stride, layers)
        for shape in inner:
            conv, smoothing = shape.conv(layers)
            made += [conv, layers.norm(shape.out_channels), layers.activation(inplace=True), *smoothing]
        conv, smoothing = last.conv(layers)
        return nn.Sequential(*made, conv, layers.norm(last.out_channels), *smoothing)  # the last activation comes after the sum

    def shapes(self, in_channels: int, width: int, stride: int, layers: Layers) -> Sequence["Shape"]:
        """Returns the shape of each convolution of the residual."""
        return [Shape(in_channels, width, 3, stride), Shape(width, width, 3)]

    def init_fixup(self, num_blocks: int) -> None:
        """Scales the first convolutions down by the number of blocks, and makes the last one zero (Zhang et al. 2019)."""
        *inner, last = [layer for layer in self.residual if isinstance(layer, nn.Conv2d)]
        for conv in inner:
            conv.weight.data *= num_blocks ** (-1 / (2 * len(inner)))
        init_zero(last)

    def zero_init_last(self) -> None:
        """Makes the block start as its shortcut (Goyal et al. 2017): zeroes its last normalisation, or its last convolution if there is
        none.
        """
        # A layer has no children, unlike an attention module that a custom block may add at the end.
        last = [layer for layer in self.residual if not [*layer.children()] and next(layer.parameters(), None) is not None][-1]
        init_zero(last)

    def forward(self, x: Tensor) -> Tensor:
        out = self.attention(self.residual(x))
        if self.shortcut is not None:
            out = self.drop(self.residual_scale(out)) + self.shortcut(x)
        return self.activation(out)  # type: ignore[no-any-return]


class Bottleneck(Block):
    expansion = 4

    def shapes(self, in_channels: int, width: int, stride: int, layers: Layers) -> Sequence["Shape"]:
        inner = layers.inner_width(width)
        first, second = (stride, 1) if layers.bottleneck_stride == "1x1" else (1, stride)
        three = Shape(inner, inner, 3, second, layers.groups)
        return [Shape(in_channels, inner, 1, first), three, Shape(inner, width * self.expansion, 1)]


class PreactBlock(Block):
    """x -> residual_scale(attention(residual(x))) + shortcut(x), with a normalisation and an activation before each convolution.

    A shortcut that changes the shape starts from the activated input, as in the authors' code, and has no normalisation.
    """

    is_preactivation = True

    def __init__(self, in_channels: int, width: int, stride: int, layers: Layers, drop_probability: float = 0.0) -> None:
        super().__init__(in_channels, width, stride, layers, drop_probability)
        self.norm = layers.norm(in_channels)

    def make_residual(self, in_channels: int, width: int, stride: int, layers: Layers) -> nn.Sequential:
        first, *rest = self.shapes(in_channels, width, stride, layers)
        conv, smoothing = first.conv(layers)
        made: list[nn.Module] = [conv]
        for shape in rest:
            made += [layers.norm(shape.in_channels), layers.activation(inplace=True), *smoothing]
            conv, smoothing = shape.conv(layers)
            made.append(conv)
        return nn.Sequential(*made, *smoothing)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.norm(x))
        out = self.attention(self.residual(activated))
        if self.shortcut is None:
            return out  # type: ignore[no-any-return]
        out = self.drop(self.residual_scale(out))
        return out + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated))  # type: ignore[no-any-return]


class PreactBottleneck(PreactBlock):
    expansion = Bottleneck.expansion
    shapes = Bottleneck.shapes


@dataclass(frozen=True)
class Shape:
    """A convolution of a residual branch."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    groups: int = 1

    def conv(self, layers: Layers) -> tuple[nn.Module, list[nn.Module]]:
        """Returns the convolution, and what follows its activation instead of its stride."""
        stride, smoothing = layers.downsampling(self.out_channels, self.stride)
        return layers.conv(self.in_channels, self.out_channels, self.kernel_size, stride, self.groups), smoothing


def make_drop(probability: float) -> nn.Module:
    """Returns stochastic depth (Huang et al. 2016): it drops the residual of whole images during training."""
    if probability == 0:
        return nn.Identity()
    from torchvision.ops import StochasticDepth  # takes seconds to import

    return StochasticDepth(probability, "row")
