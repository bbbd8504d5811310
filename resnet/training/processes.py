"""Agreement between the processes of a run: shared mistakes, work for the first process only, and how one failure reaches the others."""

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from subprocess import Popen, TimeoutExpired
from typing import Any, NamedTuple, TypeVar, cast

import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from resnet.config.launched import is_first_process, started_processes
from resnet.interrupt import TRY_AGAIN

Result = TypeVar("Result")
FAILURE = "resnet/failure"  # key in the store that the processes share
GRACE = 5.0  # seconds that a process gets to notice the failure of another one by itself


class Failure(NamedTuple):
    """How another process ended."""

    text: str
    traceback: str = ""


GONE = Failure("the first process ended")


def in_every_process(fabric: Fabric, call: Callable[[], Result], mistake: type[Exception]) -> Result:
    """Calls in every process. If one of them raises a `mistake`, all of them raise it."""
    result, error = None, None
    try:
        result = call()
    except mistake as own:
        error = own
    for first in filter(None, gather_from_all(fabric, error)):
        raise first from None
    return cast(Result, result)


def in_first_process(fabric: Fabric, call: Callable[[], Result], mistake: type[Exception]) -> Result:
    """Calls only in the first process. All processes get its result, or raise its mistake."""
    result = in_every_process(fabric, call if fabric.is_global_zero else lambda: cast(Result, None), mistake)
    return fabric.broadcast(result) if fabric.world_size > 1 else result


def gather_from_all(fabric: Fabric, own: Result) -> list[Result]:
    """Returns the value of each process, in the order of their ranks."""
    found = [own] * fabric.world_size
    if fabric.world_size > 1:
        dist.all_gather_object(found, own)
    return found


def in_original_order(fabric: Fabric, shares: list[Tensor]) -> list[Tensor]:
    """Restores whole batches from the shares of the processes: image i of a batch went to process i modulo their number."""
    batches = []
    for parts in zip(*gather_from_all(fabric, shares), strict=True):
        whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
        for process, part in enumerate(parts):
            whole[process :: fabric.world_size] = part
        batches.append(whole)
    return batches


def tell_failure(error: BaseException) -> Failure | None:
    """Publishes the error to the other processes. Returns the error of another process that came first, if any."""
    if not dist.is_initialized():
        return None
    own = Failure(f"process {dist.get_rank()}: {type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
    try:
        first = Failure(*json.loads(_store().compare_set(FAILURE, "", json.dumps(own))))
    except (RuntimeError, ValueError):  # the first process, which keeps the store, is gone
        return GONE
    return None if first.text == own.text else first


class Watch:
    """While open, ends this process after another one has failed. This one may not notice, because it waits for the other on a GPU.

    `end` gets the other's error, in a separate thread, before the process ends.
    """

    def __init__(self, children: Sequence[Popen[bytes]], end: Callable[[Failure], None]) -> None:
        self.children, self.end = children, end
        self.is_over = threading.Event()
        self.thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if dist.is_initialized():
            self.thread = threading.Thread(target=self._look, args=(_store().clone(),), daemon=True)  # uses its own connection
            self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        if self.thread is not None:
            self.thread.join(GRACE)  # a thread inside PyTorch while Python exits aborts the process

    def _look(self, store: Any) -> None:
        while not self.is_over.wait(1):
            if (failure := self._failure(store)) and not self.is_over.wait(GRACE):
                self.end(failure)
                os._exit(1)

    def _failure(self, store: Any) -> Failure | None:
        try:
            if store.check([FAILURE]):
                return Failure(*json.loads(store.get(FAILURE)))
        except RuntimeError:
            return GONE
        return ended(self.children)


def take_children(fabric: Fabric) -> list[Popen[bytes]]:
    """Takes over the processes that Fabric started. Fabric would kill this process as soon as one of them fails."""
    started = getattr(fabric.strategy.launcher, "procs", [])
    children = started.copy()
    started.clear()
    return children


def end_with_parent() -> None:
    """Ends this process together with the first one, if Fabric started it. Otherwise it would wait for the first one for many minutes."""
    if is_first_process() or started_processes():
        return
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(TRY_AGAIN)

    threading.Thread(target=look, daemon=True).start()


def ended(children: Sequence[Popen[bytes]]) -> Failure | None:
    """Describes the first child that ended without giving a reason, such as one that was killed."""
    for rank, child in enumerate(children, 1):
        if child.poll():
            is_killed = -child.returncode in set(signal.Signals)
            how = f"was killed by {signal.Signals(-child.returncode).name}" if is_killed else f"ended with status {child.returncode}"
            return Failure(f"process {rank}: it {how}")
    return None


def end_children(children: Sequence[Popen[bytes]]) -> None:
    """Waits until the child processes have ended; kills them after a deadline."""
    if dist.is_initialized():
        dist.destroy_process_group()
    deadline = time.monotonic() + 2 * GRACE
    for child in children:
        try:
            child.wait(max(0, deadline - time.monotonic()))
        except TimeoutExpired:
            child.kill()


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()  # type: ignore[no-untyped-call]
