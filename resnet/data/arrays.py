"""The user's own arrays, from an .npz file."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from resnet.data.downloads import one_line
from resnet.data.errors import DataError
from resnet.data.sources import MOST_CLASSES, Source, Split

MOST_UNZIPPED, BOMB = 200, 2**30  # from BOMB bytes on, the most bytes unzipped from one; pictures do not compress so well


def arrays(path: str, classes: list[str] | None = None) -> Source:
    """The user's own .npz file. `classes`: the class names; None: those in the file, else their numbers."""
    train, test = open_arrays(Path(path), f"data.path={path}", ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [tuple(split.images.shape[1:]) for split in (train, test)]
        raise DataError(f"data.path={path}: x_train has images of shape {shapes[0]}, x_test of {shapes[1]}; they must agree")
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    return Source(train, test, classes or _class_names(Path(path)) or [str(label) for label in range(num_classes)])


def _class_names(path: Path) -> list[str]:
    """Returns the names that the file has under `classes`. The file has been opened before."""
    with zipfile.ZipFile(path) as archive:
        if "classes.npy" not in archive.namelist():
            return []
    try:
        _check_sizes(path, f"data.path={path}", ["classes"])
        with np.load(path, allow_pickle=False) as file:
            return [str(name) for name in file["classes"]]
    except Exception as error:
        raise DataError(f"data.path={path}: classes is no plain array of names ({one_line(error)[:200]})") from None


def open_arrays(path: Path, given: str, parts: tuple[str, ...]) -> list[Split]:
    keys = [f"{kind}_{part}" for part in parts for kind in "xy"]
    if not os.path.isfile(path):  # opening a pipe would block forever
        reason = "no regular file" if os.path.exists(path) else "no such file"
        raise DataError(f"{given}: {reason}; give the .npz file with {', '.join(keys)}")
    try:
        _check_sizes(path, given, keys)
        with np.load(path, allow_pickle=False) as file:
            return [_array_split(given, part, file[f"x_{part}"], file[f"y_{part}"]) for part in parts]
    except DataError:
        raise
    except Exception as error:  # zip, its decompressors and NumPy's headers raise different errors
        raise DataError(f"{given}: truncated, corrupt or not an .npz file of plain arrays ({one_line(error)[:200]})") from None


def _check_sizes(path: Path, given: str, keys: list[str]) -> None:
    """Checks sizes before memory is allocated: a header of a few bytes can claim any number of values, and a few zipped bytes can hold as
    many zeros.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if missing := [key for key in keys if key not in members]:
            raise DataError(f"{given}: {missing[0]} is missing; the file holds {', '.join(members) or 'nothing'}")
        for key in keys:
            info = members[key]
            if info.file_size > max(MOST_UNZIPPED * info.compress_size, BOMB):
                raise ValueError(f"{key} claims {info.file_size:,} bytes, zipped into {info.compress_size:,}")
            with archive.open(info) as member:
                shape, dtype = _read_header(key, member)
            if math.prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError(f"{key} claims to be of shape {shape}, and holds {info.file_size:,} bytes")


def _read_header(key: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    except Exception:  # NumPy parses the header as Python, and for a long one advises to trust the file
        raise ValueError(f"{key} has no header that NumPy can read safely") from None
    return shape, dtype


def _array_split(given: str, part: str, images: np.ndarray, labels: np.ndarray) -> Split:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        raise DataError(
            f"{given}: x_{part} is {images.dtype} of shape {images.shape}; it must be uint8 of shape (N, H, W), (N, H, W, 1) "
            "or (N, H, W, 3)"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1] != images.shape[2] or not images.shape[1]:
        raise DataError(f"{given}: x_{part} has images of {images.shape[1]}x{images.shape[2]} pixels; they must be square, of at least one")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1] or len(labels) == 0:
        raise DataError(
            f"{given}: y_{part} is {labels.dtype} of shape {labels.shape}; it must hold one whole number from 0 for each of the "
            f"{len(images)} images of x_{part}"
        )
    if wrong := [label for label in (int(labels.min()), int(labels.max())) if not 0 <= label < MOST_CLASSES]:
        raise DataError(f"{given}: y_{part} has label {wrong[0]}; labels count the classes from 0, up to {MOST_CLASSES - 1:,}")
    return Split(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.from_numpy(labels.astype(np.int64)))
