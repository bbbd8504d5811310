"""Estimates the memory of a training step before it is used. What is too large would end the process without a word."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from resnet.config import Config

GB = 1e9


def step_bytes(config: Config, model: nn.Module, images: Tensor, world_size: int = 1) -> int:
    """Returns about how many bytes one process needs for a step: what the forward pass keeps for the gradient, in the precision of the
    parameters, and the parameters with their gradients and two states of an optimizer. `model` and `images`: those of `trial`.
    """
    kept: dict[Any, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # views share their memory
        return tensor

    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = model.train()(images)
    del scores
    model.eval()
    parameters = {parameter.untyped_storage()._cdata: parameter.nbytes for parameter in model.parameters()}
    activations = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in parameters)
    at_once = -(-config.batch_size // (config.accumulate * world_size))
    return activations * at_once // len(images) + 4 * sum(parameters.values())


def told_of_memory(needed: int, device: torch.device) -> list[str]:
    """Returns a note if a step needs more memory than is free."""
    free = free_bytes(device)
    if free is None or needed <= free:
        return []
    return [
        f"warning: a step needs about {needed / GB:.1f} GB of memory, and {free / GB:.1f} GB are free: take a smaller batch_size, a larger "
        "accumulate, or smaller images"
    ]


def free_bytes(device: torch.device) -> int | None:
    """Returns the free memory of a device; of a CPU what the system can give without swapping. None if it is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            known = dict(line.split(":") for line in lines)
        return int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None if not hasattr(os, "sysconf") or device.type != "cpu" else _free_pages()


def _free_pages() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
