"""Muon: momentum whose step on each convolution is made orthogonal, so that no direction of its filters is left behind."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan's iteration: five steps bring singular values to between about 0.7 and 1.2


class Muon(Optimizer):
    """Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), for convolutions; all else is trained by SGD.

    A convolution's Nesterov momentum, as a matrix of (out_channels, in_channels * height * width), is orthogonalised and scaled by the
    root of rows over columns, where there are more rows. Vectors and the classifier step at `sgd_factor` times lr, with the same
    momentum. Weight decay is decoupled (Loshchilov and Hutter 2019).
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0, sgd_factor: float = 1.0) -> None:
        if lr < 0 or weight_decay < 0 or sgd_factor < 0 or not 0 <= momentum < 1:
            raise ValueError("lr, weight_decay and sgd_factor are at least 0, momentum is at least 0 and below 1")
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
                step = parameter.grad.add(state["momentum_buffer"], alpha=momentum)  # Nesterov's
                parameter.mul_(1 - lr * group["weight_decay"])
                if parameter.ndim == 4:
                    parameter.sub_(orthogonal(step.flatten(1)).reshape(step.shape), alpha=lr)
                else:
                    parameter.sub_(step, alpha=lr * group["sgd_factor"])
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of its singular value decomposition U S V^T, times the root of rows over columns where that is above 1."""
    rows, columns = matrix.shape
    if rows > columns:
        return orthogonal(matrix.T).T * (rows / columns) ** 0.5
    a, b, c = QUINTIC
    matrix = matrix / (torch.linalg.matrix_norm(matrix) + 1e-7)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = a * matrix + (b * square + c * square @ square) @ matrix
    return matrix
