"""Turns splits into batches. Order and augmentation depend only on (seed, epoch, batch), so any position can be reached again."""

import signal
import sys
from collections.abc import Generator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from resnet.data.files import OnDemand
from resnet.data.form import Size
from resnet.data.pipeline import Augment
from resnet.data.sources import Split
from resnet.data.transforms import centre_crop, resize, to_device
from resnet.interrupt import SIGNALS

ORDER, GEOMETRY, DECODING = 0, 1, 2  # streams of random numbers


class Batch(NamedTuple):
    """The share of one process in a batch."""

    images: Tensor  # (N, C, H, W) float, normalised
    targets: Tensor  # (N,) labels, or (N, K) probabilities if mixed
    batch_size: int  # images of all processes together
    is_copy: bool = False  # True if the first process has and counts the same images


class Loader:
    """Batches of a split.

    `batch_size` is the total over all processes; each process gets every world_size-th image. With `shuffle`, images come in a new order
    each epoch and augmented; their size depends on the share of `total_batches` that is done. Without it, they keep their own order and are
    cut or padded to `size`. Images in memory are kept on the device.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        augment: Augment | None = None,
        *,
        mean: list[float],
        std: list[float],
        num_classes: int,
        shuffle: bool,
        seed: int = 0,
        size: Size | None = None,
        limit: int | None = None,
        total_batches: int = 1,
        workers: int = 0,
        device: torch.device | None = None,
        channels_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.device = device or torch.device("cpu")
        in_memory = isinstance(split.images, Tensor)
        self.images = split.images.to(self.device) if in_memory else split.images  # type: ignore[union-attr]
        self.labels = split.labels.to(self.device)
        self.batch_size, self.augment, self.num_classes = batch_size, augment or Augment(), num_classes
        self.size = size or self.augment.output_size(split.size)
        self.shuffle, self.seed, self.workers, self.total_batches = shuffle, seed, workers, total_batches
        self.rank, self.world_size = rank, world_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.scale = 1 / (255 * torch.tensor(std, device=self.device))[:, None, None]  # (C, 1, 1)
        self.offset = -(torch.tensor(mean, device=self.device) / torch.tensor(std, device=self.device))[:, None, None]
        self.num_batches = count_batches(len(self.labels), batch_size, limit, is_training=shuffle)

    def __len__(self) -> int:
        return self.num_batches

    @property
    def num_images(self) -> int:
        """Images of one epoch, over all processes."""
        return min(len(self) * self.batch_size, len(self.labels))

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch]:
        """Yields the batches of an epoch from number `start` on."""
        order = self._order(epoch)
        batches = [order[index * self.batch_size :][: self.batch_size] for index in range(start, len(self))]
        with closing(self._fetch(batches, epoch)) as fetched:
            for index, images, chosen in zip(range(start, len(self)), fetched, batches, strict=True):
                images, labels = images.to(self.device, non_blocking=True), self.labels[chosen]
                yield self._for_training(images, labels, epoch, index) if self.shuffle else self._as_it_is(images, labels)

    def _order(self, epoch: int) -> Tensor:
        """Draws the order on the CPU, so that it is the same for every device. Moves it to the device once per epoch."""
        if not self.shuffle:
            return torch.arange(len(self.labels), device=self.device)
        return to_device(torch.randperm(len(self.labels), generator=_generator(self.seed, ORDER, epoch)), self.device)

    def _fetch(self, batches: list[Tensor], epoch: int) -> Generator[Tensor]:
        """Yields the uint8 images of each batch: selected by index, or decoded ahead of time by worker processes."""
        if isinstance(self.images, Tensor):
            for chosen in batches:
                yield self.images[chosen]
            return
        loader = DataLoader(
            _Decoded(self.images),
            batch_sampler=[chosen.tolist() for chosen in batches],  # type: ignore[arg-type]
            num_workers=self.workers,
            # Python 3.14's default would import torch in each worker, every epoch.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_ignore_signals,
            generator=_generator(self.seed, DECODING, epoch),  # else it would draw from torch's own generator, as dropout does
        )
        fetched = iter(loader)
        try:
            yield from fetched
        finally:
            if isinstance(fetched, _MultiProcessingDataLoaderIter):  # before exit, when Python ends workers by SIGTERM, which they ignore
                fetched._shutdown_workers()

    def _for_training(self, images: Tensor, targets: Tensor, epoch: int, index: int) -> Batch:
        generator = _generator(self.seed, GEOMETRY, epoch, index)
        size = self.augment.training_size((images.shape[-2], images.shape[-1]), (epoch * len(self) + index) / self.total_batches)
        images = resize(self._normalise(self.augment.geometry(images, generator)), size)
        images, targets = self.augment.mix(images, targets, self.num_classes, generator)
        if len(images) < 2 * self.world_size:  # too few to divide: each process takes them all
            return Batch(images, targets, len(images) * self.world_size, is_copy=self.rank > 0)
        return self._dealt(images, targets)

    def _as_it_is(self, images: Tensor, labels: Tensor) -> Batch:
        return self._dealt(self._normalise(centre_crop(images, self.size)), labels)

    def _dealt(self, images: Tensor, targets: Tensor) -> Batch:
        return Batch(images[self.rank :: self.world_size], targets[self.rank :: self.world_size], len(images))

    def _normalise(self, images: Tensor) -> Tensor:
        images = images.to(torch.float32, memory_format=self.memory_format)
        return images.mul_(self.scale).add_(self.offset)


def count_batches(num_images: int, batch_size: int, limit: int | None, is_training: bool) -> int:
    full, rest = divmod(num_images, batch_size)
    smallest = 2 if is_training else 1  # batch normalisation cannot train on one image
    return min(full + (rest >= smallest), limit or full + 1)


class _Decoded(Dataset[Tensor]):
    """Image files as a map-style data set for torch's DataLoader."""

    def __init__(self, files: OnDemand) -> None:
        self.files = files

    def __getitem__(self, index: int) -> Tensor:
        return self.files.decode(index)


def _ignore_signals(worker: int) -> None:
    """Ignores signals in a worker. They are for the training process, which saves and then ends its workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _generator(*position: Any) -> torch.Generator:
    """Returns a generator for one position; nearby positions are independent."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1))
