"""The loss as training and evaluation call it: it accepts several kinds of loss and gives the mean or the sum over the images."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Objective:
    """Wraps a loss of (scores, targets) or (scores, targets, images) that returns the mean over the images or one value per image."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss: Any = loss
        self.sees_images = _takes_three(loss)

    def mean(self, scores: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        self._set_training(True)
        value = self._value(scores, targets, images)
        return value.mean() if value.ndim else value

    def total(self, scores: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Returns the sum over the images, for evaluation. Uses the loss's own `total` if it has one."""
        self._set_training(False)
        if hasattr(self.loss, "total"):
            return self.loss.total(scores, targets)  # type: ignore[no-any-return]
        value = self._value(scores, targets, images)
        return value.sum() if value.ndim else value * len(targets)

    def check(self, scores: Tensor, targets: Tensor, images: Tensor) -> None:
        """Tries the loss once. Raises TypeError or ValueError if its result does not fit training; errors of the loss itself pass
        through."""
        own = self.loss.parameters() if isinstance(self.loss, nn.Module) else ()
        if any(parameter.requires_grad for parameter in own):
            raise ValueError("it has parameters of its own, which no optimizer trains; freeze them, or make them part of the model")
        self._set_training(True)
        value = self._value(scores.requires_grad_(), targets, images)
        if not isinstance(value, Tensor):
            raise TypeError(f"it gives a {type(value).__name__}; a tensor is needed")
        if value.shape not in ((), (len(targets),)):
            raise ValueError(f"it gives a tensor of shape {tuple(value.shape)}; the mean is needed, or one value an image")
        torch.autograd.grad(value.sum(), scores)
        if targets.ndim == 1:
            float(self.total(scores.detach(), targets, images))

    def _value(self, scores: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        return self.loss(scores, targets, images) if self.sees_images else self.loss(scores, targets)  # type: ignore[no-any-return]

    def _set_training(self, is_training: bool) -> None:
        if isinstance(self.loss, nn.Module) and self.loss.training != is_training:
            self.loss.train(is_training)


def _takes_three(loss: Any) -> bool:
    called = loss.forward if isinstance(loss, nn.Module) else loss
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [one for one in inspect.signature(called).parameters.values() if one.kind in positional]
    return len(parameters) > 2 and (parameters[2].default is inspect.Parameter.empty or parameters[2].name == "images")
