"""Residual blocks, basic and bottleneck, in the original order (He et al. 2015) and with pre-activation (He et al. 2016)."""

from collections.abc import Sequence

from torch import Tensor, nn

from resnet.models.layers import Layers


class Block(nn.Module):
    """x -> activation(attention(residual(x)) + shortcut(x)). Without a shortcut, as in a plain network, there is no sum."""

    expansion = 1  # output channels divided by width
    is_preactivation = False  # True if the block begins with a normalisation and an activation

    def __init__(self, in_channels: int, width: int, stride: int, layers: Layers, drop_probability: float = 0.0) -> None:
        super().__init__()
        self.out_channels = width * self.expansion
        self.residual = self.make_residual(in_channels, width, stride, layers)
        self.attention = layers.attention(self.out_channels)
        self.shortcut = layers.shortcut(in_channels, self.out_channels, stride)
        self.drop = make_drop(drop_probability)
        self.activation = layers.activation(inplace=True)

    def make_residual(self, in_channels: int, width: int, stride: int, layers: Layers) -> nn.Sequential:
        made: list[nn.Module] = []
        for shape in self.conv_shapes(in_channels, width, stride):
            made += [layers.conv(*shape), layers.norm(shape[1]), layers.activation(inplace=True)]
        return nn.Sequential(*made[:-1])  # the last activation comes after the sum

    def conv_shapes(self, in_channels: int, width: int, stride: int) -> Sequence[tuple[int, int, int, int]]:
        """Returns (in_channels, out_channels, kernel_size, stride) of each convolution of the residual."""
        return [(in_channels, width, 3, stride), (width, width, 3, 1)]

    def zero_init_last(self) -> None:
        """Makes the block start as its shortcut (Goyal et al. 2017): zeroes its last normalisation, or its last convolution if there is
        none.
        """
        # A layer has no children, unlike an attention module that a custom block may add at the end.
        last = [layer for layer in self.residual if not [*layer.children()] and next(layer.parameters(), None) is not None][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        out = self.attention(self.residual(x))
        if self.shortcut is not None:
            out = self.drop(out) + self.shortcut(x)
        return self.activation(out)  # type: ignore[no-any-return]


class Bottleneck(Block):
    expansion = 4

    def conv_shapes(self, in_channels: int, width: int, stride: int) -> Sequence[tuple[int, int, int, int]]:
        return [(in_channels, width, 1, stride), (width, width, 3, 1), (width, width * self.expansion, 1, 1)]


class PreactBlock(Block):
    """x -> attention(residual(x)) + shortcut(x), with a normalisation and an activation before each convolution.

    A shortcut that changes the shape starts from the activated input, as in the authors' code, and has no normalisation.
    """

    is_preactivation = True

    def __init__(self, in_channels: int, width: int, stride: int, layers: Layers, drop_probability: float = 0.0) -> None:
        super().__init__(in_channels, width, stride, layers, drop_probability)
        self.norm = layers.norm(in_channels)

    def make_residual(self, in_channels: int, width: int, stride: int, layers: Layers) -> nn.Sequential:
        first, *rest = self.conv_shapes(in_channels, width, stride)
        made: list[nn.Module] = [layers.conv(*first)]
        for shape in rest:
            made += [layers.norm(shape[0]), layers.activation(inplace=True), layers.conv(*shape)]
        return nn.Sequential(*made)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.norm(x))
        out = self.attention(self.residual(activated))
        if self.shortcut is None:
            return out  # type: ignore[no-any-return]
        return self.drop(out) + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated))  # type: ignore[no-any-return]


class PreactBottleneck(PreactBlock):
    expansion = Bottleneck.expansion
    conv_shapes = Bottleneck.conv_shapes


def make_drop(probability: float) -> nn.Module:
    """Returns stochastic depth (Huang et al. 2016): it drops the residual of whole images during training."""
    if probability == 0:
        return nn.Identity()
    from torchvision.ops import StochasticDepth  # takes seconds to import

    return StochasticDepth(probability, "row")
