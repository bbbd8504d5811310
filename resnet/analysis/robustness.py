"""Accuracy on corrupted images: each corruption at five severities, as in the benchmark of Hendrycks and Dietterich (2019)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet.analysis.corruptions import SEVERITIES, corrupted
from resnet.analysis.ensemble import Ensemble
from resnet.data import Split
from resnet.data.files import fetched
from resnet.data.progress import shown

AT_ONCE = 2**22  # pixels a channel that are corrupted together


def corruption_report(ensemble: Ensemble, images: Split, indices: NDArray[np.int64], names: Sequence[str], seed: int) -> dict[str, Any]:
    """Returns the accuracy under each corruption and severity, and their means.

    `indices`: the numbers of the images in their split, which together with the seed decide what is drawn for them.
    """
    right = {(name, severity): 0 for name in names for severity in SEVERITIES}
    parts = _parts(images)
    steps = [(part, *case) for part in parts for case in right]
    decoded: tuple[NDArray[np.int64], Tensor] | None = None
    for part, name, severity in shown(steps, len(steps), "corrupting"):
        if decoded is None or decoded[0] is not part:
            decoded = part, fetched(images.subset(part).images)
        labels = images.labels[torch.from_numpy(part)]
        changed = corrupted(decoded[1], name, severity, indices[part], seed)
        right[name, severity] += int((ensemble.logits(Split(changed, labels)).argmax(1) == labels).sum())
    by_name = {name: [right[name, severity] / len(images) for severity in SEVERITIES] for name in names}
    means = np.mean(list(by_name.values()), axis=0)
    return {"corruptions": {"by_name": by_name, "mean_by_severity": means.tolist(), "mean": float(means.mean()), "seed": seed}}


def _parts(images: Split) -> list[NDArray[np.int64]]:
    """Divides the images into parts whose corrupted copies fit in memory."""
    at_once = max(AT_ONCE // int(np.prod(images.images.shape[2:])), 1)
    return np.split(np.arange(len(images)), range(at_once, len(images), at_once))
