"""Images in folders, one folder per class: listed by name, decoded one by one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.form import Form, Size
from resnet.data.pictures import picture_size, read_picture
from resnet.plain import CONTROL

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}


class ImageFiles:
    """A sequence of image files with the shape of a uint8 tensor (N, C, H, W). Indexing selects files without decoding them."""

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
        """Returns (C, H, W) uint8."""
        return read_picture(self.paths[index], self.form)

    def decoded(self) -> Tensor:
        """Decodes all images, (N, C, H, W)."""
        return torch.stack([self.decode(index) for index in range(len(self))])


def files_in(folder: Path) -> list[Path]:
    """Returns the images in a folder and its subfolders, sorted by name. Skips hidden files, which belong to other programs. Raises
    DataError if a folder is unreadable.
    """
    found: list[Path] = []
    for inside, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        found += [Path(inside, name) for name in names if Path(name).suffix.lower() in SUFFIXES and not _is_hidden(name)]
    return sorted(found)


def _is_hidden(name: str) -> bool:
    """True for files such as macOS's ._0.png, which is no image, and Jupyter's .ipynb_checkpoints, which is no class."""
    return name.startswith(".")


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or take it away")


def folders_in(folder: Path) -> list[str]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    except OSError as error:
        _refuse(error)
    if odd := [name for name in names if CONTROL.search(name)]:
        raise DataError(f"{folder / odd[0]}: control characters in the name of a class; rename the folder")
    return names


def list_classes(folder: Path) -> list[str]:
    classes = folders_in(folder)
    if len(classes) < 2:
        raise DataError(f"data.path={folder}: {len(classes)} folders inside; at least two are needed, one for each class")
    return classes


def list_images(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Returns (paths, labels), sorted by class and name. Raises DataError for a class without images."""
    paths, labels = [], []
    if other := sorted(set(folders_in(folder)) - set(classes)):
        raise DataError(f"{folder / other[0]}: a class that the training images lack; they have {', '.join(classes)}")
    for label, name in enumerate(classes):
        found = files_in(folder / name)
        if not found:
            raise DataError(f"{folder / name}: no images; each class needs some ({', '.join(sorted(SUFFIXES))})")
        paths += found
        labels += [label] * len(found)
    return paths, labels


def common_size(paths: Sequence[Path]) -> Size:
    """Returns the size of the first image. Raises DataError if any other differs. Reads only the headers."""
    first = None
    for path in paths:
        size = picture_size(path)
        first = first or size
        if size != first:
            raise DataError(f"{path}: {size[1]}x{size[0]} pixels, where all must be of one size; set data.image_size=PIXELS")
    assert first is not None
    return first
