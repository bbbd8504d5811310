"""Images in folders, one folder per class: listed by name, decoded one by one."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.form import Form, Size
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
        return as_pixels(read_image(self.paths[index], self.form.channels), self.form)

    def decoded(self) -> Tensor:
        """Decodes all images, (N, C, H, W)."""
        return torch.stack([self.decode(index) for index in range(len(self))])


def as_pixels(image: Image.Image, form: Form) -> Tensor:
    """Returns (C, H, W) uint8. Each new pixel is a weighted mean of those that it covers."""
    height, width = form.size
    if image.size != (width, height):
        image = _FITTED[form.fit](image, (width, height))
    return torch.from_numpy(np.array(image)).reshape(height, width, -1).permute(2, 0, 1)


def as_image(pixels: Tensor) -> Image.Image:
    """(C, H, W) uint8, of one or three channels, to a picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def _squashed(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR)


def _cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.pad(image, size, Image.Resampling.BILINEAR)


_FITTED = {"squash": _squashed, "crop": _cropped, "pad": _padded}


def read_image(path: Path, channels: int) -> Image.Image:
    """Reads an image as gray or RGB. Raises DataError if it cannot be read."""
    with _opened(path) as file:
        return as_gray_or_colour(file, channels)


def as_gray_or_colour(image: Image.Image, channels: int) -> Image.Image:
    """Converts to gray or RGB. Applies the camera's orientation, and puts transparent images on white."""
    return _opaque(_in_8_bits(ImageOps.exif_transpose(image))).convert("L" if channels == 1 else "RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            raise OSError("no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, and about large images that are still acceptable
            with Image.open(path) as file:
                yield file
    except Exception as error:  # decoders raise any error on damaged bytes
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: truncated, corrupt or not an image ({reason}); mend it or take it away") from None


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Keeps the upper byte of 16-bit gray images, as Pillow does for colour images. Pillow itself would clip gray values at 255."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):  # the file does not give their range
        raise ValueError("32 bits a pixel; write it with 8 or 16")
    return image


def _opaque(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


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
        with _opened(path) as file:
            size = file.size
        first = first or size
        if size != first:
            raise DataError(f"{path}: {size[0]}x{size[1]} pixels, where all must be of one size; set data.image_size=PIXELS")
    assert first is not None
    return first[1], first[0]
