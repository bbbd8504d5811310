"""Which images come in which batch, and what is drawn for them: it depends on (seed, epoch, batch) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from resnet.data.form import Size
from resnet.data.pipeline import Augment
from resnet.data.transforms import to_device

ORDER, GEOMETRY, DECODING = 0, 1, 2  # streams of random numbers


@dataclass(frozen=True)
class Plan:
    """What is done to the images of one batch that a process needs."""

    chosen: Tensor  # (n,) which of the split's images, on the device where these are
    drawn: Sequence[Tensor | None]  # parameters of the operations on single images, (n, ...)
    generator: Generator  # of what is drawn later
    own: slice  # those that are left after mixing
    batch_size: int  # images of all processes together
    is_copy: bool = False  # True if the first process has and counts the same images


@dataclass(frozen=True, kw_only=True)
class Plans:
    """The plans of one process for `num_images` of a size, which are on a device."""

    num_images: int
    size: Size
    device: torch.device
    batch_size: int  # images of all processes together
    augment: Augment
    shuffle: bool
    seed: int
    rank: int
    world_size: int
    weights: Tensor | None = None  # (num_images,) how often each image comes, on the CPU; None: once an epoch

    def between(self, first: int, end: int, per_epoch: int) -> Iterator[Plan]:
        """Yields the plans of batches `first` to `end`, counted over all epochs."""
        for position in range(first, end):
            epoch, index = divmod(position, per_epoch)
            if index == 0 or position == first:
                order = self._order(epoch)
            yield self._plan(order[index * self.batch_size :][: self.batch_size], epoch, index)

    def _order(self, epoch: int) -> Tensor:
        """Draws the order on the CPU, so that it is the same for every device. Moves it to the device once per epoch."""
        if not self.shuffle:
            return torch.arange(self.num_images, device=self.device)
        generator = generator_at(self.seed, ORDER, epoch)
        if self.weights is None:
            return to_device(torch.randperm(self.num_images, generator=generator), self.device)
        return to_device(torch.multinomial(self.weights, self.num_images, replacement=True, generator=generator), self.device)

    def _plan(self, batch: Tensor, epoch: int, index: int) -> Plan:
        """Draws the parameters of the whole batch, and keeps those of the images that this process needs."""
        generator = generator_at(self.seed, GEOMETRY, epoch, index)
        drawn = self.augment.draw(len(batch), self.size, generator)
        if self.shuffle and len(batch) < 2 * self.world_size:  # too few to divide: each process takes them all
            return Plan(batch, drawn, generator, slice(None), len(batch) * self.world_size, is_copy=self.rank > 0)
        needed, own = self._share(len(batch))
        return Plan(batch[needed], [one if one is None else one[needed] for one in drawn], generator, own, len(batch))

    def _share(self, number: int) -> tuple[slice | Tensor, slice]:
        """Returns which images of a batch of this many the process needs, and which of these are its own."""
        mine = slice(self.rank, None, self.world_size)
        if self.world_size == 1 or not (self.augment.mixes or self.augment.needs_whole_batch):
            return mine, slice(None)
        if self.augment.needs_whole_batch:
            return slice(None), mine
        places = torch.arange(number)[mine]
        return torch.stack([(places - 1) % number, places], 1).flatten(), slice(1, None, 2)  # each after the one that it is mixed with


def generator_at(*position: Any) -> Generator:
    """Returns a generator for one position; nearby positions are independent."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1))
