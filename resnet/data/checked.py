"""Checks what a source returns, built-in or the user's own. No other code does."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.files import ImageFiles
from resnet.data.sources import MOST_CLASSES, Source, Split


def checked(source: Any) -> Source:
    """Returns the source with int64 labels. NumPy arrays and lists may stand for tensors. Raises DataError, one line per mistake."""
    if not isinstance(source, Source):
        raise DataError(f"it gives {type(source).__name__}; resnet.data.Source(train, test, classes) is needed")
    splits: dict[str, Any] = {"train": source.train} | ({} if source.test is None else {"test": source.test})
    if wrong := [name for name, split in splits.items() if not isinstance(split, Split)]:
        raise DataError(f"{wrong[0]} is {type(splits[wrong[0]]).__name__}; resnet.data.Split(images, labels) is needed")
    classes = source.classes if isinstance(source.classes, list | tuple) else None
    if classes is None or not all(isinstance(name, str) for name in classes):
        raise DataError("classes must be a list of names, one for each label from 0")
    found = {name: Split(_as_images(split.images), _as_labels(split.labels)) for name, split in splits.items()}
    if mistakes := [line for name, split in found.items() for line in _mistakes(name, split, len(classes))]:
        raise DataError("; ".join(mistakes))
    train, test = found["train"], found.get("test")
    if test is not None and test.images.shape[1:] != train.images.shape[1:]:
        shapes = [tuple(split.images.shape[1:]) for split in (train, test)]
        raise DataError(f"train has images of shape {shapes[0]}, test of {shapes[1]}; they must agree")
    return Source(train, test, list(classes))


def _as_images(images: Any) -> Any:
    return images if isinstance(images, ImageFiles) else _as_tensor(images)


def _as_labels(labels: Any) -> Any:
    labels = _as_tensor(labels)
    is_whole = isinstance(labels, Tensor) and not labels.is_floating_point() and labels.dtype != torch.bool
    return labels.long() if is_whole else labels


def _as_tensor(values: Any) -> Any:
    """Returns anything else unchanged; it is reported later."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return values


def _mistakes(name: str, split: Split, num_classes: int) -> Iterator[str]:
    images, labels = split.images, split.labels
    if not isinstance(images, ImageFiles) and not (isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4):
        yield f"{name}.images is {_told(images)}; it must be uint8 of shape (N, C, H, W)"
    elif not len(images):
        yield f"{name} has no images; at least one is needed"
    elif images.shape[2] != images.shape[3] or not images.shape[2]:
        yield f"{name} has images of {images.shape[2]}x{images.shape[3]} pixels; they must be square"
    elif not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (len(images),):
        yield f"{name}.labels is {_told(labels)}; it must hold one whole number for each of the {len(images)} images"
    elif wrong := [label for label in (int(labels.min()), int(labels.max())) if not 0 <= label < min(num_classes, MOST_CLASSES)]:
        yield f"{name} has label {wrong[0]}; labels count the {num_classes} classes from 0"


def _told(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor | np.ndarray) else type(value).__name__
