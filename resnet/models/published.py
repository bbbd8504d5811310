"""Reads weights from a file and fits them to a model. A ResNet also accepts the names of public CIFAR networks.

Two naming schemes are known: akamaster/pytorch_resnet_cifar10 (`linear`, `shortcut`) and chenyaofo/pytorch-cifar-models (`fc`,
`downsample`). Both are also common elsewhere.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet.models.resnet import ResNet

LAYERS_OF_A_BLOCK = {  # their name: our name
    "conv1": "residual.0",
    "bn1": "residual.1",
    "conv2": "residual.3",
    "bn2": "residual.4",
    "conv3": "residual.6",  # correct if conv1 has the stride (He et al. 2015); in torchvision conv2 has it: same shapes, other scores
    "bn3": "residual.7",
    "shortcut.0": "shortcut.0",
    "shortcut.1": "shortcut.1",
    "downsample.0": "shortcut.0",
    "downsample.1": "shortcut.1",
}


class WeightsError(Exception):
    """The weights do not fit. The message lists the names and shapes that do not match, and what to do."""


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


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns all tensors that `model` needs, under its own names. Raises WeightsError if a name or a shape does not fit."""
    expected = model.state_dict()
    sources = _sources(model, weights)
    # PyTorch before 0.4.1 saved no count of batches; nothing that we compute depends on it.
    counts = {name: torch.tensor(0) for name in expected if name.endswith(".num_batches_tracked")}
    fitted = counts | {name: weights[source] for name, source in sources.items() if name in expected}
    shapes = {name: (tuple(fitted[name].shape), tuple(expected[name].shape)) for name in expected if name in fitted}
    used = {sources[name] for name in expected if name in sources}
    problems = [
        *_listed("missing in the file", [name for name in expected if name not in fitted]),
        *_listed("unknown to the model", [name for name in weights if name not in used]),
        *_listed("of another shape", [f"{name}: file {file}, model {ours}" for name, (file, ours) in shapes.items() if file != ours]),
    ]
    if problems:
        advice = (
            _advice([*sources], [*expected]) if isinstance(model, ResNet) else "a model of your own takes weights of its own names alone"
        )
        raise WeightsError("\n".join(["the weights do not fit the model", *problems, advice]))
    return fitted


def _open(path: Path) -> Any:
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block forever
        raise WeightsError(f"{path} is no regular file")
    try:
        path.open("rb").close()  # torch raises an OSError for a damaged file too
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
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


def _state_dict(content: Any) -> dict[Any, Any]:
    if not isinstance(content, dict):
        return {}
    held = [content[key] for key in ("average", "model", "state_dict") if isinstance(content.get(key), dict)]
    return held[0] if held else content


def is_dense(value: Any) -> bool:
    """False for tensors that load_state_dict would skip (meta) or fail on halfway (sparse, quantised)."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)


def _sources(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Maps our name of each entry in the file to its name there."""
    layers = _our_layers(model) if isinstance(model, ResNet) else {}
    sources = {}
    for name in weights:
        layer, _, parameter = name.rpartition(".")
        sources[f"{layers[layer]}.{parameter}" if layer in layers else name] = name
    return sources


def _our_layers(model: ResNet) -> dict[str, str]:
    """Maps their name of each layer to ours."""
    head = f"head.{len(model.head) - 1}"
    layers = {"conv1": "stem.0", "bn1": "stem.1", "linear": head, "fc": head}
    for stage, blocks in enumerate(model.stages.children()):
        for position, _ in enumerate(blocks.children()):
            for theirs, ours in LAYERS_OF_A_BLOCK.items():
                layers[f"layer{stage + 1}.{position}.{theirs}"] = f"stages.{stage}.{position}.{ours}"
    return layers


def _listed(title: str, items: Sequence[str]) -> list[str]:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return [f"  {title}: {', '.join(items[:5])}{more}"] if items else []


def _advice(file_names: Sequence[str], model_names: Sequence[str]) -> str:
    advice = "set model.block, model.layers, model.width, model.shortcut and model.norm, and data of as many classes, as the weights have"
    in_file, in_model = (any(".shortcut." in name for name in names) for names in (file_names, model_names))
    if in_file and not in_model:
        return f"{advice}; the file has projection shortcuts: model.shortcut=projection_1x1"
    if in_model and not in_file:
        return f"{advice}; the file has no projection shortcuts: model.shortcut=zero_pad"
    return advice
