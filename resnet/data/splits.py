"""Selects held-out images and small training subsets, by class and fixed by a separate seed.

Images of files are drawn by their names and contents: a file stays in its part when others are added. Other images are drawn by their place
in the set.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.data.errors import DataError
from resnet.data.origins import Origins

Indices = NDArray[np.int64]


def hold_out(labels: Indices, size: int | float, seed: int, origins: Origins | None, key: str = "data.val_size") -> tuple[Indices, Indices]:
    """Returns sorted indices (rest, held out).

    A number of images is divided among the classes by their shares. A share of files is met only roughly, because each file is drawn on its
    own. Each class of at least two images has one in both parts, or one group.
    """
    if origins is None:
        return stratified_split(labels, round(size * len(labels)) if isinstance(size, float) else size, seed, key)
    draws = origins.draws(seed, key)
    if isinstance(size, float):
        held_out = draws < size
    else:
        held_out = np.zeros(len(labels), dtype=bool)
        held_out[_lowest(labels, _quotas(labels, size, key), draws)] = True
    held_out = _with_every_class(labels, held_out, draws)
    if origins.groups is not None:
        groups = np.unique(np.array(origins.groups)[held_out])
        held_out = np.isin(np.array(origins.groups), groups)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def stratified_split(labels: Indices, size: int, seed: int, key: str = "data.val_size") -> tuple[Indices, Indices]:
    """Returns (rest, held out). `size` indices are held out so that each class keeps its share (largest remainders). Both are sorted."""
    held_out = _draw(labels, _quotas(labels, size, key), seed)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def fold_of_each(labels: Indices, folds: int, seed: int, origins: Origins | None) -> Indices:
    """Returns the fold of each image, from 0. Each class is divided equally; images of one group are in one fold."""
    if origins is not None and origins.groups is not None:
        from sklearn.model_selection import StratifiedGroupKFold  # takes seconds to import

        return _folds_of_groups(StratifiedGroupKFold(folds, shuffle=True, random_state=seed), labels, origins.groups)
    draws = np.random.default_rng(seed).random(len(labels)) if origins is None else origins.draws(seed, "data.folds")
    order = np.lexsort((draws, labels))  # by class, and drawn within it
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % folds
    return found


def _folds_of_groups(splitter: Any, labels: Indices, groups: Sequence[str]) -> Indices:
    if len(set(groups)) < splitter.n_splits:
        raise DataError(f"data.folds={splitter.n_splits}: only {len(set(groups))} groups are there; take at most as many folds")
    found = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes with fewer images than folds, which the notes tell
        for fold, (_, members) in enumerate(splitter.split(labels, labels, groups)):
            found[members] = fold
    return found


def balanced_subset(labels: Indices, size: int, seed: int, origins: Origins | None = None) -> Indices:
    """Returns `size` sorted indices, with the same number of each class (to within one)."""
    counts = np.bincount(labels)
    quota = np.full(len(counts), size // len(counts))
    quota[: size % len(counts)] += 1
    if (quota > counts).any():
        few = int(np.argmax(quota - counts))
        raise DataError(f"data.train_size={size}: it takes {quota[few]} images of class {few}, which has {counts[few]}; ask for fewer")
    return _draw(labels, quota, seed) if origins is None else _lowest(labels, quota, origins.draws(seed, "data.train_size"))


def _quotas(labels: Indices, size: int, key: str) -> Indices:
    """Returns how many images of each class are held out, `size` together. Each class of at least two keeps one and, if there are enough,
    gives one.
    """
    if size >= len(labels):
        raise DataError(f"{key}={size}: only {len(labels)} training images are there; hold out fewer")
    counts = np.bincount(labels)
    exact = counts * size / len(labels)
    quota = exact.astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    return _spread(quota, counts) if size else quota


def _spread(quota: Indices, counts: Indices) -> Indices:
    """Takes from the classes that give most for those that would give none, and back where a class would keep none."""
    most = (counts - 1).clip(0)
    least = np.minimum(most, 1) if quota.sum() >= (most > 0).sum() else np.zeros_like(quota)
    spread = quota.clip(least, most)
    for _ in range(abs(int(quota.sum() - spread.sum()))):
        if spread.sum() > quota.sum():
            spread[np.argmax(spread - least)] -= 1
        elif (spread < most).any():
            spread[np.argmax(most - spread)] += 1
    return spread


def _with_every_class(labels: Indices, held_out: NDArray[np.bool_], draws: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Moves one image where a class of two or more has none in a part: the one whose draw is nearest to that part."""
    held_out = held_out.copy()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        first, last = members[draws[members].argmin()], members[draws[members].argmax()]
        if draws[first] == draws[last]:  # one image, or one group
            held_out[members] = False
        elif not held_out[members].any():
            held_out[first] = True
        elif held_out[members].all():
            held_out[last] = False
    return held_out


def _draw(labels: Indices, quota: Indices, seed: int) -> Indices:
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(quota)]))


def _lowest(labels: Indices, quota: Indices, draws: NDArray[np.float64]) -> Indices:
    """Returns for each class the sorted indices of its lowest draws."""
    chosen = []
    for label, count in enumerate(quota):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(draws[members], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))
