"""What a config would train, without training it: stages, sizes, receptive field, data, seconds an epoch here."""

import itertools
import time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet.build import Parts, build, build_fabric
from resnet.config import Config
from resnet.facts import device_name, meta_model
from resnet.models import ResNet
from resnet.models.blocks import Block
from resnet.training.processes import adopt, leave

WARM_UP, MEASURED = 3, 10  # optimizer steps


def describe(config: Config) -> dict[str, Any]:
    """Operations count two per multiply-add, for one image forward."""
    fabric = build_fabric(config)
    children = adopt(fabric)
    try:
        return _description(config, build(config, fabric))
    finally:
        leave(children)


def _description(config: Config, parts: Parts) -> dict[str, Any]:
    data = parts.data
    stages = _stages(config, parts)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {
        "stages": stages,
        "parameters": sum(stage["parameters"] for stage in stages),
        "flops": sum(stage["flops"] for stage in stages),
        "receptive_field": stages[-1]["receptive_field"],
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
    model = meta_model(config, parts.data)
    image = torch.empty(1, parts.data.channels, parts.image_size, parts.image_size, device="meta")
    rows, jump, field = [], 1, 1
    for name, module in _rooms(model):
        field, jump = receptive_field(module, field, jump)
        with torch.no_grad(), (counter := FlopCounterMode(display=False)):
            output = module(image)
        rows.append(
            {
                "stage": name,
                "output": list(output.shape[1:]),
                "parameters": sum(parameter.numel() for parameter in module.parameters()),
                "flops": int(counter.get_total_flops()),
                "receptive_field": field,
            }
        )
        image = output
    return rows


def _rooms(model: ResNet) -> list[tuple[str, nn.Module]]:
    return [("stem", model.stem), *((f"stages.{index}", stage) for index, stage in enumerate(model.stages)), ("head", model.head)]


def receptive_field(module: nn.Module, field: int, jump: int) -> tuple[int, int]:
    """(pixels a side that one output sees, pixels between neighbouring outputs), along the residual branch: the widest path."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and not _is_in_shortcut(module, child):
            field += (child.kernel_size[0] - 1) * jump
            jump *= child.stride[0]
    return field, jump


def _is_in_shortcut(module: nn.Module, conv: nn.Conv2d) -> bool:
    blocks = [block for block in module.modules() if isinstance(block, Block) and block.shortcut is not None]
    return any(conv is child for block in blocks for child in block.shortcut.modules())  # type: ignore[union-attr]


def _seconds_per_step(parts: Parts) -> float:
    """Of training on real batches, after a warm-up; the weights are thrown away."""
    batches = itertools.chain.from_iterable(parts.train.epoch(epoch) for epoch in itertools.count())
    for batch in itertools.islice(batches, WARM_UP):
        sums = parts.learner.step(*batch)
    sums.cpu()  # waits for the device
    started = time.perf_counter()
    for batch in itertools.islice(batches, MEASURED):
        sums = parts.learner.step(*batch)
    sums.cpu()
    return (time.perf_counter() - started) / MEASURED
