"""Facts about a network that are known for certain: its sections and their receptive fields, and its classifier."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from resnet.config.errors import UserError
from resnet.models.attention import EfficientChannelAttention, SqueezeExcitation
from resnet.models.blocks import Block, PreactBlock
from resnet.models.layers import Scale, StandardizedConv, StridedPointwiseConv
from resnet.models.pooling import BlurPool, ZeroPaddedMaxPool
from resnet.models.resnet import ResNet
from resnet.models.shortcuts import ZeroPad

CLASSIFIER = "classifier"
WHOLE = math.inf  # pixels; the whole image, whatever its size
Seen = tuple[float, float]  # receptive field in pixels per side, and pixels between neighbouring outputs
KEEPS_POSITION = (
    *(nn.Identity, nn.Flatten, nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.Dropout, nn.Dropout2d, Scale),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Sigmoid, nn.PReLU),
)
WINDOWS = (nn.Conv2d, StridedPointwiseConv, StandardizedConv, BlurPool, nn.MaxPool2d, ZeroPaddedMaxPool, nn.AvgPool2d, ZeroPad)
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def sections(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the sections that the model declares, in order; else its children, which it may call in any order."""
    said = getattr(model, "sections", None)
    if not callable(said):
        return dict(model.named_children())
    found = said()
    if not isinstance(found, dict) or not all(isinstance(section, nn.Module) for section in found.values()):
        raise UserError(
            f"model: sections() of {type(model).__name__} gives a {type(found).__name__}; a dict of names and modules is needed"
        )
    return found


def watched(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the sections. For our networks, each block of a stage is separate."""
    if not isinstance(model, ResNet):
        return sections(model)
    stages = {f"stages.{index}.{name}": block for index, stage in enumerate(model.stages) for name, block in stage.named_children()}
    return {"stem": model.stem, **stages, "head": model.head}


def classifier_of(model: nn.Module) -> str | None:
    """Returns the path of the last linear layer, which gives the class scores of all common networks."""
    return next((name for name, module in [*model.named_modules()][::-1] if isinstance(module, nn.Linear)), None)


def path_of(match: str, model: nn.Module) -> str:
    """Returns the classifier's path for the word `classifier`, unless the model has a part of that name, and else the match as it is."""
    is_word = match == CLASSIFIER and CLASSIFIER not in dict(model.named_modules())
    return (classifier_of(model) if is_word else None) or match


def receptive_fields(model: nn.Module) -> list[float | None]:
    """Returns the receptive field of each section's outputs in pixels per side, or None if a layer before them is unknown."""
    is_in_order = callable(getattr(model, "sections", None)) or type(model) is nn.Sequential
    seen: Seen | None = (1, 1) if is_in_order else None
    fields = []
    for module in sections(model).values():
        seen = receptive_field(module, seen)
        fields.append(None if seen is None else seen[0])
    return fields


def receptive_field(module: nn.Module, seen: Seen | None) -> Seen | None:
    """Returns the receptive field after the module; `seen` is the one before it."""
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
    if type(module) in (SqueezeExcitation, EfficientChannelAttention, nn.Linear):
        return WHOLE, jump
    return seen if type(module) in KEEPS_POSITION else None


def _side(size: Any) -> int | None:
    """Returns the side of a square size, or None if it is not square."""
    sides = {size} if isinstance(size, int) else set(size)
    return sides.pop() if len(sides) == 1 else None


def _along(modules: Iterable[nn.Module], seen: Seen | None) -> Seen | None:
    for module in modules:
        seen = receptive_field(module, seen)
    return seen


def _behind_block(block: Any, seen: Seen) -> Seen | None:
    """Returns the widest path through a block, or None for a custom block with its own `forward`."""
    if type(block).forward not in (Block.forward, PreactBlock.forward):
        return None
    before = _along([block.norm, block.activation], seen) if type(block).forward is PreactBlock.forward else seen
    paths = [_along([block.residual, block.attention, block.activation], before)]
    if block.shortcut is not None:
        paths.append(receptive_field(block.shortcut, before))
    known = [path for path in paths if path is not None]
    same_jump = len({jump for _, jump in known}) == 1
    return max(known) if len(known) == len(paths) and same_jump else None
