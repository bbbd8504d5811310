"""Describes what a config would train, without training it: stages, sizes, receptive field, data, seconds per epoch on this machine."""

import itertools
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnet.build import Parts, build
from resnet.build_fabric import build_fabric
from resnet.build_model import trial
from resnet.config import Config
from resnet.facts import count_flops, device_name, model_line
from resnet.models.facts import WHOLE, receptive_fields, sections
from resnet.training.processes import end_children, take_children

WARM_UP, MEASURED = 3, 10  # optimizer steps


def describe(config: Config) -> dict[str, Any]:
    """Returns the description. Operations are of the forward pass of one image; a multiply-add counts as two."""
    fabric = build_fabric(config)
    children = take_children(fabric)
    try:
        return _description(config, build(config, fabric))
    finally:
        end_children(children)


def _description(config: Config, parts: Parts) -> dict[str, Any]:
    data = parts.data
    stages = _stages(config, parts)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {
        "stages": stages,
        "model": model_line(config.model),
        "notes": list(parts.notes),
        "parameters": sum(parameter.numel() for parameter in parts.learner.weights.parameters()),
        "memory": parts.memory,
        "flops": count_flops(config, data, parts.size),
        "data": {
            "name": config.data.name,
            "mean": data.mean,
            "std": data.std,
            **{
                name: dict(zip(data.classes, torch.bincount(split.labels, minlength=len(data.classes)).tolist(), strict=True))
                for name, split in splits.items()
                if split is not None
            },
        },
        "device": device_name(parts),
        "steps": parts.plan.total_steps,
        "steps_per_epoch": parts.plan.steps_per_epoch,
        "seconds_per_epoch": _seconds_per_step(parts) * parts.plan.steps_per_epoch,
    }


def _stages(config: Config, parts: Parts) -> list[dict[str, Any]]:
    """Returns one row per section. `output` is None for a section that returns no tensor or is not called by the model."""
    model, images = trial(config, parts.data, parts.size)
    counter = FlopCounterMode(display=False)
    modules = sections(model)
    seen = {name: _watch(module, counter) for name, module in modules.items()}
    with torch.no_grad(), counter:
        model(images[:1])
    return [
        {
            "stage": name,
            "output": seen[name].shape,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "flops": seen[name].flops,
            "receptive_field": "whole image" if field == WHOLE else field,
        }
        for (name, module), field in zip(modules.items(), receptive_fields(model), strict=True)
    ]


@dataclass
class Seen:
    """The output shape of a section, and its operations over all calls."""

    shape: list[int] | None = None
    flops: int = 0


def _watch(module: nn.Module, counter: FlopCounterMode) -> Seen:
    seen = Seen()

    def before(*_: Any) -> None:
        seen.flops -= counter.get_total_flops()

    def after(_: nn.Module, inputs: Any, output: Any) -> None:
        seen.flops += counter.get_total_flops()
        seen.shape = list(output.shape[1:]) if isinstance(output, Tensor) else None

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)
    return seen


def _seconds_per_step(parts: Parts) -> float:
    """Measures training on real batches, after a warm-up. Changes the weights, which are not used afterwards."""
    batches = itertools.chain.from_iterable(parts.train.epoch(epoch) for epoch in itertools.count())
    with closing(parts.train):
        for batch in itertools.islice(batches, WARM_UP):
            sums = parts.learner.step(*batch)
        sums.cpu()  # waits for the device
        started = time.perf_counter()
        for batch in itertools.islice(batches, MEASURED):
            sums = parts.learner.step(*batch)
        sums.cpu()
    return (time.perf_counter() - started) / MEASURED
