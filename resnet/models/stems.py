"""The layers before the first block. Before pre-activation blocks they end without a normalisation and an activation."""

from torch import nn

from resnet.models.layers import Layers


def conv3x3(in_channels: int, width: int, layers: Layers) -> nn.Module:
    """For small images: He et al. 2015, section 4.2."""
    conv = layers.conv(in_channels, width, 3)
    return conv if layers.is_preactivation else nn.Sequential(conv, layers.norm(width), layers.activation(inplace=True))


def conv7x7_pool(in_channels: int, width: int, layers: Layers) -> nn.Module:
    """For ImageNet: He et al. 2015, section 4.1. Divides height and width by 4."""
    return nn.Sequential(*_last(layers.conv(in_channels, width, 7, 2), width, layers), layers.max_pool(width))


def bit(in_channels: int, width: int, layers: Layers) -> nn.Module:
    """`conv7x7_pool` with zeros around the image in its pool, as the networks of BiT have it (Kolesnikov et al. 2020)."""
    return nn.Sequential(*_last(layers.conv(in_channels, width, 7, 2), width, layers), layers.max_pool(width, is_zero_padded=True))


def deep(in_channels: int, width: int, layers: Layers) -> nn.Module:
    """ResNet-C and D (He et al. 2019): three 3x3 convolutions instead of one 7x7. Divides height and width by 4."""
    half = max(width // 2, 1)
    first, second = layers.conv(in_channels, half, 3, 2), layers.conv(half, half, 3)
    hidden = [layer for conv in (first, second) for layer in (conv, layers.norm(half), layers.activation(inplace=True))]
    return nn.Sequential(*hidden, *_last(layers.conv(half, width, 3), width, layers), layers.max_pool(width))


def _last(conv: nn.Module, width: int, layers: Layers) -> list[nn.Module]:
    return [conv] if layers.is_preactivation else [conv, layers.norm(width), layers.activation(inplace=True)]
