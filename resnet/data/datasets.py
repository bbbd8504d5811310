"""A source and its splits, as the rest of the project uses them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from resnet.data.digest import data_digests
from resnet.data.errors import DataError
from resnet.data.files import ImageFiles
from resnet.data.form import Size
from resnet.data.sources import Source, Split, with_test_set
from resnet.data.splits import balanced_subset, stratified_split

PerChannel = float | Sequence[float] | None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Train, held-out and test split (held-out may be None). mean and std are per channel, of pixels in 0..1."""

    train: Split
    val: Split | None
    test: Split
    classes: list[str]
    pictures: str = "photos"
    notes: Sequence[str] = ()
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
        return data_digests({"train": self.train, "val": self.val, "test": self.test}, self.classes)


def split_dataset(
    source: Source, *, mean: PerChannel, std: PerChannel, val_size: int | float, train_size: int | None, split_seed: int
) -> DataSet:
    """Raises DataError if the source does not fit the settings."""
    source = with_test_set(source, split_seed)
    assert source.test is not None
    train, val = source.train, source.val
    if val_size and val is None:
        rest, held_out = stratified_split(train.labels.numpy(), _number(val_size, len(train)), split_seed)
        train, val = train.subset(rest), train.subset(held_out)
    if train_size:
        train = train.subset(balanced_subset(train.labels.numpy(), train_size, split_seed))
    channels = train.images.shape[1]
    computed = channel_statistics(train.images) if mean is None or std is None else ([], [])
    return DataSet(
        train=train,
        val=val,
        test=source.test,
        classes=source.classes,
        pictures=source.pictures,
        notes=source.notes,
        mean=computed[0] if mean is None else _per_channel("mean", mean, channels),
        std=computed[1] if std is None else _per_channel("std", std, channels),
    )


def _number(size: int | float, of: int) -> int:
    return round(size * of) if isinstance(size, float) else size


def channel_statistics(images: Tensor | ImageFiles) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel, for pixels in 0..1. They are exact, from the counts of the 256 values."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for batch in _in_batches(images):
        for channel, values in enumerate(batch.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    share = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std > 0, std, 1.0)  # a constant channel is only shifted to zero
    return mean.tolist(), std.tolist()


def _in_batches(images: Tensor | ImageFiles) -> Iterator[Tensor]:
    if isinstance(images, Tensor):
        yield from images.split(10_000)
    else:
        for index in range(len(images)):
            yield images.decode(index)[None]


def _per_channel(key: str, given: PerChannel, channels: int) -> list[float]:
    values = [float(value) for value in (given if isinstance(given, Sequence) else [given])]  # type: ignore[arg-type]
    if len(values) not in (1, channels):
        raise DataError(f"data.{key}={given}: {len(values)} values, where the images have {channels} channels; give one, or one for each")
    return values * channels if len(values) == 1 else values
