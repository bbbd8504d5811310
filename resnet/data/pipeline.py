"""The operations of `augment` in order, as the loaders use them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from resnet.config.errors import cause
from resnet.data.errors import DataError
from resnet.data.form import Size
from resnet.data.operation import EachImage, PerImage

Drawn = Sequence[Tensor | None]  # the parameters of each of the first operations, one row an image


class Augment:
    """The augmentation of training images. Raises DataError if the operations do not fit together.

    Operations on single images come first, up to one that needs the whole batch: these can be done in parts, and elsewhere.
    """

    def __init__(self, operations: Sequence[Any] = ()) -> None:
        mixing = [hasattr(operation, "mix") for operation in operations]
        if sum(mixing) > 1:
            raise DataError(f"augment: {' and '.join(map(_name, _mixing(operations)))} cannot both mix a batch; leave one of them out")
        if mixing != sorted(mixing):
            raise DataError(f"augment: {_name(_mixing(operations)[0])} mixes whole batches and must come last")
        self.operations = list(operations)
        steps = [_Step(index, operation) for index, operation in enumerate(operations) if not hasattr(operation, "mix")]
        number = next((index for index, step in enumerate(steps) if not isinstance(step.call, PerImage)), len(steps))
        self._per_image, self._on_batches = steps[:number], steps[number:]

    def output_size(self, size: Size) -> Size:
        """Returns the size of the output images, and of images for evaluation. Raises DataError if an operation cannot take them."""
        for index, operation in enumerate(self.operations):
            try:
                size = _output_size(operation, size)
            except DataError as error:
                raise DataError(f"augment.{index}.{error}") from None
        return size

    def training_sizes(self, size: Size) -> list[Size]:
        """Returns the sizes in the order of training, for images of `size` before augmentation."""
        sizes = [self.output_size(size)]
        for operation in self.operations:
            if hasattr(operation, "training_sizes"):
                sizes = operation.training_sizes(sizes[-1])
        return sizes

    @property
    def mixes(self) -> bool:
        """True if it turns labels into probabilities."""
        return bool(_mixing(self.operations))

    @property
    def needs_whole_batch(self) -> bool:
        """True if an image may depend on more of its batch than the image before it."""
        return bool(self._on_batches) or not all(getattr(one, "pairs_with_previous", False) for one in _mixing(self.operations))

    @property
    def num_beforehand(self) -> int:
        """How many operations worker processes do: those up to the last one that is called with one image after another."""
        return max((index + 1 for index, step in enumerate(self._per_image) if isinstance(step.call, EachImage)), default=0)

    @property
    def needs_length(self) -> bool:
        """True if it changes over training."""
        return any(hasattr(operation, "training_sizes") and len(operation.training_sizes((1, 1))) > 1 for operation in self.operations)

    def training_size(self, size: Size, share: float) -> Size:
        """Returns the size of training images after this share (0..1) of training."""
        sizes = self.training_sizes(size)
        return sizes[min(int(share * len(sizes)), len(sizes) - 1)]

    def draw(self, number: int, size: Size, generator: Generator) -> list[Tensor | None]:
        """Draws the parameters of all operations on single images, for `number` images of `size`."""
        drawn = []
        for step in self._per_image:
            drawn.append(step.call.draw(number, size, generator))
            size = _output_size(step.operation, size)
        return drawn

    def apply(self, images: Tensor, drawn: Drawn, first: int = 0) -> Tensor:
        """Applies as many operations as parameters are given, from the `first` one on: (N, C, H, W) uint8 -> the same of another size."""
        for step, parameters in zip(self._per_image[first:], drawn, strict=False):
            if parameters is not None:
                images = step.changed(images, step.call.apply, parameters)
        return images

    def on_batches(self, images: Tensor, generator: Generator) -> Tensor:
        """Applies the operations after them that do not mix, to a whole batch."""
        for step in self._on_batches:
            images = step.changed(images, step.call, generator)
        return images

    def geometry(self, images: Tensor, generator: Generator) -> Tensor:
        """Applies all operations that do not mix. Raises DataError if one returns something else than uint8 images of the right size."""
        drawn = self.draw(len(images), (images.shape[-2], images.shape[-1]), generator)
        return self.on_batches(self.apply(images, drawn), generator)

    def mix(self, images: Tensor, targets: Tensor, num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Normalised images and labels (N,) -> images and labels, or class probabilities (N, num_classes) if mixed."""
        for operation in _mixing(self.operations):
            images, targets = operation.mix(images, targets, num_classes, generator)
        return images, targets

    def check(self, channels: int, size: Size) -> None:
        """Tries all operations on black images. Raises DataError in place of whatever an operation raises."""
        images, generator = torch.zeros(3, channels, *size, dtype=torch.uint8), Generator().manual_seed(0)
        try:
            self.output_size(size)
            images = self.geometry(images, generator)
            mixed, targets = self.mix(images.float(), torch.tensor([0, 1, 1]), 2, generator)
            if mixed.shape[0] != 3 or targets.shape not in ((3,), (3, 2)):
                raise ValueError(f"mix gives {tuple(mixed.shape)} and {tuple(targets.shape)}; a batch and its targets are needed")
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"augment: it fails on uint8 images of shape {tuple(images.shape)} ({cause(error)})") from None


class _Step:
    """An operation that does not mix, at its place in the list."""

    def __init__(self, index: int, operation: Any) -> None:
        self.index, self.operation = index, operation
        self.call = operation if _takes_generator(operation) else EachImage(operation)

    def changed(self, images: Tensor, call: Callable[..., Any], argument: Any) -> Tensor:
        """Returns what `call` makes of the images. Raises DataError if that is something else than it says."""
        size = _output_size(self.operation, (images.shape[-2], images.shape[-1]))
        try:
            return _checked(call(images, argument), (*images.shape[:2], *size))
        except DataError as error:
            raise DataError(f"augment.{self.index}: {_name(self.operation)} {error}") from None


def _takes_generator(operation: Any) -> bool:
    """True if the operation is called with a batch and a generator, rather than with one image."""
    call = operation.forward if isinstance(operation, nn.Module) else operation
    return hasattr(operation, "mix") or "generator" in inspect.signature(call).parameters


def _output_size(operation: Any, size: Size) -> Size:
    if not hasattr(operation, "output_size"):
        return size
    found = operation.output_size(size)
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(side, int) for side in found)):
        raise DataError(f"output_size gives {found!r}; the height and the width are needed, as (32, 32)")
    return found


def _checked(images: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.shape != shape:
        given = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise DataError(
            f"gives {given}; it must give torch.uint8 of shape {shape} (a method output_size tells of another size, as crop has one)"
        )
    return images


def _mixing(operations: Sequence[Any]) -> list[Any]:
    return [operation for operation in operations if hasattr(operation, "mix")]


def _name(operation: Any) -> str:
    return getattr(operation, "__name__", type(operation).__name__)
