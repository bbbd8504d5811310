"""The distillation loss. Its teacher is a finished run, so this module builds on `analysis`, which opens runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet.analysis.saved import load_model, open_run
from resnet.config.errors import UserError
from resnet.record.directory import FINISHED


class Distillation(nn.Module):
    """Learns from a teacher, a finished run: (1 - weight) * cross entropy + weight * temperature^2 * KL (Hinton et al. 2015).

    KL is the divergence of the student's from the teacher's softened predictions. It is zero for a student that equals the teacher.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        teacher: str,
        temperature: Annotated[float, {"above": 0}] = 4.0,
        weight: Annotated[float, {"at_least": 0, "at_most": 1}] = 0.9,
        *,
        num_classes: int,
        in_channels: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight
        self.teacher, their_mean, their_std = open_teacher(teacher, num_classes, in_channels)
        own, own_spread, theirs, their_spread = (
            torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std, their_mean, their_std)
        )
        # Convert images from the student's normalisation to the teacher's; exactly the identity if both are the same.
        self.register_buffer("scale", own_spread / their_spread)
        self.register_buffer("offset", (own - theirs) / their_spread)

    def train(self, mode: bool = True) -> "Distillation":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, scores: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = self.teacher((images * self.scale + self.offset).to(next(self.teacher.parameters()).dtype)).to(scores.dtype)
        student, teacher = ((values / self.temperature).log_softmax(1) for values in (scores, theirs))
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
        right = F.cross_entropy(scores, targets, reduction="none")
        return (1 - self.weight) * right + self.weight * self.temperature**2 * divergence


def open_teacher(path: str, num_classes: int, in_channels: int) -> tuple[nn.Module, list[float], list[float]]:
    """Returns the teacher's model, and the pixel mean and standard deviation of its training. Raises UserError."""
    try:
        run = open_run(Path(path))
        model = load_model(run)[0]
    except UserError as error:
        raise UserError("\n".join(f"loss.teacher: {line}" for line in str(error).splitlines())) from None
    if run.summary["status"] != FINISHED:
        raise UserError(f"loss.teacher={path}: that run is {run.summary['status']}; a finished run is needed")
    if (run.channels, len(run.classes)) != (in_channels, num_classes):
        theirs, own = f"{run.channels} channels and {len(run.classes)} classes", f"{in_channels} and {num_classes}"
        raise UserError(f"loss.teacher={path}: it was trained on images of {theirs}, and these have {own}; choose a run on such data")
    known = run.summary["data"]
    return model.requires_grad_(False), known["mean"], known["std"]
