"""Images that are fetched when they are needed: decoded from files, or read from a mapped file of decoded images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from resnet.data.form import Form
from resnet.data.pictures import read_picture


@runtime_checkable
class OnDemand(Protocol):
    """A sequence with the shape of a uint8 tensor (N, C, H, W)."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> "OnDemand":
        """Selects images without fetching them."""
        ...

    def decode(self, index: int) -> Tensor:
        """Returns (C, H, W) uint8. Raises DataError if the image cannot be read."""
        ...


class ImageFiles:
    """Image files, decoded each time."""

    def __init__(self, paths: Sequence[Path], form: Form) -> None:
        self.paths, self.form = paths, form

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> "ImageFiles":
        return ImageFiles([self.paths[index] for index in indices], self.form)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.form.channels, *self.form.size

    def decode(self, index: int) -> Tensor:
        return read_picture(self.paths[index], self.form)


class Mapped:
    """Rows of decoded images (M, C, H, W) that are mapped into memory and may be more than it holds."""

    def __init__(self, images: Tensor, rows: Tensor) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> "Mapped":
        return Mapped(self.images, self.rows[indices])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.images.shape[1:]
        return len(self), channels, height, width

    def decode(self, index: int) -> Tensor:
        return self.images[self.rows[index]]


def fetched(images: "Tensor | OnDemand") -> Tensor:
    """Returns all images as a tensor (N, C, H, W)."""
    return images if isinstance(images, Tensor) else torch.stack([images.decode(index) for index in range(len(images))])
