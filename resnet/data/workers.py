"""Prepares the images of batches, in their order: in this process, or ahead of time in worker processes."""

import atexit
import ctypes
import math
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, cast
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from resnet.config.launched import is_torchrun, started_processes
from resnet.data.errors import DataError
from resnet.data.files import Mapped, OnDemand
from resnet.data.pipeline import Augment
from resnet.data.plans import Plan
from resnet.interrupt import SIGNALS

PART = 32  # the most images that a worker prepares at a time: small sets occupy all workers too, and what is ahead takes little memory
AHEAD = 2  # batches that are ready, and parts that each worker has been given besides
MOST_WORKERS = 16  # by default
ENDS_WITH_PARENT = 1  # Linux's PR_SET_PDEATHSIG


class Preparation(Dataset[Any]):
    """Selects or decodes images, and applies the operations that are done before the images are on their device."""

    def __init__(self, images: Tensor | OnDemand, augment: Augment) -> None:
        self.images, self.augment = images, augment

    def prepare(self, chosen: Tensor, drawn: Sequence[Tensor | None]) -> Tensor:
        """Returns (n, C, H, W) uint8."""
        return self.augment.apply(self._select(chosen), drawn[: self.augment.num_beforehand])

    def _select(self, chosen: Tensor) -> Tensor:
        if isinstance(self.images, Tensor):
            return rows_of(self.images, chosen)
        if isinstance(self.images, Mapped):
            return rows_of(self.images.images, self.images.rows[chosen])
        _, channels, height, width = self.images.shape
        images = torch.empty(len(chosen), height, width, channels, dtype=torch.uint8).permute(0, 3, 1, 2)  # as a picture's bytes lie
        for place, index in enumerate(chosen.tolist()):
            images[place] = self.images.decode(index)
        return images

    def __getitem__(self, part: "Part") -> Tensor | DataError:
        """Returns a mistake in place of raising it: torch would put a traceback around it."""
        try:
            return self.prepare(torch.from_numpy(part.chosen), [one if one is None else torch.from_numpy(one) for one in part.drawn])
        except DataError as error:
            return error


def rows_of(images: Tensor, rows: Tensor) -> Tensor:
    """Selects images, in the order in which their bytes lie. PyTorch would put the colours of a picture's pixels apart."""
    if images.stride(1) == 1:
        return images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return images.index_select(0, rows)


class Part(NamedTuple):
    """A part of a plan as workers get it: in arrays, since torch would open a file of shared memory for each tensor."""

    chosen: NDArray[Any]
    drawn: list[NDArray[Any] | None]


class Stream:
    """Gives plans with their images, which this process prepares, from batch number `position` to `end`, counted over all epochs."""

    def __init__(self, preparation: Preparation, plans: Iterator[Plan], position: int, end: int) -> None:
        self.preparation, self.plans, self.position, self.end = preparation, plans, position, end

    def next(self) -> tuple[Plan, list[Tensor]]:
        """Returns the images in parts, each (n, C, H, W) uint8. Raises DataError where one cannot be read."""
        position, self.position = self.position, -1  # it stands nowhere if it fails
        plan, images = self._next()
        self.position = position + 1
        return plan, images

    def _next(self) -> tuple[Plan, list[Tensor]]:
        plan = next(self.plans)
        return plan, [self.preparation.prepare(plan.chosen, plan.drawn)]

    def close(self) -> None:
        """Ends what was begun for later batches."""


class StreamAhead(Stream):
    """Has worker processes prepare them ahead of time, until it is closed."""

    def __init__(
        self,
        preparation: Preparation,
        plans: Iterator[Plan],
        position: int,
        end: int,
        *,
        workers: int,
        batch_size: int,
        seed: Generator,
        pin: bool,
    ) -> None:
        super().__init__(preparation, plans, position, end)
        self.begun: deque[tuple[Plan, int]] = deque()  # plans whose parts the workers have been given, and how many
        with warnings.catch_warnings(action="ignore"):  # that these are more than the cores: the user has asked for them
            loader = DataLoader(
                preparation,
                batch_size=None,
                sampler=_parts(plans, self.begun, preparation.augment.num_beforehand),
                num_workers=workers,
                prefetch_factor=AHEAD + math.ceil(AHEAD * math.ceil(batch_size / PART) / workers),
                multiprocessing_context="fork" if sys.platform == "linux" else None,  # Python 3.14's would import torch in each worker
                pin_memory=pin,
                worker_init_fn=_begin_worker,
                generator=seed,  # else it would draw from torch's own generator, as dropout does
            )
            self.parts = cast(_MultiProcessingDataLoaderIter, iter(loader))
        if not _open:
            Finalize(None, close_all, exitpriority=20)  # as atexit, where this process is itself one of multiprocessing's
        _open.add(self)

    def _next(self) -> tuple[Plan, list[Tensor]]:
        plan, number = self.begun.popleft()
        return plan, [self._next_part() for _ in range(number)]

    def _next_part(self) -> Tensor:
        part = next(self.parts)
        if isinstance(part, DataError):
            raise part
        return part

    def close(self) -> None:
        self.parts._shutdown_workers()
        _open.discard(self)


_open: WeakSet[StreamAhead] = WeakSet()


@atexit.register  # after torch and multiprocessing, so called before they end workers by SIGTERM, which those ignore, and wait for them
def close_all() -> None:
    for stream in list(_open):
        stream.close()


def _parts(plans: Iterator[Plan], begun: deque[tuple[Plan, int]], num_operations: int) -> Iterator[Part]:
    """Yields the parts of the plans, as workers have room for them, and notes how many each plan has."""
    for plan in plans:
        number = max(math.ceil(len(plan.chosen) / PART), 1)
        begun.append((plan, number))
        chosen, *drawn = (_split(values, number) for values in (plan.chosen, *plan.drawn[:num_operations]))
        for part in range(number):
            yield Part(chosen[part], [values[part] for values in drawn])


def _split(values: Tensor | None, number: int) -> list[Any]:
    return [None] * number if values is None else np.array_split(values.numpy(), number)


def _begin_worker(worker: int) -> None:
    """Ignores signals in a worker. They are for the training process, which saves and then ends its workers; if it is killed, they end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ENDS_WITH_PARENT, signal.SIGKILL)


def default_workers(world_size: int) -> int:
    """Returns how many workers each of the processes of a run gets: its share of this machine's cores, or as many as OMP_NUM_THREADS
    allows, as in the jobs of a parallel sweep.
    """
    from joblib import cpu_count  # imported here because it is slow; it also knows the limits of a container

    processes, _ = started_processes() or (world_size, 1)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(threads) if threads.isdecimal() and not is_torchrun() else MOST_WORKERS  # torchrun sets it to 1
    return max(1, min(cpu_count() // processes, limit, MOST_WORKERS))
