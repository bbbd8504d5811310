"""Who decodes and augments which images, and when: the same batches from any number of workers and processes, and nothing left behind."""

import gc
import multiprocessing
import os
import random
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
from torch import Tensor

from resnet.data import Augment, DataError, Loader, Split
from resnet.data.augment import Affine, Crop, CutMix, Cutout, Flip, Mixup, RandomResizedCrop
from resnet.data.files import Mapped
from resnet.data.workers import default_workers

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are started in another way")


class Files:
    """Files that are images of one colour each. `decoded` counts, over all processes, how often each was decoded."""

    def __init__(self, number: int, size: tuple[int, int] = (12, 16), broken: int | None = None) -> None:
        self.shape, self.broken = (number, 3, *size), broken
        self.decoded = torch.zeros(number, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return self.shape[0]

    def decode(self, index: int) -> Tensor:
        if index == self.broken:
            raise DataError(f"{index}.jpg: truncated")
        self.decoded[index] += 1
        rows, columns = torch.meshgrid(*(torch.arange(side) for side in self.shape[2:]), indexing="ij")
        return torch.stack([(index + step * (rows + columns)) % 256 for step in (0, 3, 7)]).to(torch.uint8)


class Invert:
    """One's own operation on whole batches."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, 255 - images, images)


class Noise:
    """One's own operation on single images, from three generators."""

    def __call__(self, image: Tensor) -> Tensor:
        added = random.randrange(9) + int(np.random.randint(9)) + int(torch.randint(9, ()))
        return (image // 2 + added).to(torch.uint8)


def loader(images: Any, *operations: Any, **settings: Any) -> Loader:
    settings = {"batch_size": 40, "mean": [0.5] * 3, "std": [0.25] * 3, "num_classes": 5, "shuffle": True, **settings}
    return Loader(Split(images, torch.arange(len(images)) % 5), augment=Augment(operations), **settings)


def batches(one: Loader, epoch: int = 0, start: int = 0) -> list[Any]:
    return list(one.epoch(epoch, start))


def assert_same(ones: list[Any], others: list[Any]) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets) and one[2:] == other[2:]


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def in_memory(files: Files) -> Tensor:
    return torch.stack([files.decode(index) for index in range(len(files))])


OPERATIONS = {
    "photo": [RandomResizedCrop([8, 10]), Flip(0.5)],
    "strong": [RandomResizedCrop(9), Flip(0.5), T.TrivialAugmentWide(), Noise(), T.RandomErasing(0.5)],
    "afterwards": [Affine(rotate=20), Noise(), Crop(pad=2), Cutout(0.5), Mixup(0.5)],
    "whole batches": [Crop(pad=1), T.RandomErasing(0.5), Invert(), Noise(), CutMix(1.0)],
}


@pytest.mark.parametrize("operations", OPERATIONS.values(), ids=OPERATIONS)
def test_workers_change_no_image(operations) -> None:
    files = Files(100)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    expected = [batches(loader(files, *operations, workers=0), epoch) for epoch in range(3)]
    backwards = torch.arange(99, -1, -1)
    mapped = Mapped(in_memory(files)[backwards], backwards)
    for images, workers in ((files, 1), (files, 3), (in_memory(files), 0), (in_memory(files), 2), (mapped, 0), (mapped, 2)):
        again = loader(images, *operations, workers=workers, total_batches=9)
        for epoch in range(3):
            assert_same(expected[epoch], batches(again, epoch))
        assert_same(expected[1][2:], batches(again, 1, start=2))
        assert_same(expected[2], batches(again, 2))
        again.close()
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


@pytest.mark.parametrize("operations", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_out_the_images_of_one(operations, world_size) -> None:
    files = Files(90)  # the last batch has ten
    whole = batches(loader(files, *operations))
    for rank in range(world_size):
        for one, share in zip(whole, batches(loader(files, *operations, rank=rank, world_size=world_size)), strict=True):
            assert torch.equal(share.images, one.images[rank::world_size]) and torch.equal(share.targets, one.targets[rank::world_size])
            assert share.batch_size == one.batch_size and not share.is_copy


@pytest.mark.parametrize(
    ("operations", "share"),
    [
        ([RandomResizedCrop(8), Flip(0.5), T.RandomErasing(0.5)], {1: 1, 2: 1 / 2, 4: 1 / 4}),
        ([Flip(0.5), Mixup(0.5)], {1: 1, 2: 1, 4: 1 / 2}),  # each image with its partner
        ([Flip(0.5), CutMix(1.0)], {1: 1, 2: 1, 4: 1 / 2}),
        ([Flip(0.5), Invert()], {1: 1, 2: 1, 4: 1}),  # what it does with a part of a batch is not known
    ],
)
def test_a_process_decodes_its_share(operations, share) -> None:
    for world_size, expected in share.items():
        files = Files(160)
        for rank in range(world_size):
            before = int(files.decoded.sum())
            batches(loader(files, *operations, rank=rank, world_size=world_size))
            assert int(files.decoded.sum()) - before == expected * len(files)
        assert files.decoded.unique().tolist() == [expected * world_size]


def test_each_image_is_evaluated_by_one_process() -> None:
    files = Files(83)
    whole = batches(loader(files, shuffle=False, size=(12, 12)))
    files.decoded.zero_()
    shares = [batches(loader(files, shuffle=False, size=(12, 12), rank=rank, world_size=4, workers=2)) for rank in range(4)]
    assert files.decoded.tolist() == [1] * 83 and [len(share[-1].images) for share in shares] == [1, 1, 1, 0]
    for rank, share in enumerate(shares):
        assert all(torch.equal(one.images[rank::4], own.images) for one, own in zip(whole, share, strict=True))


@ONLY_LINUX
def test_workers_stay_over_epochs_and_prepare_the_next_one_meanwhile() -> None:
    files = Files(1000)
    train = loader(files, Flip(0.5), workers=2, total_batches=100)
    batches(train)
    first = children()
    deadline = time.monotonic() + 20
    while int(files.decoded.sum()) < 1080 and time.monotonic() < deadline:  # while something else is done, such as an evaluation
        time.sleep(0.01)
    time.sleep(0.2)
    assert 1080 <= int(files.decoded.sum()) <= 1000 + 2 * 40 + 2 * 2 * 32  # a little ahead, however many there are
    batches(train, 1)
    assert len(first) == 2 and children() == first
    evaluated = loader(files, shuffle=False, workers=2)
    next(evaluation := evaluated.epoch())
    assert len(children()) == 4
    evaluation.close()
    assert children() == first
    train.close()
    assert not children()


@ONLY_LINUX
@pytest.mark.parametrize("how", ["close", "forgotten", "error", "elsewhere"])
def test_no_worker_and_no_thread_is_left(how) -> None:
    threads = set(threading.enumerate())
    train = loader(Files(400), Flip(0.5), workers=2, total_batches=100)
    given = train.epoch()
    next(given)
    begun = children()
    assert len(begun) == 2
    if how == "close":
        given.close()
        train.close()
    elif how == "error":
        with pytest.raises(ValueError, match="loss"):
            given.throw(ValueError("loss"))
        train.close()
    elif how == "elsewhere":  # another position: those that prepared the old one end
        given.close()
        next(train.epoch(3, start=1))
        assert len(children()) == 2 and not children() & begun
        train.close()
    del given, train
    gc.collect()
    assert not children()
    deadline = time.monotonic() + 5
    while not set(threading.enumerate()) <= threads and time.monotonic() < deadline:  # those of closed queues are about to end
        time.sleep(0.01)
    assert set(threading.enumerate()) <= threads


def test_images_in_memory_need_no_workers_for_operations_on_batches() -> None:
    train = loader(in_memory(Files(80)), RandomResizedCrop(8), Flip(0.5), Mixup(0.2), workers=2)
    next(train.epoch())
    assert not children()


def test_two_passes_at_once_are_each_whole() -> None:
    train = loader(Files(100), Flip(0.5), workers=1, total_batches=9)
    expected = batches(train)
    one, other = train.epoch(), train.epoch()
    pairs = list(zip(one, other, strict=True))
    assert_same(expected, [pair[0] for pair in pairs])
    assert_same(expected, [pair[1] for pair in pairs])
    train.close()
    assert not children()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_cannot_be_read_is_one_line(workers) -> None:
    train = loader(Files(100, broken=17), Flip(0.5), workers=workers)
    with pytest.raises(DataError) as error:
        batches(train)
    assert str(error.value) == "17.jpg: truncated"
    with pytest.raises(DataError):
        batches(train)
    train.close()
    assert not children()


def test_the_limit_of_threads_is_one_of_workers_but_torchrun_s(monkeypatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [default_workers(processes) for processes in (1, 8, 100)] == [16, 8, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [default_workers(processes) for processes in (1, 8, 32)] == [3, 3, 2]
    for key, value in {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}.items():
        monkeypatch.setenv(key, value)
    assert default_workers(16) == 8


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
from test_loading import Files, Flip, children, loader
train = loader(Files(4000), Flip(0.5), workers=2, total_batches=1000)
given = train.epoch()
next(given)
print(*children(), flush=True)
{then}
"""


@ONLY_LINUX
@pytest.mark.parametrize("then", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "sys.exit()", "given = None"])
def test_workers_end_with_their_process(tmp_path, then) -> None:
    """At its normal end too, where Python ends workers by a signal that they ignore."""
    from conftest import call

    script = tmp_path / "script.py"
    script.write_text(KILLED.format(tests=os.path.dirname(__file__), then=then))
    done = call(tmp_path, script, status=-9 if "KILL" in then else 0)
    workers = [int(number) for number in done.stdout.split()]
    assert len(workers) == 2 and not done.stderr
    deadline = time.monotonic() + 4  # they would notice by themselves after five seconds
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_of_a_large_set_no_more_is_read_than_a_batch() -> None:
    """As of a file that is mapped into memory."""
    images = torch.zeros(1, 3, 600, 800, dtype=torch.uint8).expand(10**6, -1, -1, -1)  # 1.4 terabytes, were they copied
    given = loader(images, shuffle=False, size=(8, 8), limit=3)
    assert len(list(given.epoch())) == 3
