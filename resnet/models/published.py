"""The names that public networks give to the layers of ours.

| names | networks |
| --- | --- |
| `conv1`, `layer1.0.bn2`, `downsample.0`, `se.fc1`, `fc` | torchvision's and timm's ResNets; chenyaofo/pytorch-cifar-models |
| the same with `shortcut.0`, `linear` | akamaster/pytorch_resnet_cifar10 |
| `stem.conv`, `stages.0.blocks.0.norm1`, `downsample.conv`, `head.fc` | timm's ResNetV2, with BiT |
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from torch import Tensor, nn

from resnet.models.attention import EfficientChannelAttention, SqueezeExcitation
from resnet.models.blocks import Block, PreactBlock
from resnet.models.resnet import ResNet

Pairs = Iterator[tuple[str, str]]  # their name of a layer, and ours
OF_BOTTLENECKS = re.compile(r"(layer\d+\.\d+|stages\.\d+\.blocks\.\d+)\.conv3\.weight")  # a name that only bottlenecks have
# The first convolution of networks for ImageNet, and its size.
OF_IMAGENET = {"conv1.weight": 7, "conv1.0.weight": 3, "stem.conv.weight": 7, "stem.conv1.weight": 3}


def their_layers(model: ResNet) -> dict[str, str]:
    """Maps every public name of a layer to ours."""
    return {**dict(_as_resnet(model)), **dict(_as_resnet_v2(model)), "linear": _head(model)}


def torchvision_names(model: ResNet) -> dict[str, str]:
    """Maps our name of each layer to torchvision's."""
    return {ours: theirs for theirs, ours in _as_resnet(model) if ".shortcut." not in theirs}


def _as_resnet(model: ResNet) -> Pairs:
    convs, norms = _weighted(model.stem, "stem")
    yield from zip(["conv1"] if len(convs) == 1 else ["conv1.0", "conv1.3", "conv1.6"], convs, strict=False)
    yield from zip(["bn1"] if len(convs) == 1 else ["conv1.1", "conv1.4", "bn1"], norms, strict=False)
    for stage, position, block, ours in _blocks(model):
        theirs = f"layer{stage + 1}.{position}"
        yield from _of_block(block, theirs, ours, "bn")
        for index, child in enumerate(block.shortcut.children() if block.shortcut else ()):
            if any(True for _ in child.parameters()):
                yield from ((f"{theirs}.{name}.{index}", f"{ours}.shortcut.{index}") for name in ("shortcut", "downsample"))
    yield "fc", _head(model)


def _as_resnet_v2(model: ResNet) -> Pairs:
    convs, norms = _weighted(model.stem, "stem")
    numbers = [""] if len(convs) == 1 else ["1", "2", "3"]
    yield from zip((f"stem.conv{number}" for number in numbers), convs, strict=False)
    yield from zip((f"stem.norm{number}" for number in numbers), norms, strict=False)
    for stage, position, block, ours in _blocks(model):
        theirs = f"stages.{stage}.blocks.{position}"
        yield from _of_block(block, theirs, ours, "norm")
        convs, norms = _weighted(block.shortcut, f"{ours}.shortcut") if block.shortcut else ([], [])
        yield from zip([f"{theirs}.downsample.conv", f"{theirs}.downsample.norm"], [*convs, *norms], strict=False)
    yield "norm", "head.0"
    yield "head.fc", _head(model)


def _of_block(block: Block, theirs: str, ours: str, norm: str) -> Pairs:
    convs, norms = _weighted(block.residual, f"{ours}.residual")
    norms = [f"{ours}.norm", *norms] if isinstance(block, PreactBlock) else norms
    yield from _numbered(f"{theirs}.conv", convs)
    yield from _numbered(f"{theirs}.{norm}", norms)
    if isinstance(block.attention, SqueezeExcitation):
        yield from ((f"{theirs}.se.fc1", f"{ours}.attention.weights.0"), (f"{theirs}.se.fc2", f"{ours}.attention.weights.2"))
    if isinstance(block.attention, EfficientChannelAttention):
        yield f"{theirs}.se.conv", f"{ours}.attention.conv"


def _numbered(name: str, layers: Iterable[str]) -> Pairs:
    yield from ((f"{name}{number}", layer) for number, layer in enumerate(layers, 1))


def _blocks(model: ResNet) -> Iterator[tuple[int, int, Block, str]]:
    for stage, blocks in enumerate(model.stages.children()):
        for position, block in enumerate(blocks.children()):
            if isinstance(block, Block):  # other blocks have names of their own alone
                yield stage, position, block, f"stages.{stage}.{position}"


def _weighted(module: nn.Module, path: str) -> tuple[list[str], list[str]]:
    """Returns the paths of the convolutions, and those of the other layers with parameters, in order."""
    own = [(path + (name and f".{name}"), layer) for name, layer in module.named_modules() if [*layer.parameters(recurse=False)]]
    convs = [name for name, layer in own if isinstance(layer, nn.Conv2d)]
    return convs, [name for name, _ in own if name not in convs]


def _head(model: ResNet) -> str:
    return f"head.{len(model.head) - 1}"


def advice_for(weights: Mapping[str, Tensor], expected: Collection[str]) -> str:
    """Says what to set for weights that do not fit. `expected`: the names in the model."""
    advice = "set model.block, model.layers, model.width, model.shortcut and model.norm, and data of as many classes, as the weights have"
    in_file, in_model = (any(re.search(r"\.(shortcut|downsample)\.", name) for name in names) for names in (weights, expected))
    if in_file and not in_model:
        advice += "; the file has projection shortcuts: model.shortcut=projection_1x1"
    if in_model and not in_file:
        advice += "; the file has no projection shortcuts: model.shortcut=zero_pad"
    return advice + _seen_in(weights)


def _seen_in(weights: Mapping[str, Tensor]) -> str:
    """Returns the main settings of the network that torchvision's names show."""
    blocks = {match.groups() for name in weights if (match := re.match(r"layer(\d+)\.(\d+)\.", name))}
    if not blocks or "bn1.weight" not in weights:
        return ""
    layers = ",".join(str(number) for _, number in sorted(Counter(int(stage) for stage, _ in blocks).items()))
    kind = "bottleneck" if any(map(OF_BOTTLENECKS.fullmatch, weights)) else "basic"
    return f"; the file's names are of model.layers=[{layers}] model.block={kind} model.width={len(weights['bn1.weight'])}"
