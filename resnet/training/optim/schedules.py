"""Learning-rate schedules as closed forms of the optimizer step, for torch's LambdaLR.

torch's OneCycleLR divides by zero if its warm-up is a single step, and takes its peak lr as a second setting. torch's MultiStepLR and
CosineAnnealingLR have no warm-up, and chaining schedules loses the closed form that makes a resumed run exact.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    warmup: Annotated[float, {"at_least": 0, "below": 1}],
    initial: Annotated[float, {"at_least": 0}],
    final: Annotated[float, {"at_least": 0}],
) -> LambdaLR:
    """Rises linearly from `initial` * lr to lr over a share `warmup` of the steps, then falls linearly to `final` * lr (Smith 2018)."""
    peak = warmup * total_steps

    def factor(step: int) -> float:
        if step < peak:
            return initial + (1 - initial) * step / peak
        return 1 - (1 - final) * (step - peak) / (total_steps - peak)

    return LambdaLR(optimizer, factor)


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    warmup: Annotated[float, {"at_least": 0, "below": 1}],
    final: Annotated[float, {"at_least": 0}],
) -> LambdaLR:
    """Rises linearly to lr over a share `warmup` of the steps, then falls along half a cosine to `final` * lr (Loshchilov and Hutter
    2017)."""
    peak = warmup * total_steps

    def factor(step: int) -> float:
        if step < peak:
            return (step + 1) / (peak + 1)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (step - peak) / (total_steps - peak)))

    return LambdaLR(optimizer, factor)


def multistep(
    optimizer: Optimizer,
    milestones: Sequence[int],
    gamma: Annotated[float, {"above": 0}],
    warmup_steps: Annotated[int, {"at_least": 0}] = 0,
    warmup_factor: Annotated[float, {"above": 0}] = 1.0,
) -> LambdaLR:
    """Multiplies lr by `gamma` at each milestone. For the first `warmup_steps` the factor is `warmup_factor` (He et al. 2015, section
    4.2)."""

    def factor(step: int) -> float:
        return warmup_factor if step < warmup_steps else gamma ** bisect_right(sorted(milestones), step)

    return LambdaLR(optimizer, factor)
