"""The operations of `augment` in order, as the loaders use them: on whole batches, or image by image."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from resnet.config.errors import cause
from resnet.data.errors import DataError
from resnet.data.form import Size
from resnet.data.transforms import to_device


class Augment:
    """The augmentation of training images. Raises DataError if the operations do not fit together."""

    def __init__(self, operations: Sequence[Any] = ()) -> None:
        mixing = [hasattr(operation, "mix") for operation in operations]
        if sum(mixing) > 1:
            raise DataError(f"augment: {' and '.join(map(_name, _mixing(operations)))} cannot both mix a batch; leave one of them out")
        if mixing != sorted(mixing):
            raise DataError(f"augment: {_name(_mixing(operations)[0])} mixes whole batches and must come last")
        self.operations = list(operations)
        self._calls = [operation if _takes_generator(operation) else _EachImage(operation) for operation in operations]

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
    def needs_length(self) -> bool:
        """True if it changes over training."""
        return any(hasattr(operation, "training_sizes") and len(operation.training_sizes((1, 1))) > 1 for operation in self.operations)

    def training_size(self, size: Size, share: float) -> Size:
        """Returns the size of training images after this share (0..1) of training."""
        sizes = self.training_sizes(size)
        return sizes[min(int(share * len(sizes)), len(sizes) - 1)]

    def geometry(self, images: Tensor, generator: Generator) -> Tensor:
        """Applies all operations that do not mix: (N, C, H, W) uint8 -> the same of another size. Raises DataError if one returns something
        else."""
        for index, (operation, call) in enumerate(zip(self.operations, self._calls, strict=True)):
            if hasattr(operation, "mix"):
                continue
            size = _output_size(operation, (images.shape[-2], images.shape[-1]))
            try:
                images = _checked(call(images, generator), (*images.shape[:2], *size))
            except DataError as error:
                raise DataError(f"augment.{index}: {_name(operation)} {error}") from None
        return images

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


class _EachImage:
    """Applies an operation on single images, such as those of torchvision.transforms.v2, to a batch.

    The operation draws from torch's global generator, which is seeded for each image and restored afterwards. It runs on the CPU, so that
    results are the same for every device.
    """

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        self.operation = operation

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        seeds = torch.randint(2**63 - 1, (len(images),), generator=generator).tolist()
        with torch.random.fork_rng(devices=[]):
            changed = [self._call(image, seed) for image, seed in zip(images.cpu(), seeds, strict=True)]
        if len({image.shape for image in changed}) > 1:
            raise DataError("gives images of several sizes; they must have one")
        return to_device(torch.stack(changed), images.device)

    def _call(self, image: Tensor, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)
        changed = self.operation(image)
        if not isinstance(changed, Tensor):
            raise DataError(f"gives {type(changed).__name__} for an image, which is a uint8 tensor (C, H, W); it must give one too")
        return changed


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
