"""What an optimizer may ask for beyond `step()`: train and eval modes, a closure; and what a schedule may: a metric."""

import inspect
from typing import Any

from torch.optim import Optimizer


class Modes:
    """Of an optimizer with train() and eval(), whose weights for training are not those that are evaluated (schedule-free)."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer
        self.are_there = all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))
        self.is_training: bool | None = None  # None: not set yet

    def set(self, is_training: bool) -> None:
        if self.are_there and self.is_training is not is_training:
            (self.optimizer.train if is_training else self.optimizer.eval)()
            self.is_training = is_training


def must_be_given(stepper: Any) -> bool:
    """Whether its step() cannot be called with nothing: an optimizer needs a closure then, a schedule a metric."""
    given = list(inspect.signature(type(stepper).step).parameters.values())[1:]
    return any(one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in given)
