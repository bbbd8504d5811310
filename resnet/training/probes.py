"""Read-only callbacks that record gradient norms, update-to-weight ratios and activations of single steps, layer by layer.

Their hooks are attached only for the watched steps, so other steps cost nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from resnet.models.facts import watched
from resnet.training.callbacks import Callback, Context


class Probe(Callback):
    """Base class. `every`: optimizer steps between watched ones; the first step is watched too. `metrics` are recorded as METRIC/LAYER."""

    metrics: Sequence[str] = ()

    def __init__(self, every: Annotated[int, {"at_least": 1}] = 100) -> None:
        self.every = every

    def start(self, context: Context) -> None:
        self.learner = context.learner
        self.layers = self.watched(context.learner.bare_model)
        self.columns = [f"{metric}/{layer}" for metric in self.metrics for layer in self.layers]

    def before_step(self, step: int) -> None:
        self.found: dict[str, list[Tensor]] = {}
        self.hooks = [*self.attach()] if step == 1 or step % self.every == 0 else []

    def after_step(self, step: int) -> Mapping[str, float]:
        for hook in self.hooks:
            hook.remove()
        if not self.found:  # a step that is not watched, or that 16-mixed skipped
            return {}
        means = torch.stack([torch.stack(values).mean() for values in self.found.values()])  # over the parts of an accumulated batch
        shared = cast(Tensor, self.learner.fabric.all_reduce(means, reduce_op="mean"))
        return dict(zip(self.found, shared.tolist(), strict=True))

    def watched(self, model: nn.Module) -> dict[str, nn.Module]:
        """Returns the modules to watch by name: convolutions and linear layers."""
        return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}

    def attach(self) -> Iterator[Any]:
        """Yields hooks that fill `found`."""
        raise NotImplementedError


class GradNorm(Probe):
    """L2 norm of the weight gradient of each convolution and linear layer, after clipping."""

    metrics = ("grad_norm",)

    def __init__(self, every: Annotated[int, {"at_least": 1}] = 100) -> None:
        super().__init__(every)

    def attach(self) -> Iterator[Any]:
        yield self.learner.bare_optimizer.register_step_pre_hook(lambda *_: self._note())

    def _note(self) -> None:
        for name, layer in self.layers.items():
            gradient = cast(nn.Linear, layer).weight.grad
            if gradient is not None:
                self.found[f"grad_norm/{name}"] = [_norm(gradient.detach())]


class UpdateRatio(Probe):
    """L2 norm of a step's change divided by the L2 norm of the weights before it, for each convolution and linear layer."""

    metrics = ("update_ratio",)

    def __init__(self, every: Annotated[int, {"at_least": 1}] = 100) -> None:
        super().__init__(every)

    def attach(self) -> Iterator[Any]:
        optimizer = self.learner.bare_optimizer
        yield optimizer.register_step_pre_hook(lambda *_: self._copy())
        yield optimizer.register_step_post_hook(lambda *_: self._note())

    def _weights(self) -> dict[str, Tensor]:
        return {name: cast(nn.Linear, layer).weight.detach() for name, layer in self.layers.items()}

    def _copy(self) -> None:
        self.before = {name: weight.clone() for name, weight in self._weights().items()}

    def _note(self) -> None:
        for name, weight in self._weights().items():
            self.found[f"update_ratio/{name}"] = [(weight - self.before[name]).norm() / self.before[name].norm()]


class ActivationStats(Probe):
    """Mean and variance of the outputs of the stem, each block and the head."""

    metrics = ("activation_mean", "activation_var")

    def __init__(self, every: Annotated[int, {"at_least": 1}] = 100) -> None:
        super().__init__(every)

    def watched(self, model: nn.Module) -> dict[str, nn.Module]:
        return watched(model)

    def attach(self) -> Iterator[Any]:
        for name, layer in self.layers.items():
            yield layer.register_forward_hook(partial(_note_activation, self.found, name))


def _norm(gradient: Tensor) -> Tensor:
    """Computes the L2 norm. Scales first, because the squares of gradients below 1e-22 would be zero in float32."""
    largest = gradient.abs().max().clamp_min(torch.finfo(gradient.dtype).tiny)
    return (gradient / largest).norm() * largest


def _note_activation(found: dict[str, list[Tensor]], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    if not isinstance(output, Tensor):  # a foreign module may return anything
        return
    variance, mean = torch.var_mean(output.detach().float(), correction=0)
    found.setdefault(f"activation_mean/{name}", []).append(mean)
    found.setdefault(f"activation_var/{name}", []).append(variance)
