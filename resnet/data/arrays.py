"""The user's own arrays: what is unambiguous is taken, and what is not is named."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet.data.archive import Archive
from resnet.data.array_labels import numbered, plain_labels
from resnet.data.array_names import ALONE, IMAGES, LABELS, PARTS, name_of_classes, roles
from resnet.data.errors import DataError, told_of
from resnet.data.sources import Source, Split
from resnet.data.values import in_8_bits, meaning, value_range

Array = NDArray[Any]
CHANNELS = (1, 3)


def arrays(path: str, classes: list[str] | None = None) -> Source:
    """The user's own .npz file, or .npy files beside each other: x_train, y_train and, if there are any, x_val, y_val, x_test, y_test.

    Args:
        classes: the class names; None: those in the file, else the values of the labels.
    """
    archive = Archive(Path(path), f"data.path={path}")
    pairs = _pairs(archive)
    images, notes = read_images(archive, [name for name, _ in pairs.values()])
    labels = {name: read_labels(archive, name, len(images[of])) for of, name in pairs.values()}
    with told_of(f"{archive.given}: "):
        numbers, names, more = numbered(labels, classes or class_names(archive))
    splits = {part: Split(images[of], torch.from_numpy(numbers[name])) for part, (of, name) in pairs.items()}
    return Source(splits["train"], splits.get("test"), names, splits.get("val"), notes=[*notes, *more, *_left_out(archive)])


def _pairs(archive: Archive) -> dict[str, tuple[str, str]]:
    """Returns part -> names of its images and labels, those of training first. Images and labels without a part are for training."""
    found = roles(archive.names, archive.given)
    for kind in (IMAGES, LABELS):
        if {(kind, ALONE), (kind, "train")} <= set(found):
            both = f"{found[kind, ALONE]} and {found[kind, 'train']}"
            raise DataError(f"{archive.given}: {both} could both be the {kind} of training; keep one of them")
    found = {(kind, part or "train"): name for (kind, part), name in found.items()}
    parts = [part for part in PARTS if part == "train" or {(IMAGES, part), (LABELS, part)} & set(found)]
    return {part: pair(archive, found, part, part) for part in parts}


def pair(archive: Archive, found: Mapping[tuple[str, str], str], part: str, told: str) -> tuple[str, str]:
    """Returns the names of a part's images and labels. `told`: the part for the message if one is missing."""
    for kind, name in ((IMAGES, f"x_{told}"), (LABELS, f"y_{told}")):
        if (kind, part) not in found:
            held = ", ".join(archive.names) or ("no .npy files; pictures in folders are data=folder" if archive.in_folder else "no arrays")
            raise DataError(f"{archive.given}: {name} is missing; it holds {held}")
    return found[IMAGES, part], found[LABELS, part]


def class_names(archive: Archive) -> list[str] | None:
    name = name_of_classes(archive.names)
    if name is None:
        return None
    names = archive.read(name)
    if names.ndim != 1 or names.dtype.kind not in "iuUS" or len(set(names.tolist())) < len(names):
        raise DataError(
            f"{archive.given}: {name} is {names.dtype} of shape {names.shape}; it must hold different names, one for each class"
        )
    return [str(name) for name in (np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names).tolist()]


def read_labels(archive: Archive, name: str, number: int) -> Array:
    with told_of(f"{archive.given}: {name} "):
        return plain_labels(archive.read(name), number)


def read_images(archive: Archive, names: Sequence[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns name -> uint8 (N, C, H, W), and notes. All arrays together decide what their values mean. Raises DataError."""
    found, notes = dict[str, Tensor](), list[str]()
    raw = {name: archive.read(name) for name in names}
    for name, values in raw.items():
        with told_of(f"{archive.given}: {name} "):
            raw[name] = _channels_first(values)
    kinds = {name: values.dtype.kind.replace("u", "i") for name, values in raw.items()}
    for kind in sorted(set(kinds.values())):
        alike = [name for name in names if kinds[name] == kind]
        with told_of(f"{archive.given}: {', '.join(alike)}: "):
            limits = value_range([raw[name] for name in alike])
            found |= {name: torch.from_numpy(np.ascontiguousarray(in_8_bits(raw[name], limits))) for name in alike}
        if changed := [name for name in alike if raw[name].dtype != np.uint8]:
            seen = f"{raw[changed[0]].dtype} from {limits[0]:g} to {limits[1]:g}"
            notes.append(f"{', '.join(changed)}: {seen}, read as {meaning(limits, kind)}")
    shapes = {name: tuple(found[name].shape[1:]) for name in names}
    if other := [name for name in names if shapes[name] != shapes[names[0]]]:
        told = f"{names[0]} has images of shape {shapes[names[0]]}, {other[0]} of {shapes[other[0]]}"
        raise DataError(f"{archive.given}: {told}; they must agree")
    return found, notes + [note for name in names for note in _without_spread(name, found[name])]


def _channels_first(values: Array) -> Array:
    """Returns a view (N, C, H, W)."""
    shape = values.shape
    if values.dtype.kind not in "biuf" or len(shape) not in (3, 4) or not values.size:
        needed = "numbers of shape (N, H, W), (N, H, W, C) or (N, C, H, W) are needed, of one pixel at least"
        raise DataError(f"is {values.dtype} of shape {shape}; {needed}")
    if len(shape) == 3:
        return values[:, None]
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first and last:
        raise DataError(f"is of shape {shape}, in which the channels could come first or last; move them, so that only one side is 1 or 3")
    if not first and not last:
        raise DataError(f"is of shape {shape}; 1 or 3 channels are needed, first (N, C, H, W) or last (N, H, W, C)")
    return values if first else values.transpose(0, 3, 1, 2)


def _without_spread(name: str, images: Tensor) -> Iterator[str]:
    low, high = (ends.tolist() for ends in (images.amin((0, 2, 3)), images.amax((0, 2, 3))))
    if min(low) == max(high):
        yield f"warning: all pixels of {name} are {low[0]}"
    elif flat := [channel for channel in range(len(low)) if low[channel] == high[channel]]:
        yield f"warning: channel {flat[0]} of {name} is {low[flat[0]]} in all its pixels"


def _left_out(archive: Archive) -> list[str]:
    used = {*roles(archive.names, archive.given).values(), name_of_classes(archive.names)}
    names = [name for name in archive.names if name not in used]
    return [f"left out of {archive.path.name}: {', '.join(names)}"] if names else []
