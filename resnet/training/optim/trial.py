"""A trial step of an optimizer and its schedule on tiny tensors. It finds what a class cannot do before anything is written."""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resnet.config.errors import UserError
from resnet.record.trackers import reason
from resnet.training.optim.modes import Modes, must_be_given
from resnet.training.randomness import random_numbers_kept

MOST_EVALUATIONS = 4  # most evaluations of the loss in one step
Make = Callable[[Sequence[dict[str, Any]]], tuple[Optimizer, LRScheduler]]


@dataclass(frozen=True)
class Found:
    needs_closure: bool
    forgets: bool  # its state_dict lacks something that the next step depends on


def try_out(name: str, make: Make, groups: Sequence[dict[str, Any]]) -> Found:
    """Tries an optimizer and its schedule. `name` is the target in the UserError. `groups` are the real ones; only their settings and the
    number of dimensions of their parameters matter.
    """
    with warnings.catch_warnings(), random_numbers_kept(), torch.enable_grad():
        warnings.simplefilter("ignore")
        needs_closure, first = _first_step(name, make, groups)
        _check_factors(first.optimizer, first.scheduler)
        state = _round_trip(name, first)
        second = _Trial(make, groups)
        try:
            second.load(first, state)
            for trial in (first, second):
                torch.manual_seed(0)
                trial.step(needs_closure)
        except Exception as error:  # a foreign class may raise anything
            raise UserError(f"optimizer: {name}: it cannot go on from its own state_dict ({reason(error)})") from None
        return Found(needs_closure, forgets=not all(map(torch.equal, first.parameters, second.parameters)))


def _first_step(name: str, make: Make, groups: Sequence[dict[str, Any]]) -> tuple[bool, "_Trial"]:
    failures = []
    for needs_closure in (False, True):
        trial = _Trial(make, groups)
        if not needs_closure and must_be_given(trial.optimizer):
            continue
        try:
            trial.step(needs_closure)
        except Exception as error:
            failures.append(reason(error))
            continue
        if trial.evaluations > MOST_EVALUATIONS:
            raise UserError(too_many_evaluations(name))
        return needs_closure, trial
    raise UserError(f"optimizer: {name}: its step fails ({failures[-1]})")


def too_many_evaluations(name: str) -> str:
    return (
        f"optimizer: {name} evaluates the loss many times in each step, which training on batches does not offer; take one that steps "
        "from one batch's gradients (SAM's second evaluation works)"
    )


def _round_trip(name: str, trial: "_Trial") -> dict[str, Any]:
    buffer = io.BytesIO()
    try:
        torch.save({"optimizer": trial.optimizer.state_dict(), "scheduler": trial.scheduler.state_dict()}, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)  # type: ignore[no-any-return]
    except Exception as error:
        why = reason(error).split(". ")[0][:120]
        raise UserError(
            f"optimizer: {name}: its state, or its schedule's, cannot be saved: only tensors, numbers and plain containers can ({why})"
        ) from None


def _check_factors(optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Raises UserError if a schedule gives all groups the same learning rate, which would undo their factors."""
    base = [group["lr"] for group in optimizer.param_groups if "lr_scale" not in group]
    for group in optimizer.param_groups if base else ():
        if "lr_scale" in group and abs(group["lr"] - base[0] * group["lr_scale"]) > 1e-6 * abs(base[0]):
            raise UserError(
                f"scheduler: {type(scheduler).__name__} gives all parameters one lr, whatever their lr_scale and layer_decay; take a "
                "schedule that multiplies it, as scheduler=one_cycle and cosine do"
            )


class _Trial:
    """An optimizer over one tiny parameter per group and number of dimensions."""

    def __init__(self, make: Make, groups: Sequence[dict[str, Any]]) -> None:
        self.groups = [{**group, "params": list(map(_tiny, _by_dimensions(group["params"])))} for group in groups]
        self.parameters: list[Tensor] = [parameter for group in self.groups for parameter in group["params"]]
        self.optimizer, self.scheduler = make(self.groups)
        self.modes = Modes(self.optimizer)
        self.evaluations = 0

    def step(self, with_closure: bool) -> None:
        self.modes.set(True)
        self._loss()
        self.evaluations = 0
        self.optimizer.step(self._loss) if with_closure else self.optimizer.step()  # type: ignore[arg-type]
        self.scheduler.step(1.0) if must_be_given(self.scheduler) else self.scheduler.step()  # type: ignore[arg-type]
        self.optimizer.zero_grad()
        self.modes.set(False)
        self.modes.set(True)

    def load(self, other: "_Trial", state: dict[str, Any]) -> None:
        self.modes.set(True)
        with torch.no_grad():
            for own, theirs in zip(self.parameters, other.parameters, strict=True):
                own.copy_(theirs)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])

    def _loss(self) -> Tensor:
        self.evaluations += 1
        with torch.enable_grad():
            loss = torch.stack([(parameter.square() / 2 + parameter / 3).sum() for parameter in self.parameters]).sum()
            for parameter, gradient in zip(self.parameters, torch.autograd.grad(loss, self.parameters), strict=True):
                parameter.grad = gradient
        return loss.detach()


def _by_dimensions(parameters: Sequence[Tensor]) -> list[Tensor]:
    return list({parameter.ndim: parameter for parameter in parameters}.values())


def _tiny(parameter: Tensor) -> nn.Parameter:
    shape = [min(size, 2) for size in parameter.shape]
    return nn.Parameter(torch.linspace(0.5, 1.0, max(torch.Size(shape).numel(), 1), device="cpu", dtype=torch.float32).reshape(shape))
