"""What an optimizer may need beyond `step()`: train and eval modes, or a closure. A schedule may need a metric."""

import inspect
from typing import Any

from torch.optim import Optimizer


class Modes:
    """Switches an optimizer with train() and eval(), which trains and evaluates different weights (schedule-free)."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer
        self.are_there = all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))
        self.is_training: bool | None = None  # None: not set yet

    def set(self, is_training: bool) -> None:
        if self.are_there and self.is_training is not is_training:
            (self.optimizer.train if is_training else self.optimizer.eval)()
            self.is_training = is_training


def must_be_given(stepper: Any) -> bool:
    """True if step() needs an argument: a closure for an optimizer, a metric for a schedule."""
    given = list(inspect.signature(type(stepper).step).parameters.values())[1:]
    return any(one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in given)
