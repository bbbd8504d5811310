"""Turns splits into batches. Order and augmentation depend only on (seed, epoch, batch), so any position can be reached again."""

import math
import sys
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from resnet.data.files import Mapped
from resnet.data.form import Size
from resnet.data.pipeline import Augment
from resnet.data.plans import DECODING, Plan, Plans, generator_at
from resnet.data.sources import Split
from resnet.data.transforms import centre_crop, resize
from resnet.data.workers import PART, Preparation, Stream, StreamAhead, default_workers, rows_of

SHARE_OF_MEMORY = 0.25  # of a device's free memory, the most that the images of a split may take
AT_ONCE = 1000  # images that are moved to a device


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
    cut or padded to `size`. With `balance`, each class comes equally often: images are drawn with repetition.

    Decoded images are kept on the device if they fit. Decoding, images elsewhere, and operations on one image after another are left to
    worker processes (None: as many as suit this machine). Those of a loader that shuffles also prepare the epochs to come, until it is
    closed.
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
        balance: bool = False,
        seed: int = 0,
        size: Size | None = None,
        limit: int | None = None,
        total_batches: int = 1,
        workers: int | None = 0,
        device: torch.device | None = None,
        channels_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.batch_size, self.num_classes, self.world_size = batch_size, num_classes, world_size
        self.shuffle, self.seed, self.workers, self.total_batches = shuffle, seed, workers, total_batches
        self.size = size or (augment or Augment()).output_size(split.size)
        self.augment = augment if augment is not None and shuffle else Augment()
        images, labels = split.images, split.labels
        if isinstance(images, Tensor | Mapped) and not self.augment.num_beforehand and _fits(images, self.device):
            images, labels = _moved(images, self.device), labels.to(self.device)
        self.preparation, self.labels = Preparation(images, self.augment), labels
        self.plans = Plans(
            num_images=len(labels),
            size=split.size,
            device=labels.device,
            batch_size=batch_size,
            augment=self.augment,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
            weights=_balanced(split.labels, num_classes) if shuffle and balance else None,
        )
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.scale = 1 / (255 * torch.tensor(std, device=self.device))[:, None, None]  # (C, 1, 1)
        self.offset = -(torch.tensor(mean, device=self.device) / torch.tensor(std, device=self.device))[:, None, None]
        self.num_batches = count_batches(len(self.labels), batch_size, limit, is_training=shuffle)
        self.stream: Stream | None = None  # where it stopped

    def __len__(self) -> int:
        return self.num_batches

    @property
    def num_images(self) -> int:
        """Images of one epoch, over all processes."""
        return min(len(self) * self.batch_size, len(self.labels))

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch]:
        """Yields the batches of an epoch from number `start` on."""
        first, end = epoch * len(self) + start, (epoch + 1) * len(self)
        if first >= end:
            return
        stream = self._stream(first, end)
        try:
            for position in range(first, end):
                plan, parts = stream.next()
                images = [part.to(self.device, non_blocking=True) for part in parts]
                labels = self.labels[plan.chosen].to(self.device)
                yield self._batch(plan, images[0] if len(images) == 1 else torch.cat(images), labels, position)
        finally:
            self.close()  # where another one was begun in the meantime
            self.stream = stream
            if not self.shuffle:
                self.close()

    def close(self) -> None:
        """Ends the worker processes. The next epoch starts others."""
        if self.stream is not None:
            self.stream.close()
        self.stream = None

    def _stream(self, first: int, end: int) -> Stream:
        """Returns what yields batch number `first`, counted over all epochs: the stream that stopped there, or a new one."""
        kept, self.stream = self.stream, None
        if kept is not None and kept.position == first < kept.end:
            return kept
        if kept is not None:
            kept.close()
        if self.shuffle:
            end = max(end, math.ceil(self.total_batches / len(self)) * len(self))  # that of the last epoch
        plans = self.plans.between(first, end, per_epoch=len(self))
        if not self._needs_workers():
            return Stream(self.preparation, plans, first, end)
        seed, share = generator_at(self.seed, DECODING, first), math.ceil(self.batch_size / self.world_size)
        wanted = default_workers(self.world_size) if self.workers is None else self.workers
        workers = min(wanted, (end - first) * math.ceil(share / PART))  # no more than there is to do
        is_cuda = self.device.type == "cuda"
        return StreamAhead(self.preparation, plans, first, end, workers=workers, batch_size=share, seed=seed, pin=is_cuda)

    def _needs_workers(self) -> bool:
        images = self.preparation.images
        if self.workers == 0 or not isinstance(images, Tensor | Mapped):
            return self.workers != 0
        is_shared = sys.platform == "linux"  # elsewhere a worker would get a copy of all images
        return is_shared and (self.augment.num_beforehand > 0 or self.labels.device.type != self.device.type)

    def _batch(self, plan: Plan, images: Tensor, targets: Tensor, position: int) -> Batch:
        if not self.shuffle:
            images = self._normalise(centre_crop(images, self.size))
            return Batch(images, targets, plan.batch_size)
        first = self.augment.num_beforehand
        images = self.augment.on_batches(self.augment.apply(images, plan.drawn[first:], first), plan.generator)
        images = resize(self._normalise(images), self.augment.training_size(self.plans.size, position / self.total_batches))
        images, targets = self.augment.mix(images, targets, self.num_classes, plan.generator)
        return Batch(images[plan.own], targets[plan.own], plan.batch_size, plan.is_copy)

    def _normalise(self, images: Tensor) -> Tensor:
        images = images.to(torch.float32, memory_format=self.memory_format)
        if self.memory_format == torch.contiguous_format:
            return images.mul_(self.scale).add_(self.offset)
        number, channels, height, width = images.shape
        rows = images.permute(0, 2, 3, 1).view(number, height, width * channels)  # the CPU is slow where the last dimension is short
        rows.mul_(self.scale.flatten().repeat(width)).add_(self.offset.flatten().repeat(width))
        return images


def _balanced(labels: Tensor, num_classes: int) -> Tensor:
    """Returns weights (N,) by which each class is drawn equally often."""
    return 1 / torch.bincount(labels.cpu(), minlength=num_classes)[labels.cpu()].double()


def _fits(images: Tensor | Mapped, device: torch.device) -> bool:
    """True if the images may stay on the device. On a CPU they do without being copied, also where they lie in a file."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        return True
    return math.prod(images.shape) <= SHARE_OF_MEMORY * free


def _moved(images: Tensor | Mapped, device: torch.device) -> Tensor | Mapped:
    if isinstance(images, Tensor):
        return images.to(device)
    if device.type == "cpu":
        return images
    moved = torch.empty(images.shape, dtype=torch.uint8, device=device, memory_format=torch.channels_last)
    for rows, there in zip(images.rows.split(AT_ONCE), moved.split(AT_ONCE), strict=True):
        there.copy_(rows_of(images.images, rows))
    return moved


def count_batches(num_images: int, batch_size: int, limit: int | None, is_training: bool) -> int:
    full, rest = divmod(num_images, batch_size)
    smallest = 2 if is_training else 1  # batch normalisation cannot train on one image
    return min(full + (rest >= smallest), limit or full + 1)
