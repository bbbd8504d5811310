"""Reads weights from a file and fits them to a model. A ResNet also accepts the names of public networks."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet.config.groups import is_in
from resnet.config.names import HUB
from resnet.config.suggest import nearest
from resnet.models.facts import classifier_of, path_of
from resnet.models.published import OF_BOTTLENECKS, OF_IMAGENET, advice_for, their_layers
from resnet.models.resnet import ResNet

HELD = ("average", "model_ema", "state_dict_ema", "model", "state_dict")  # keys of a checkpoint with a state dict; averaged ones first


class WeightsError(Exception):
    """The weights do not fit. The message lists the names and shapes that do not match, and what to do."""


@dataclass(frozen=True)
class Fitted:
    """All tensors that a model needs, under its own names, and what was not taken from the file as it is there."""

    tensors: dict[str, Tensor]
    notes: list[str]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a .safetensors file or a torch file with a state dict, or with a checkpoint that holds one. Prefers averaged weights."""
    # Data-parallel, averaged and compiled models add prefixes to the network's names.
    weights = {
        re.sub(r"^((module|_orig_mod)\.)+", "", name): value
        for name, value in _state_dict(_open(path)).items()
        if isinstance(name, str) and is_dense(value) and name != "n_averaged"  # AveragedModel's counter
    }
    if not weights:
        raise WeightsError(f"{path} holds no weights: give a state dict, or a checkpoint with one under 'state_dict' or 'model'")
    return weights


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], skip: Sequence[str] = ()) -> Fitted:
    """Fits weights to a model. What `skip` names (the path of a module, `classifier`, or a shell pattern) keeps the model's own values.

    So does a classifier of another number of classes. A first convolution for colour takes gray images, and one for gray takes colour.

    Raises:
        WeightsError: a name or a shape does not fit, or the file is of another network with the same shapes.
    """
    expected, sources = model.state_dict(), _sources(model, weights)
    found = {name: weights[source] for name, source in sources.items()}
    notes = [*_skipped(found, expected, model, skip), *_with_classifier(found, expected, model), *_with_channels(found, expected, model)]
    # PyTorch before 0.4.1 saved no count of batches; nothing that we compute depends on it.
    counts = {name: torch.tensor(0) for name in expected if name.endswith(".num_batches_tracked")}
    fitted = counts | {name: found[name] for name in expected if name in found}
    shapes = {name: (tuple(fitted[name].shape), tuple(expected[name].shape)) for name in expected if name in fitted}
    used = {sources[name] for name in expected if name in sources}
    problems = [
        *_listed("missing in the file", [name for name in expected if name not in fitted]),
        *_listed("unknown to the model", [name for name in weights if name not in used]),
        *_listed("of another shape", [f"{name}: file {file}, model {ours}" for name, (file, ours) in shapes.items() if file != ours]),
    ]
    if problems:
        is_ours = isinstance(model, ResNet)
        advice = advice_for(weights, expected) if is_ours else "a model of your own takes weights of its own names alone"
        raise WeightsError("\n".join(["the weights do not fit the model", *problems, advice]))
    return Fitted(fitted, [*notes, *_with_stride(weights, model)])


def _skipped(found: dict[str, Tensor], expected: Mapping[str, Tensor], model: nn.Module, skip: Sequence[str]) -> Iterator[str]:
    """Puts the model's own values in the place of those that `skip` names."""
    for match in skip:
        path = path_of(match, model)
        names = [name for name in expected if is_in(name, path)]
        if not names:
            paths = [name for name, module in model.named_modules() if name and next(module.parameters(), None) is not None]
            has = f"the model has {', '.join(path for path in paths if '.' not in path)}"
            raise WeightsError(f"model.weights_skip: {match} matches nothing in the model{nearest(match, paths)}; {has}")
        found |= {name: expected[name].clone() for name in names}
        yield f"{match} starts anew (model.weights_skip)"


