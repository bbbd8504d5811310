"""Losses: modules called with scores (N, K) and targets. Targets are labels (N,), or class probabilities (N, K) if images are mixed.

They return one value per image (N,), or the mean over the images. val/loss and test/loss are their values in eval mode.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossEntropy(nn.Module):
    """Cross entropy. `smoothing` is the share of a target that is spread evenly over all classes, only in training.

    `class_weights`: "balanced" (number of images / classes / images of the class), or one weight per class. Each image counts with the
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
        """Returns the sum over the images, without smoothing."""
        if self.weights is None:
            return F.cross_entropy(scores, targets, reduction="sum")
        return weighted(F.cross_entropy(scores, targets, reduction="none"), targets, self.weights).sum()


class BCE(nn.Module):
    """One-vs-rest loss: the mean over the classes of their binary cross entropies."""

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
    """Cross entropy in which each image is weighted by (1 - p)^gamma, so that confident correct predictions count less (Lin et al. 2017).

    `alpha`: a weight per class, like `class_weights` of CrossEntropy.
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
        # If p is 1, the gradient of the power would not be finite.
        losses = -(as_shares(targets, scores) * (1 - log.exp()).clamp_min(torch.finfo(log.dtype).tiny) ** self.gamma * log).sum(1)
        return weighted(losses, targets, self.weights)


def as_weights(key: str, value: Any, num_classes: int, class_counts: Sequence[int]) -> Tensor | None:
    """Returns one weight per class. Raises ValueError."""
    if value is None:
        return None
    if value == "balanced":
        counts = torch.tensor(class_counts, dtype=torch.float64).clamp_min(1)  # a class without images counts like one with a single image
        return (sum(class_counts) / num_classes / counts).float()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(type(one) in (int, float) and one >= 0 for one in value):
        raise ValueError(f"{key}={value}: balanced is needed, or a list of numbers from 0, or null")
    if len(value) != num_classes:
        raise ValueError(f"{key}={value}: {len(value)} weights for {num_classes} classes; give one for each")
    return torch.tensor(value, dtype=torch.float32)


def weighted(losses: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Multiplies each image's loss by the weight of its class; mixed images by the weights of their classes in proportion."""
    if weights is None:
        return losses
    return losses * (weights[targets] if targets.ndim == 1 else targets @ weights.to(targets.dtype))


def as_shares(targets: Tensor, scores: Tensor) -> Tensor:
    """Returns class probabilities (N, K)."""
    return F.one_hot(targets, scores.shape[1]).to(scores.dtype) if targets.ndim == 1 else targets.to(scores.dtype)
