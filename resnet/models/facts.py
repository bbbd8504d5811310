"""What can be said of a network without guessing: its sections, and how far its outputs see."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from resnet.models.attention import SqueezeExcitation
from resnet.models.blocks import Block, PreactBlock
from resnet.models.layers import StridedPointwiseConv
from resnet.models.resnet import ResNet
from resnet.models.shortcuts import ZeroPad

WHOLE = math.inf  # pixels: the whole image, however large
Seen = tuple[float, float]  # pixels a side that one output sees, pixels between neighbouring outputs
KEEPS_POSITION = (
    *(nn.Identity, nn.Flatten, nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.Dropout, nn.Dropout2d, ZeroPad),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Sigmoid, nn.PReLU),
)
WINDOWS = (nn.Conv2d, StridedPointwiseConv, nn.MaxPool2d, nn.AvgPool2d)
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def sections(model: nn.Module) -> dict[str, nn.Module]:
    """What the model says itself, one after another, else its children, in whatever order it calls them."""
    said = getattr(model, "sections", None)
    return dict(said()) if callable(said) else dict(model.named_children())


def watched(model: nn.Module) -> dict[str, nn.Module]:
    """The sections; of our networks each block of a stage for itself."""
    if not isinstance(model, ResNet):
        return sections(model)
    stages = {f"stages.{index}.{name}": block for index, stage in enumerate(model.stages) for name, block in stage.named_children()}
    return {"stem": model.stem, **stages, "head": model.head}


def receptive_fields(model: nn.Module) -> list[float | None]:
    """Pixels a side that one output of each section sees; None where a layer on the way to it is not known."""
    is_in_order = callable(getattr(model, "sections", None)) or type(model) is nn.Sequential
    seen: Seen | None = (1, 1) if is_in_order else None
    fields = []
    for module in sections(model).values():
        seen = receptive_field(module, seen)
        fields.append(None if seen is None else seen[0])
    return fields


def receptive_field(module: nn.Module, seen: Seen | None) -> Seen | None:
    """Behind the module, where `seen` is before it."""
    if seen is None or isinstance(module, Block):
        return seen and _behind_block(module, seen)
    if type(module) is nn.Sequential:
        return _along(module, seen)
    field, jump = seen
    if type(module) in WINDOWS:
        size, stride, dilation = (_side(getattr(module, name, 1)) for name in ("kernel_size", "stride", "dilation"))
        return (field + dilation * (size - 1) * jump, jump * stride) if size and stride and dilation else None
    if type(module) in POOLS:
        return (WHOLE, jump) if _side(module.output_size) == 1 else None
    if type(module) in (SqueezeExcitation, nn.Linear):
        return WHOLE, jump
    return seen if type(module) in KEEPS_POSITION else None


def _side(size: Any) -> int | None:
    """Of a square one."""
    sides = {size} if isinstance(size, int) else set(size)
    return sides.pop() if len(sides) == 1 else None


def _along(modules: Iterable[nn.Module], seen: Seen | None) -> Seen | None:
    for module in modules:
        seen = receptive_field(module, seen)
    return seen


def _behind_block(block: Any, seen: Seen) -> Seen | None:
    """The widest path. A block of one's own that computes otherwise is not known."""
    if type(block).forward not in (Block.forward, PreactBlock.forward):
        return None
    before = _along([block.norm, block.activation], seen) if type(block).forward is PreactBlock.forward else seen
    paths = [_along([block.residual, block.attention, block.activation], before)]
    if block.shortcut is not None:
        paths.append(receptive_field(block.shortcut, before))
    known = [path for path in paths if path is not None]
    same_jump = len({jump for _, jump in known}) == 1
    return max(known) if len(known) == len(paths) and same_jump else None
