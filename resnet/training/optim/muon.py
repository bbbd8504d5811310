"""Muon: SGD with momentum that orthogonalises the update of each convolution, so that all directions of its filters learn."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: five iterations bring singular values to between about 0.7 and 1.2


class Muon(Optimizer):
    """Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), for convolutions; SGD trains all other parameters.

    The Nesterov momentum of a convolution, as a matrix (out_channels, in_channels * height * width), is orthogonalised. If it has more rows
    than columns, it is scaled by sqrt(rows / columns). Vectors and the classifier use the learning rate `sgd_factor` * lr, with the same
    momentum. Weight decay is decoupled (Loshchilov and Hutter 2019).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: Annotated[float, {"at_least": 0, "below": 1}] = 0.9,
        weight_decay: Annotated[float, {"at_least": 0}] = 0.0,
        sgd_factor: Annotated[float, {"at_least": 0}] = 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "sgd_factor": sgd_factor})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                state["momentum_buffer"].mul_(momentum).add_(parameter.grad)
                step = parameter.grad.add(state["momentum_buffer"], alpha=momentum)  # Nesterov momentum
                parameter.mul_(1 - lr * group["weight_decay"])
                if parameter.ndim == 4:
                    parameter.sub_(orthogonal(step.flatten(1)).reshape(step.shape), alpha=lr)
                else:
                    parameter.sub_(step, alpha=lr * group["sgd_factor"])
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """Approximates U V^T of the singular value decomposition U S V^T, times sqrt(rows / columns) if that is above 1."""
    rows, columns = matrix.shape
    if rows > columns:
        return orthogonal(matrix.T).T * (rows / columns) ** 0.5
    a, b, c = QUINTIC
    matrix = matrix / (torch.linalg.matrix_norm(matrix) + 1e-7)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = a * matrix + (b * square + c * square @ square) @ matrix
    return matrix