def _with_classifier(found: dict[str, Tensor], expected: Mapping[str, Tensor], model: nn.Module) -> Iterator[str]:
    """Puts a new classifier, the last linear layer, in the place of one of other classes. timm has some as 1x1 convolutions."""
    layer = classifier_of(model)
    if layer is None:
        return
    own = {name: value for name, value in expected.items() if name.rpartition(".")[0] == layer}
    theirs = found.get(f"{layer}.weight")
    if theirs is not None and theirs.shape[2:] == (1, 1):
        theirs = found[f"{layer}.weight"] = theirs.flatten(1)
    wanted = own[f"{layer}.weight"].shape
    if theirs is not None and theirs.shape[1:] == wanted[1:] and theirs.shape != wanted:
        found |= {name: value.clone() for name, value in own.items()}
        yield f"the file has {len(theirs):,} classes, the data {wanted[0]:,}: {layer} starts anew"


def _with_channels(found: dict[str, Tensor], expected: Mapping[str, Tensor], model: nn.Module) -> Iterator[str]:
    """Sums the first convolution's weights over three channels, or spreads those of one."""
    layer = next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
    name = f"{layer}.weight"
    if name not in found or found[name].ndim != 4:
        return
    theirs, wanted = found[name], expected[name].shape[1]
    if theirs.shape[::2] != expected[name].shape[::2] or theirs.shape[3] != expected[name].shape[3]:
        return  # of another network; it may be of any size
    if (theirs.shape[1], wanted) == (3, 1):
        found[name] = theirs.sum(1, keepdim=True)
        yield f"the file's first convolution takes 3 channels, and the data have 1: {layer} is summed over them"
    elif (theirs.shape[1], wanted) == (1, 3):
        found[name] = theirs.expand(-1, 3, -1, -1) / 3
        yield f"the file's first convolution takes 1 channel, and the data have 3: {layer} has a third for each"


def _with_stride(weights: Mapping[str, Tensor], model: nn.Module) -> Iterator[str]:
    """Tells bottlenecks whose stride the names put elsewhere: the shapes are the same, the scores are not."""
    if not isinstance(model, ResNet) or model.bottleneck_stride != "1x1" or not any(map(OF_BOTTLENECKS.fullmatch, weights)):
        return
    if any(name in weights and weights[name].shape[-1] == size for name, size in OF_IMAGENET.items()):
        raise WeightsError(
            "its names are those of torchvision and timm, whose bottlenecks have their stride in the 3x3 convolution: the shapes fit, the "
            "scores would not; set model.bottleneck_stride=3x3"
        )
    yield (
        "most bottlenecks of these names have their stride in the 3x3 convolution, and this network in the 1x1: if the scores are poor, "
        "set model.bottleneck_stride=3x3"
    )


def _open(path: Path) -> Any:
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block forever
        raise WeightsError(f"{path} is no regular file")
    try:
        path.open("rb").close()  # torch raises an OSError for a damaged file too
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}{_on_hub(path)}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror})") from None
    try:
        if path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True)
        from safetensors.torch import load_file  # type: ignore[import-not-found]  # not everybody needs it

        return load_file(path)
    except ModuleNotFoundError:
        raise WeightsError(f"{path} needs a package that is not installed: pip install safetensors") from None
    except Exception as error:  # a damaged file can raise any error
        reason = f"{path} does not open as weights ({type(error).__name__}): it is damaged, or holds more than tensors"
        raise WeightsError(f"{reason}; fetch it again, or write it with torch.save(model.state_dict(), path)") from error


def _on_hub(path: Path) -> str:
    """Returns a hint if the path looks like the name of a repository."""
    is_name = re.fullmatch(r"\w[\w-]*/\w[\w.-]*", str(path)) and path.suffix not in (".pt", ".pth", ".th", ".safetensors", ".bin")
    return f"; the repository of this name on the Hugging Face Hub is {HUB}{path}" if is_name and not path.parent.is_dir() else ""


def _state_dict(content: Any) -> dict[Any, Any]:
    if not isinstance(content, dict):
        return {}
    held = [content[key] for key in HELD if isinstance(content.get(key), dict)]
    return held[0] if held else content


def is_dense(value: Any) -> bool:
    """False for tensors that load_state_dict would skip (meta) or fail on halfway (sparse, quantised)."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)


def _sources(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Maps our name of each entry in the file to its name there."""
    layers = their_layers(model) if isinstance(model, ResNet) else {}
    sources = {}
    for name in weights:
        layer, _, parameter = name.rpartition(".")
        sources[f"{layers[layer]}.{parameter}" if layer in layers else name] = name
    return sources


def _listed(title: str, items: Sequence[str]) -> list[str]:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return [f"  {title}: {', '.join(items[:5])}{more}"] if items else []
