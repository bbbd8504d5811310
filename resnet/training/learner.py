"""The learner: a model with its optimizer, schedule and averaged weights. It takes optimizer steps and computes scores on a split."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from resnet.data import Batch
from resnet.training.objective import Objective
from resnet.training.optim.closure import Closure
from resnet.training.optim.modes import Modes, must_be_given
from resnet.training.processes import gather_from_all, in_original_order
from resnet.training.randomness import random_state, set_random_state

Metric = Callable[[Tensor, Tensor], float]  # of scores (N, K) and labels (N,)


@dataclass(kw_only=True)
class Learner:
    """`model` and `optimizer` are wrapped by Fabric. `average` holds the averaged weights if averaging is on."""

    fabric: Fabric
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    objective: Objective
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # besides loss and accuracy
    average: AveragedModel | None = None
    accumulate: int = 1
    clip_grad_norm: float | None = None
    needs_closure: bool = False  # the optimizer's step takes a closure
    frozen: Sequence[nn.Module] = ()  # parts of the model that stay in eval mode

    def __post_init__(self) -> None:
        self.modes = Modes(self.bare_optimizer)
        self.follows_metric = must_be_given(self.scheduler)  # as ReduceLROnPlateau does; it steps after evaluations

    def step(self, images: Tensor, targets: Tensor, batch_size: int, is_copy: bool = False) -> Tensor:
        """Takes one optimizer step on this process's share of a batch. Returns its sums (loss, correct predictions, images), on the device.

        Gradients are averaged over the processes, so each share is weighted by its number of images in `batch_size`.
        """
        self.model.train()
        for part in self.frozen:
            part.eval()
        self.modes.set(is_training=True)
        gradients = partial(self._gradients, images, targets, batch_size)
        if self.needs_closure:
            closure = Closure(gradients, self.bare_model, self.fabric.device)
            sums = closure.sums
            self.optimizer.step(closure)  # type: ignore[arg-type]
        else:
            sums = gradients()
            self.optimizer.step()
        if not self.follows_metric:
            self.scheduler.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.bare_model)
        return torch.zeros_like(sums) if is_copy else sums

    def _gradients(self, images: Tensor, targets: Tensor, batch_size: int) -> Tensor:
        """Leaves the gradients, clipped, in the parameters. Returns the sums."""
        sums = torch.zeros(3, device=images.device)
        count = max(min(self.accumulate, batch_size // self.fabric.world_size), 1)  # the same in all processes
        parts = list(zip(images.tensor_split(count), targets.tensor_split(count), strict=True))
        for number, (part, part_targets) in enumerate(parts, 1):
            with self.fabric.no_backward_sync(self.model, enabled=number < len(parts)):  # type: ignore[arg-type]
                logits = self.model(part)
                loss = self.objective.mean(logits.float(), part_targets, part)
                self.fabric.backward(loss * (len(part) * self.fabric.world_size / batch_size))
            sums += _sums(loss.detach() * len(part), logits, part_targets)
        if self.clip_grad_norm is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.clip_grad_norm, error_if_nonfinite=False)  # type: ignore[arg-type]
        return sums

    def follow(self, metric: float) -> None:
        """Steps a schedule that depends on a metric; called after each evaluation."""
        if self.follows_metric:
            self.scheduler.step(metric)  # type: ignore[arg-type]

    @property
    def lr(self) -> float:
        """The learning rate of the next step, without any group's factor."""
        group = min(self.optimizer.param_groups, key=lambda group: "lr_scale" in group)
        return float(group["lr"]) / float(group.get("lr_scale", 1.0))

    @property
    def weights(self) -> nn.Module:
        """The model that is evaluated and saved: the averaged one if averaging is on."""
        return self.bare_model if self.average is None else self.average.module

    @property
    def bare_optimizer(self) -> Optimizer:
        return cast(Optimizer, getattr(self.optimizer, "optimizer", self.optimizer))  # without Fabric's wrapper

    @property
    def bare_model(self) -> nn.Module:
        module = getattr(self.model, "module", self.model)  # without Fabric's wrapper
        return cast(nn.Module, getattr(module, "_orig_mod", module))  # without torch.compile's

    def scores(self, batches: Generator[Batch], keep_logits: bool = False) -> "Scores":
        self.modes.set(is_training=False)
        self.average_statistics()
        model = self.model if self.average is None else self.average
        return evaluate(self.fabric, model, self.objective, batches, self.metrics, keep_logits)

    def total(self, sums: Tensor) -> Tensor:
        """Adds up over all processes."""
        return cast(Tensor, self.fabric.all_reduce(sums, reduce_op="sum"))

    def average_statistics(self) -> None:
        """Averages the running statistics over all processes, because each process normalises only its own share of a batch."""
        if self.fabric.world_size == 1:
            return
        for module in (self.bare_model, self.average):
            for buffer in module.buffers() if module is not None else ():
                if buffer.is_floating_point():
                    buffer.copy_(cast(Tensor, self.fabric.all_reduce(buffer, reduce_op="mean")))

    def state(self) -> dict[str, Any]:
        """Returns all that the next step depends on, except the position in the epoch, as plain containers of tensors and numbers."""
        self.average_statistics()
        return {
            "model": self.bare_model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the loss scale of 16-mixed
            "random": gather_from_all(self.fabric, random_state(self.fabric.device)),
            **(self._both_modes() if self.modes.is_training else {}),
        }

    def _both_modes(self) -> dict[str, Any]:
        """Returns the weights of both modes: `model` is evaluated; `model_in_training` starts the next step. The current weights do not
        change.
        """
        optimizer = deepcopy(self.optimizer.state_dict())
        in_training = {name: value.clone() for name, value in self.bare_model.state_dict().items()}
        self.modes.set(is_training=False)
        evaluated = {name: value.clone() for name, value in self.bare_model.state_dict().items()}
        self.modes.set(is_training=True)
        self.bare_model.load_state_dict(in_training)
        self.optimizer.load_state_dict(deepcopy(optimizer))
        return {"model": evaluated, "model_in_training": in_training, "optimizer": optimizer}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned. If the number of processes has changed, only the first one restores its random state."""
        self.modes.set(is_training="model_in_training" in state)
        self.bare_model.load_state_dict(state.get("model_in_training", state["model"]))
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if len(state["random"]) == self.fabric.world_size or self.fabric.is_global_zero:
            set_random_state(state["random"][self.fabric.global_rank], self.fabric.device)


@dataclass(frozen=True)
class Scores:
    loss: float
    accuracy: float
    logits: Tensor | None = None  # (N, K), in the order of the images
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, float]:
        return {"loss": self.loss, "accuracy": self.accuracy, **self.metrics}


@torch.no_grad()
def evaluate(
    fabric: Fabric,
    model: nn.Module,
    objective: Objective | None,
    batches: Generator[Batch],
    metrics: Mapping[str, Metric] | None = None,
    keep_logits: bool = False,
) -> Scores:
    """Computes loss and accuracy over the images of all processes, each counted once. Without an objective the loss is NaN."""
    model.eval()
    dtype = torch.float32 if fabric.device.type == "mps" else torch.float64  # MPS has no float64
    sums = torch.zeros(3, device=fabric.device, dtype=dtype)
    logits_seen, labels_seen = list[Tensor](), list[Tensor]()
    with closing(batches):
        for images, labels, *_ in batches:
            with fabric.autocast():
                logits = model(images).float()
            loss = objective.total(logits, labels, images) if objective else logits.new_tensor(torch.nan)
            sums += _sums(loss, logits, labels)
            if keep_logits or metrics:
                logits_seen.append(logits.cpu())
                labels_seen.append(labels.cpu())
    total, right, count = cast(Tensor, fabric.all_reduce(sums, reduce_op="sum")).tolist()
    if not logits_seen:
        return Scores(total / count, right / count)
    scores, true = (torch.cat(in_original_order(fabric, share)) for share in (logits_seen, labels_seen))
    values = {name: float(metric(scores, true)) for name, metric in (metrics or {}).items()}
    return Scores(total / count, right / count, scores, values)


def _sums(loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Returns (loss, correct predictions, images). For mixed targets (N, K), the correct class is the one with the larger share."""
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, right.to(loss.dtype), torch.full_like(loss, len(labels))])
