"""The states of all generators that a network, or code of the user's own, may draw from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

Random = dict[str, Any]  # tensors, numbers and tuples, as a checkpoint keeps them
CPU = torch.device("cpu")


def random_state(device: torch.device) -> Random:
    kind, key, *rest = np.random.get_state(legacy=True)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": (kind, torch.tensor(np.asarray(key).astype(np.int64)), *rest),
    }


def set_random_state(state: Random, device: torch.device) -> None:
    """A state from an older checkpoint has no generators but torch's."""
    torch.set_rng_state(state["cpu"])
    if "python" in state:
        random.setstate(state["python"])
        kind, key, *rest = state["numpy"]
        np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """What is drawn inside, on the CPU, does not change what is drawn afterwards."""
    state = random_state(CPU)
    try:
        yield
    finally:
        set_random_state(state, CPU)
