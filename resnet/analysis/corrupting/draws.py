"""Random numbers for a batch of images, each from a generator of its own."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor


class Draws:
    """Each image's numbers depend on the seed, the corruption and the image's number, and not on the batch that it is in."""

    def __init__(self, seed: int, corruption: int, indices: NDArray[np.int64]) -> None:
        self.generators = [np.random.default_rng((seed, corruption, int(index))) for index in indices]

    def normal(self, *shape: int) -> Tensor:
        """Returns (N, *shape)."""
        return self._each(lambda generator: generator.standard_normal(shape, np.float32))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Returns (N, *shape)."""
        return self._each(lambda generator: low + (high - low) * generator.random(shape, np.float32))

    def poisson(self, rates: Tensor) -> Tensor:
        """Returns counts of the shape of the rates (N, ...)."""
        counts = [generator.poisson(rate) for generator, rate in zip(self.generators, rates.double().numpy(), strict=True)]
        return torch.from_numpy(np.stack(counts)).float()

    def _each(self, draw: Callable[[Generator], NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(draw(generator), np.float32) for generator in self.generators]))
