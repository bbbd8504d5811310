"""Losses: modules called with scores (N, K) and targets, which are labels (N,), or shares (N, K) where images are mixed.

They give one value an image (N,), or the mean over the images. In eval mode they give what is told as val/loss and test/loss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossEntropy(nn.Module):
    """`smoothing` is the share of a target that is spread evenly over all classes, in training alone.

    `class_weights`: "balanced" (number of images / classes / images of the class), or one for each class. An image counts with the
    weight of its class, and the mean is over the images.
    """

    weights: Tensor | None

    def __init__(
        self,
        smoothing: Annotated[float, {"at_least": 0, "below": 1}] = 0.0,
        class_weights: Any = None,
        *,
        num_classes: int,
        class_counts: Sequence[int],
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", as_weights("class_weights", class_weights, num_classes, class_counts))

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.smoothing if self.training else 0.0
        if self.weights is None:
            return F.cross_entropy(scores, targets, label_smoothing=smoothing)
        return weighted(F.cross_entropy(scores, targets, label_smoothing=smoothing, reduction="none"), targets, self.weights)

    def total(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The sum over the images, without smoothing."""
        if self.weights is None:
            return F.cross_entropy(scores, targets, reduction="sum")
        return weighted(F.cross_entropy(scores, targets, reduction="none"), targets, self.weights).sum()


class BCE(nn.Module):
    """Each class against all others: the mean over the classes of their binary cross entropies."""

    weights: Tensor | None

    def __init__(
        self,
        smoothing: Annotated[float, {"at_least": 0, "below": 1}] = 0.0,
        class_weights: Any = None,
        *,
        num_classes: int,
        class_counts: Sequence[int],
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", as_weights("class_weights", class_weights, num_classes, class_counts))

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        shares = as_shares(targets, scores)
        if self.training:
            shares = (1 - self.smoothing) * shares + self.smoothing / scores.shape[1]
        losses = F.binary_cross_entropy_with_logits(scores, shares, reduction="none").mean(1)
        return weighted(losses, targets, self.weights)


class Focal(nn.Module):
    """Cross entropy in which an image counts the less the surer its answer is right: (1 - p)^gamma (Lin et al. 2017).

    `alpha`: a weight for each class, as `class_weights` of CrossEntropy.
    """

    weights: Tensor | None

    def __init__(
        self, gamma: Annotated[float, {"at_least": 0}] = 2.0, alpha: Any = None, *, num_classes: int, class_counts: Sequence[int]
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weights", as_weights("alpha", alpha, num_classes, class_counts))

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        log = scores.log_softmax(1)
        # Where p is 1, the gradient of the power would not be finite.
        losses = -(as_shares(targets, scores) * (1 - log.exp()).clamp_min(torch.finfo(log.dtype).tiny) ** self.gamma * log).sum(1)
        return weighted(losses, targets, self.weights)


class Distillation(nn.Module):
    """Learns the answers of a teacher, a finished run: (1 - weight) * cross entropy + weight * temperature^2 * KL (Hinton et al. 2015).

    The divergence is of the student's from the teacher's softened answers: that of a student that is the teacher is zero.
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
        self.teacher, their_mean, their_std = _open_teacher(teacher, num_classes, in_channels)
        own, own_spread, theirs, their_spread = (
            torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std, their_mean, their_std)
        )
        # From images as the student sees them to images as the teacher does; exactly the same where both are normalised alike.
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


def _open_teacher(path: str, num_classes: int, in_channels: int) -> tuple[nn.Module, list[float], list[float]]:
    """The model, and the mean and standard deviation of the pixels that it was trained on. Raises UserError."""
    from resnet.analysis.saved import load_model, open_run  # which build a model
    from resnet.config.errors import UserError

    try:
        run = open_run(Path(path))
        model = load_model(run)[0]
    except UserError as error:
        raise UserError("\n".join(f"loss.teacher: {line}" for line in str(error).splitlines())) from None
    if (run.channels, len(run.classes)) != (in_channels, num_classes):
        theirs, own = f"{run.channels} channels and {len(run.classes)} classes", f"{in_channels} and {num_classes}"
        raise UserError(f"loss.teacher={path}: it was trained on images of {theirs}, and these have {own}; choose a run on such data")
    known = run.summary["data"]
    return model.requires_grad_(False), known["mean"], known["std"]


def as_weights(key: str, value: Any, num_classes: int, class_counts: Sequence[int]) -> Tensor | None:
    """One for each class. Raises ValueError."""
    if value is None:
        return None
    if value == "balanced":
        counts = torch.tensor(class_counts, dtype=torch.float64).clamp_min(1)  # a class without images counts as one with one
        return (sum(class_counts) / num_classes / counts).float()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(type(one) in (int, float) and one >= 0 for one in value):
        raise ValueError(f"{key}={value}: balanced is needed, or a list of numbers from 0, or null")
    if len(value) != num_classes:
        raise ValueError(f"{key}={value}: {len(value)} weights for {num_classes} classes; give one for each")
    return torch.tensor(value, dtype=torch.float32)


def weighted(losses: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Each image's with the weight of its class; of a mixed one in their shares."""
    if weights is None:
        return losses
    return losses * (weights[targets] if targets.ndim == 1 else targets @ weights.to(targets.dtype))


def as_shares(targets: Tensor, scores: Tensor) -> Tensor:
    """(N, K)"""
    return F.one_hot(targets, scores.shape[1]).to(scores.dtype) if targets.ndim == 1 else targets.to(scores.dtype)
