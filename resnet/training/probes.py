"""Read-only observers of single steps: gradient norms, update-to-weight ratios, activations, layer by layer.

Attached for the steps that they watch and taken off again: switched off, or between those steps, they cost nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from resnet.models.facts import watched
from resnet.training.learner import Learner

# What each probe records, as `<metric>/<layer>`.
RECORDED = {"grad_norm": ["grad_norm"], "activation_stats": ["activation_mean", "activation_var"], "update_ratio": ["update_ratio"]}


class Probes:
    """`every`: optimizer steps between the watched ones; the first step is watched too.

    grad_norm (L2, after clipping) and update_ratio (L2 of a step's change over L2 of the weights before it) are of each
    convolution's and linear layer's weights; activation_mean and activation_var of the outputs of each section, in ours of each block.
    """

    def __init__(self, learner: Learner, names: Sequence[str], every: int) -> None:
        self.learner, self.names, self.every = learner, names, every
        model = learner.bare_model
        layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        self.weights = {name: module.weight for name, module in layers}
        self.rooms = watched(model)

    @property
    def columns(self) -> list[str]:
        """In the order of the layers."""
        metrics = [metric for name in self.names for metric in RECORDED[name]]
        return [f"{metric}/{layer}" for metric in metrics for layer in (self.rooms if "activation" in metric else self.weights)]

    @contextmanager
    def watch(self, step: int) -> Iterator[dict[str, float]]:
        """What was seen of the step taken inside, once it is taken; empty where the step is not watched."""
        seen: dict[str, float] = {}
        if not self.names or (step != 1 and step % self.every):
            yield seen
            return
        found: dict[str, list[Tensor]] = {}
        with ExitStack() as hooks:
            for handle in self._attach(found):
                hooks.callback(handle.remove)
            yield seen
        if not found:  # 16-mixed left this step out
            return
        means = torch.stack([torch.stack(values).mean() for values in found.values()])  # over the parts of an accumulated batch
        shared = cast(Tensor, self.learner.fabric.all_reduce(means, reduce_op="mean"))
        seen |= dict(zip(found, shared.tolist(), strict=True))

    def _attach(self, found: dict[str, list[Tensor]]) -> Iterator[Any]:
        optimizer = self.learner.bare_optimizer
        if "grad_norm" in self.names:
            yield optimizer.register_step_pre_hook(lambda *_: self._note_gradients(found))
        if "update_ratio" in self.names:
            before: dict[str, Tensor] = {}
            yield optimizer.register_step_pre_hook(lambda *_: before.update(self._copies()))
            yield optimizer.register_step_post_hook(lambda *_: self._note_updates(found, before))
        if "activation_stats" in self.names:
            for name, module in self.rooms.items():
                yield module.register_forward_hook(partial(_note_activation, found, name))

    def _note_gradients(self, found: dict[str, list[Tensor]]) -> None:
        for name, weight in self.weights.items():
            if weight.grad is not None:
                found[f"grad_norm/{name}"] = [_norm(weight.grad.detach())]

    def _copies(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def _note_updates(self, found: dict[str, list[Tensor]], before: dict[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            found[f"update_ratio/{name}"] = [(weight.detach() - before[name]).norm() / before[name].norm()]


def _norm(gradient: Tensor) -> Tensor:
    """L2; the squares of gradients below 1e-22 would be zero in float32."""
    largest = gradient.abs().max().clamp_min(torch.finfo(gradient.dtype).tiny)
    return (gradient / largest).norm() * largest


def _note_activation(found: dict[str, list[Tensor]], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    if not isinstance(output, Tensor):  # a foreign section may give anything
        return
    variance, mean = torch.var_mean(output.detach().float(), correction=0)
    found.setdefault(f"activation_mean/{name}", []).append(mean)
    found.setdefault(f"activation_var/{name}", []).append(variance)
