"""Selects held-out images and small training subsets, by class and fixed by a separate seed."""

import numpy as np
from numpy.typing import NDArray

from resnet.data.errors import DataError

Indices = NDArray[np.int64]


def stratified_split(labels: Indices, size: int, seed: int) -> tuple[Indices, Indices]:
    """Returns (rest, held out). `size` indices are held out so that each class keeps its share (largest remainders). Both are sorted."""
    if size >= len(labels):
        raise DataError(f"data.val_size={size}: only {len(labels)} training images are there; hold out fewer")
    counts = np.bincount(labels)
    exact = counts * size / len(labels)
    quota = exact.astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    held_out = _draw(labels, quota, seed)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def balanced_subset(labels: Indices, size: int, seed: int) -> Indices:
    """Returns `size` sorted indices, with the same number of each class (to within one)."""
    counts = np.bincount(labels)
    quota = np.full(len(counts), size // len(counts))
    quota[: size % len(counts)] += 1
    if (quota > counts).any():
        few = int(np.argmax(quota - counts))
        raise DataError(f"data.train_size={size}: it takes {quota[few]} images of class {few}, which has {counts[few]}; ask for fewer")
    return _draw(labels, quota, seed)


def _draw(labels: Indices, quota: Indices, seed: int) -> Indices:
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(quota)]))
