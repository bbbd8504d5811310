"""Operations that change each image on its own: their parameters are drawn for a whole batch, and any part of it can then be changed.

A process therefore changes only its own images, in its worker processes if need be, and gets what one process alone would get.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator, Tensor

from resnet.data.errors import DataError
from resnet.data.form import Size
from resnet.data.transforms import to_device


class PerImage(ABC):
    """An operation on uint8 images (N, C, H, W) whose result for an image depends on that image and its parameters alone."""

    @abstractmethod
    def draw(self, number: int, size: Size, generator: Generator) -> Tensor | None:
        """Draws the parameters of `number` images of `size`, on the CPU: (number, ...), or None if no image is to be changed."""

    @abstractmethod
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Changes images with their rows of what was drawn, which are on the CPU."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        drawn = self.draw(len(images), (images.shape[-2], images.shape[-1]), generator)
        return images if drawn is None else self.apply(images, drawn)


class EachImage(PerImage):
    """Calls an operation on single images (C, H, W), such as those of torchvision.transforms.v2, with one image after another.

    The operation draws from the global generators of torch, NumPy and Python. They are seeded for each image and restored afterwards. It
    runs on the CPU, so that results are the same for every device.
    """

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        self.operation = operation

    def draw(self, number: int, size: Size, generator: Generator) -> Tensor:
        return torch.randint(2**63 - 1, (number,), generator=generator)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        with _global_generators_kept():
            changed = [self._call(image, seed) for image, seed in zip(images.cpu(), drawn.tolist(), strict=True)]
        if len({image.shape for image in changed}) > 1:
            raise DataError("gives images of several sizes; they must have one")
        return to_device(torch.stack(changed), images.device) if changed else images

    def _call(self, image: Tensor, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        changed = self.operation(image)
        if not isinstance(changed, Tensor):
            raise DataError(f"gives {type(changed).__name__} for an image, which is a uint8 tensor (C, H, W); it must give one too")
        return changed


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Those of the CPU, whose numbers the network and the user's own code draw too."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
