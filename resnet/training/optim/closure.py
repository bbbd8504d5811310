"""The closure of one optimizer step, for optimizers that also need gradients at other weights (SAM, Foret et al. 2021)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet.training.randomness import random_state, set_random_state


class Closure:
    """Wraps `gradients`, which computes gradients and returns sums (loss, correct predictions, images). It is called once at construction.

    A call returns the loss. It computes gradients again only if the weights or the gradients have changed since the last call. Then it uses
    the same random numbers, so that dropout is the same, and leaves running statistics unchanged. So an optimizer may start with the
    existing gradients or with the closure.
    """

    def __init__(self, gradients: Callable[[], Tensor], model: nn.Module, device: torch.device) -> None:
        self.gradients, self.model, self.device = gradients, model, device
        self.random = random_state(device)
        self.sums = self.last = gradients()  # at the weights before the step
        self.known = self._values()

    def __call__(self) -> Tensor:
        values = self._values()
        if len(values) != len(self.known) or not all(map(torch.equal, values, self.known)):
            self._compute_again()
        return self.last[0] / self.last[2]

    def _compute_again(self) -> None:
        now, buffers = random_state(self.device), [buffer.clone() for buffer in self.model.buffers()]
        set_random_state(self.random, self.device)
        self.model.zero_grad()
        with torch.enable_grad():
            self.last = self.gradients()
        set_random_state(now, self.device)
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        self.known = self._values()

    def _values(self) -> list[Tensor]:
        """Returns copies, because changes through `.data` leave no other trace."""
        parameters = list(self.model.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return [value.detach().clone() for value in (*parameters, *gradients)]
