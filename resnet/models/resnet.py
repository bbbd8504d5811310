"""The residual networks for small images: He et al. 2015, section 4.2, and He et al. 2016; stem, stages, head."""

from collections.abc import Sequence

from torch import Tensor, nn

from resnet.models.blocks import BLOCKS, Block, PreactBlock, Style
from resnet.models.layers import init_he, make_activation, make_conv, make_norm


class ResNet(nn.Module):
    """Images (N, in_channels, H, W) -> class scores (N, num_classes), at any size of at least 2 ** (stages - 1) pixels.

    `layers` is the number of blocks of each stage. Stage i has width * 2 ** i channels (times the block's expansion); each stage
    after the first halves the image.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        layers: Sequence[int],
        width: int = 16,
        block: str = "basic",
        shortcut: str = "projection_1x1",
        activation: str = "relu",
        norm: str = "batch",
        init: str = "he",
        zero_init_residual: bool = False,
        stochastic_depth: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        style = Style(shortcut, activation, norm)
        kind = BLOCKS[block]
        preact = issubclass(kind, PreactBlock)
        stem = make_conv(in_channels, width, 3, 1, norm)
        self.stem = stem if preact else nn.Sequential(stem, make_norm(norm, width), make_activation(activation, norm))
        self.stages = _make_stages(kind, layers, width, style, stochastic_depth)
        out_channels = width * 2 ** (len(layers) - 1) * kind.expansion
        self.head = nn.Sequential(
            *([make_norm(norm, out_channels), make_activation(activation, norm)] if preact else []),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(out_channels, num_classes),
        )
        self._init_parameters(init, zero_init_residual)

    def _init_parameters(self, init: str, zero_init_residual: bool) -> None:
        if init == "he":
            init_he(self)
        for module in self.modules():
            if zero_init_residual and isinstance(module, Block):
                module.zero_init_residual()

    def features(self, images: Tensor) -> list[Tensor]:
        """The feature maps of the stem and of each stage, (N, C, H, W) each."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)[-1])


def _make_stages(kind: type[Block], layers: Sequence[int], width: int, style: Style, stochastic_depth: float) -> nn.Sequential:
    stages: list[nn.Sequential] = []
    in_channels, num_before = width, 0
    for index, num_blocks in enumerate(layers):
        blocks = []
        for position in range(num_blocks):
            stride = 2 if index > 0 and position == 0 else 1
            drop_probability = stochastic_depth * (num_before + position + 1) / sum(layers)
            blocks.append(kind(in_channels, width * 2**index, stride, style, drop_probability))
            in_channels = blocks[-1].out_channels
        stages.append(nn.Sequential(*blocks))
        num_before += num_blocks
    return nn.Sequential(*stages)
