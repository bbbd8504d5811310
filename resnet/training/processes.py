"""What several processes of one run agree on: mistakes, what only the first does, and how one's failure reaches the others."""

from collections.abc import Callable
from typing import TypeVar, cast

import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

Result = TypeVar("Result")
FAILURE = "resnet/failure"  # key in the store that the processes share


def together(fabric: Fabric, call: Callable[[], Result], mistake: type[Exception]) -> Result:
    """Calls in every process; a mistake that one of them meets is raised in all of them."""
    result, error = None, None
    try:
        result = call()
    except mistake as own:
        error = own
    errors: list[Exception | None] = [error]
    if fabric.world_size > 1:
        errors = [None] * fabric.world_size
        dist.all_gather_object(errors, error)
    for first in filter(None, errors):
        raise first from None
    return cast(Result, result)


def on_first(fabric: Fabric, call: Callable[[], Result], mistake: type[Exception]) -> Result:
    """Calls in the first process alone; all get its result, or its mistake."""
    result = together(fabric, call if fabric.is_global_zero else lambda: cast(Result, None), mistake)
    return fabric.broadcast(result) if fabric.world_size > 1 else result


def dealt_back(fabric: Fabric, shares: list[Tensor]) -> list[Tensor]:
    """The whole of each batch, from shares that were dealt like cards: image i went to process i modulo their number."""
    if fabric.world_size == 1:
        return shares
    hands: list[list[Tensor]] = [[]] * fabric.world_size
    dist.all_gather_object(hands, shares)
    batches = []
    for parts in zip(*hands, strict=True):
        whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
        for process, part in enumerate(parts):
            whole[process :: fabric.world_size] = part
        batches.append(whole)
    return batches


def tell_failure(fabric: Fabric, error: BaseException) -> str | None:
    """Leaves the error where the other processes find it; returns the one that another process left first."""
    if fabric.world_size == 1:
        return None
    own = f"process {fabric.global_rank}: {type(error).__name__}: {error}"
    try:
        store = dist.distributed_c10d._get_default_store()  # type: ignore[no-untyped-call]
        first = store.compare_set(FAILURE, "", own).decode()
    except (RuntimeError, ValueError):  # the first process, which keeps the store, is gone
        return "the first process ended"
    return None if first == own else first


def leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
