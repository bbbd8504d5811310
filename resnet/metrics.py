"""Metrics: called with the scores (N, K) and labels (N,) of a whole split. `direction` and `unit` say how to read the value."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BINS = 15  # bins of the calibration error, as in Guo et al. 2017


class Accuracy:
    """The share of correct predictions."""

    direction, unit = "maximize", "%"

    def __call__(self, scores: Tensor, labels: Tensor) -> float:
        return float((scores.argmax(1) == labels).double().mean())


class BalancedAccuracy:
    """The mean over the classes of their recall. A class without images does not count."""

    direction, unit = "maximize", "%"

    def __call__(self, scores: Tensor, labels: Tensor) -> float:
        right, images, _ = _counts(scores, labels)
        return float((right / images)[images > 0].mean())


class MacroF1:
    """The mean over the classes of F1, the harmonic mean of precision and recall. A class without images and predictions is left out."""

    direction, unit = "maximize", "%"

    def __call__(self, scores: Tensor, labels: Tensor) -> float:
        right, images, answers = _counts(scores, labels)
        return float((2 * right / (images + answers))[images + answers > 0].mean())


class Top5:
    """The share of images whose class is among the five highest scores."""

    direction, unit = "maximize", "%"

    def __call__(self, scores: Tensor, labels: Tensor) -> float:
        order = scores.topk(min(5, scores.shape[1]), 1).indices
        return float((order == labels[:, None]).any(1).double().mean())


class CalibrationError:
    """How much predicted probabilities differ from the share of correct predictions (expected calibration error, Guo et al. 2017)."""

    direction, unit = "minimize", "%"

    def __call__(self, scores: Tensor, labels: Tensor) -> float:
        return calibration_error(scores.double().softmax(1).max(1).values, scores.argmax(1) == labels)


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by their number of images. Both inputs are (N,)."""
    confidence, right = torch.as_tensor(confidence), torch.as_tensor(right)
    bins = (confidence * BINS).long().clamp_max(BINS - 1)
    distance = torch.bincount(bins, confidence, BINS) - torch.bincount(bins, right.to(confidence.dtype), BINS)
    return float(distance.abs().sum() / len(right))


def never_predicted(answers: Any, labels: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Returns each class that has images but is never the answer, with its number of images. Both inputs are (N,)."""
    answered, images = (torch.bincount(torch.as_tensor(one), minlength=len(classes)) for one in (answers, labels))
    missed = ((images > 0) & (answered == 0)).nonzero().flatten().tolist()
    return [{"class": classes[label], "images": int(images[label])} for label in missed]


def _counts(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns, per class, the number of correct predictions, of images and of predictions."""
    answers, size = scores.argmax(1), scores.shape[1]
    counts = (torch.bincount(one, minlength=size).double() for one in (labels[answers == labels], labels, answers))
    right, images, named = counts
    return right, images, named
