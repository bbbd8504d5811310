"""The residual networks of He et al. 2015 and 2016 and their descendants: stem, stages and head. The defaults are for small images (section
4.2)."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from resnet.config.errors import UserError
from resnet.config.names import ACTIVATIONS, ANTI_ALIASES, ATTENTIONS, BLOCKS, NORMS, SHORTCUTS, STEMS
from resnet.models.layers import Layers, init_he, init_zero
from resnet.models.parts import Part, find_part


class ResNet(nn.Module):
    """Images (N, in_channels, H, W) -> class scores (N, num_classes). After the stem, images need at least 2 ** (stages - 1) pixels per
    side.

    `layers` is the number of blocks of each stage, `width` the number of channels of the stem. Stage i has stage_widths[i] channels, or
    else width * 2 ** i (times the block's expansion). Each stage after the first halves the image. `handed` is the number of positional
    arguments that each part gets besides its settings.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        layers: Annotated[Sequence[int], {"at_least": 1}] = (2, 2, 2),
        width: Annotated[int, {"at_least": 1}] = 16,
        stage_widths: Annotated[Sequence[int] | None, {"at_least": 1}] = None,
        groups: Annotated[int, {"at_least": 1}] = 1,
        width_per_group: Annotated[int, {"at_least": 1}] = 64,
        bottleneck_stride: Literal["1x1", "3x3"] = "1x1",
        block: Annotated[Any, {"names": BLOCKS, "handed": 5}] = "basic",
        shortcut: Annotated[Any, {"names": SHORTCUTS, "handed": 4}] = "projection_3x3",
        stem: Annotated[Any, {"names": STEMS, "handed": 3}] = "conv3x3",
        attention: Annotated[Any, {"names": ATTENTIONS, "handed": 1}] = "none",
        anti_alias: Annotated[Any, {"names": ANTI_ALIASES, "handed": 2}] = "none",
        norm: Annotated[Any, {"names": NORMS, "handed": 1}] = "batch",
        weight_standardization: bool = False,
        activation: Annotated[Any, {"names": ACTIVATIONS}] = "relu",
        init: Literal["he", "fixup", "default"] = "he",
        zero_init_residual: bool = False,
        residual_scale: float | None = None,
        stochastic_depth: Annotated[float, {"at_least": 0, "below": 1}] = 0.0,
        dropout: Annotated[float, {"at_least": 0, "below": 1}] = 0.0,
    ) -> None:
        super().__init__()
        kind = find_part("block", block, BLOCKS)
        style = Layers(
            norm_part=norm,
            activation_part=activation,
            shortcut_part=shortcut,
            attention_part=attention,
            anti_alias_part=anti_alias,
            groups=groups,
            width_per_group=width_per_group,
            bottleneck_stride=bottleneck_stride,
            weight_standardization=weight_standardization,
            residual_scale=residual_scale,
            is_preactivation=getattr(kind.func, "is_preactivation", False),
        )
        self.bottleneck_stride = bottleneck_stride  # which no name or shape of a parameter shows
        widths = stage_widths or [width * 2**index for index in range(len(layers))]
        self.stem = find_part("stem", stem, STEMS)(in_channels, width, style)
        self.stages = _make_stages(kind, layers, width, widths, style, stochastic_depth)
        out_channels = self.stages[-1][-1].out_channels  # type: ignore[index, union-attr]
        self.head = nn.Sequential(
            *([style.norm(out_channels), style.activation(inplace=True)] if style.is_preactivation else []),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(out_channels, num_classes),
        )
        if init != "default":
            init_he(self)
        if init == "fixup":
            self._call_each_block("init_fixup", f"model.init={init}", sum(layers))
            init_zero(self.head[-1])
        if zero_init_residual:
            self._call_each_block("zero_init_last", "model.zero_init_residual=true")

    def _call_each_block(self, method: str, given: str, *arguments: int) -> None:
        for block in (block for stage in self.stages for block in stage.children()):
            if not callable(found := getattr(block, method, None)):
                name = f"{type(block).__module__}.{type(block).__qualname__}"
                raise UserError(f"{given}: {name} has no method {method}; add it, or take another value")
            found(*arguments)

    def sections(self) -> dict[str, nn.Module]:
        """Returns the sections in order, from the image to the scores."""
        return {"stem": self.stem, **{f"stages.{index}": stage for index, stage in enumerate(self.stages)}, "head": self.head}

    def features(self, images: Tensor) -> list[Tensor]:
        """Returns the feature maps of the stem and of each stage, each (N, C, H, W)."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)[-1])  # type: ignore[no-any-return]


def _make_stages(
    kind: Part, layers: Sequence[int], in_channels: int, widths: Sequence[int], style: Layers, stochastic_depth: float
) -> nn.Sequential:
    stages: list[nn.Sequential] = []
    num_before = 0
    for index, (num_blocks, width) in enumerate(zip(layers, widths, strict=True)):
        blocks: list[Any] = []
        for position in range(num_blocks):
            stride = 2 if index > 0 and position == 0 else 1
            drop_probability = stochastic_depth * (num_before + position + 1) / sum(layers)
            blocks.append(kind(in_channels, width, stride, style, drop_probability))
            in_channels = _channels_of(kind, blocks[-1])
        stages.append(nn.Sequential(*blocks))
        num_before += num_blocks
    return nn.Sequential(*stages)


def _channels_of(kind: Part, block: nn.Module | None) -> int:
    channels = getattr(block, "out_channels", None)
    if not isinstance(channels, int):
        name = type(block).__name__
        raise UserError(f"{kind.given}: a {name} needs an attribute out_channels, the number of channels of what it returns")
    return channels
