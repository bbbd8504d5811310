"""Tells which images are unlike all that a model was trained on: by the distance of their features (Lee et al. 2018, arXiv:1807.03888)."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet.analysis.answering import Answering
from resnet.analysis.features import features, inputs_of, last_linear
from resnet.analysis.saved import load_data
from resnet.config import UserError
from resnet.data import Split
from resnet.record.directory import DirectoryError

KNOWN = "known.npz"  # in the run directory
TRAINING, HELD_OUT = 500, 250  # images, evenly spread
BEYOND = 0.99  # share of the held-out images that are nearer
SHRINKAGE = 0.1  # of the covariance towards a sphere, because images are few


@dataclass(frozen=True)
class Known:
    """What features of known images look like: the mean of each class (K, D), a matrix (D, D) in whose coordinates their spread is 1 in all
    directions, and the largest usual distance to the nearest mean.
    """

    means: Tensor
    scale: Tensor
    limit: float

    def distances(self, found: Tensor) -> Tensor:
        """Returns the Mahalanobis distance (N,) of features (N, D) to the nearest class."""
        return torch.cdist(found @ self.scale, self.means @ self.scale).min(1).values

    def unlike(self, found: Tensor) -> list[bool]:
        return (self.distances(found) > self.limit).tolist()  # type: ignore[no-any-return]


def known_features(answering: Answering) -> Known:
    """Returns what an earlier call kept in the run directory, or looks at the run's own data. Raises UserError without data or features."""
    which = f"{answering.file} {answering.step}"
    path = answering.run.directory / KNOWN
    with suppress(OSError, ValueError, KeyError, EOFError), np.load(path, allow_pickle=False) as kept:
        if str(kept["checkpoint"]) == which:
            return Known(torch.from_numpy(kept["means"]), torch.from_numpy(kept["scale"]), float(kept["limit"]))
    found = _look(answering)
    arrays: dict[str, Any] = {"means": found.means.numpy(), "scale": found.scale.numpy(), "limit": found.limit, "checkpoint": which}
    with suppress(DirectoryError):  # a directory that is not ours to write is as good
        answering.run.directory.write(KNOWN, lambda file: np.savez(file, **arrays))
    return found


def _look(answering: Answering) -> Known:
    data = load_data(answering.run)
    known = _spread(data.train, TRAINING)
    seen = features(answering, known, "looking at training images").features
    present = known.labels.unique()
    means = torch.stack([seen[known.labels == label].mean(0) for label in present])
    apart = seen - means[torch.searchsorted(present, known.labels)]
    covariance = apart.T @ apart / len(apart)
    sphere = covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance))
    inverse = torch.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * sphere)
    found = Known(means, torch.linalg.cholesky(inverse), 0.0)
    if data.val is None:
        return Known(means, found.scale, float(found.distances(seen).max()))
    held_out = features(answering, _spread(data.val, HELD_OUT), "looking at held-out images").features
    return Known(means, found.scale, float(found.distances(held_out).quantile(BEYOND)))


def _spread(split: Split, most: int) -> Split:
    return split.subset(np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(np.int64)))


def answers_and_likeness(answering: Answering, images: Split) -> tuple[Tensor, list[bool] | None, str]:
    """Returns the logits, and whether each image is unlike the known ones; or None, and the reason why that is not known."""
    try:
        known, layer = known_features(answering), last_linear(answering.network, len(answering.run.classes))
    except UserError as error:
        return answering.logits(images), None, str(error)
    with inputs_of(layer) as seen:
        logits = answering.logits(images)
    return logits, known.unlike(torch.cat([batch.flatten(1).float().cpu() for batch in seen])), ""
