"""A source and its splits, as the rest of the project uses them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from resnet.data.digest import data_digests
from resnet.data.errors import DataError
from resnet.data.form import Size
from resnet.data.sources import Source, Split, with_test_set
from resnet.data.splits import balanced_subset, fold_of_each, hold_out
from resnet.data.statistics import channel_statistics, class_notes

PerChannel = float | Sequence[float] | None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Train, held-out and test split (held-out may be None). mean and std are per channel, of pixels in 0..1."""

    train: Split
    val: Split | None
    test: Split
    whole: Split | None = None  # all images that folds divide
    classes: list[str]
    pictures: str = "photos"
    notes: Sequence[str] = ()
    unreadable: Sequence[str] = ()
    mean: list[float]
    std: list[float]

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def size(self) -> Size:
        return self.train.size

    @cached_property
    def digests(self) -> dict[str, str]:
        """sha256 of each split and of the class names. It identifies the training data wherever they are stored. Raises DataError."""
        return data_digests({"train": self.train, "val": self.val, "test": self.test, "whole": self.whole}, self.classes)


def _with_classes(source: Source, only: Sequence[str]) -> Source:
    """Keeps the images of some classes, whose labels then count from 0 in the given order."""
    if unknown := [name for name in only if name not in source.classes]:
        raise DataError(f"data.only: {unknown[0]}: no such class; there are {', '.join(source.classes)}")
    if len(set(only)) < max(len(only), 2):
        raise DataError(f"data.only=[{','.join(only)}]: at least two classes are needed, each once")
    number = torch.full((len(source.classes),), -1)
    number[[source.classes.index(name) for name in only]] = torch.arange(len(only))

    def kept(split: Split | None) -> Split | None:
        if split is None:
            return None
        chosen = split.subset(np.flatnonzero(number[split.labels].numpy() >= 0))
        return replace(chosen, labels=number[chosen.labels])

    train = kept(source.train)
    assert train is not None
    return replace(source, train=train, val=kept(source.val), test=kept(source.test), classes=list(only))


def _with_fold(source: Source, folds: int, fold: int, split_seed: int) -> Source:
    """Makes one fold of the training images the test set."""
    labels = source.train.labels.numpy()
    if folds > len(labels):
        raise DataError(f"data.folds={folds}: only {len(labels)} training images are there; take fewer folds")
    held_out = fold_of_each(labels, folds, split_seed, source.train.origins) == fold
    told = f"cross-validation: fold {fold} of {folds} of the training images is the test set"
    own = "" if source.test is None else "; the data's own test set is not touched"
    train, test = (source.train.subset(np.flatnonzero(chosen)) for chosen in (~held_out, held_out))
    return replace(source, train=train, test=test, notes=[*source.notes, told + own])


def split_dataset(
    source: Source,
    *,
    mean: PerChannel,
    std: PerChannel,
    val_size: int | float,
    train_size: int | None,
    split_seed: int,
    only: Sequence[str] | None = None,
    folds: int | None = None,
    fold: int = 0,
) -> DataSet:
    """Raises DataError if the source does not fit the settings."""
    source = _with_classes(source, only) if only is not None else source
    whole = source.train if folds else None
    source = _with_fold(source, folds, fold, split_seed) if folds else with_test_set(source, split_seed)
    assert source.test is not None
    train, val, notes = source.train, source.val, list[str]()
    if val_size and val is None:
        rest, held_out = hold_out(train.labels.numpy(), val_size, split_seed, train.origins)
        if len(held_out):
            train, val = train.subset(rest), train.subset(held_out)
        else:
            notes.append(f"warning: nothing is held out: the classes have too few images for data.val_size={val_size}")
    if train_size:
        train = train.subset(balanced_subset(train.labels.numpy(), train_size, split_seed, train.origins))
    channels = train.images.shape[1]
    computed = channel_statistics(train.images) if mean is None or std is None else ([], [], [])
    return DataSet(
        train=train,
        whole=whole,
        val=val,
        test=source.test,
        classes=source.classes,
        pictures=source.pictures,
        unreadable=source.unreadable,
        notes=[*source.notes, *notes, *class_notes({"train": train, "val": val, "test": source.test}, source.classes), *computed[2]],
        mean=computed[0] if mean is None else _per_channel("mean", mean, channels),
        std=computed[1] if std is None else _per_channel("std", std, channels),
    )


def _per_channel(key: str, given: PerChannel, channels: int) -> list[float]:
    values = [float(value) for value in (given if isinstance(given, Sequence) else [given])]  # type: ignore[arg-type]
    if len(values) not in (1, channels):
        raise DataError(f"data.{key}={given}: {len(values)} values, where the images have {channels} channels; give one, or one for each")
    return values * channels if len(values) == 1 else values
