"""Checks what a source returns, built-in or the user's own. No other code does."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.files import OnDemand
from resnet.data.sources import MOST_CLASSES, Source, Split


def checked(source: Any) -> Source:
    """Returns the source with int64 labels. NumPy arrays and lists may stand for tensors. Raises DataError, one line per mistake."""
    if not isinstance(source, Source):
        raise DataError(f"it gives {type(source).__name__}; resnet.data.Source(train, test, classes) is needed")
    given = {"train": source.train, "val": source.val, "test": source.test}
    splits: dict[str, Any] = {name: split for name, split in given.items() if split is not None or name == "train"}
    if wrong := [name for name, split in splits.items() if not isinstance(split, Split)]:
        raise DataError(f"{wrong[0]} is {type(splits[wrong[0]]).__name__}; resnet.data.Split(images, labels) is needed")
    classes = source.classes if isinstance(source.classes, list | tuple) else None
    if classes is None or not all(isinstance(name, str) for name in classes):
        raise DataError("classes must be a list of names, one for each label from 0")
    found = {name: replace(split, images=_as_images(split.images), labels=_as_labels(split.labels)) for name, split in splits.items()}
    if mistakes := [line for name, split in found.items() for line in _mistakes(name, split, len(classes))]:
        raise DataError("; ".join(mistakes))
    shapes = {name: tuple(split.images.shape[1:]) for name, split in found.items()}
    if other := [name for name, shape in shapes.items() if shape != shapes["train"]]:
        raise DataError(f"train has images of shape {shapes['train']}, {other[0]} of {shapes[other[0]]}; they must agree")
    return replace(source, train=found["train"], val=found.get("val"), test=found.get("test"), classes=list(classes))


def _as_images(images: Any) -> Any:
    return images if isinstance(images, OnDemand) else _as_tensor(images)


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
    if not isinstance(images, OnDemand) and not (isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4):
        yield f"{name}.images is {_told(images)}; it must be uint8 of shape (N, C, H, W)"
    elif not len(images):
        yield f"{name} has no images; at least one is needed"
    elif not all(images.shape[2:]):
        yield f"{name} has images of {images.shape[2]}x{images.shape[3]} pixels; at least one is needed"
    elif not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (len(images),):
        yield f"{name}.labels is {_told(labels)}; it must hold one whole number for each of the {len(images)} images"
    elif wrong := [label for label in (int(labels.min()), int(labels.max())) if not 0 <= label < min(num_classes, MOST_CLASSES)]:
        yield f"{name} has label {wrong[0]}; labels count the {num_classes} classes from 0"


def _told(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor | np.ndarray) else type(value).__name__
