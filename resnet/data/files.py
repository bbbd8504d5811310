"""Images that lie in folders, one folder a class: listed by name, decoded one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from resnet.data.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}


class ImageFiles:
    """A sequence of files that reads like a uint8 tensor (N, C, H, W) where it is indexed by one number or by many."""

    def __init__(self, paths: Sequence[Path], image_size: int | None, channels: int) -> None:
        self.paths, self.channels = paths, channels
        self.image_size = image_size or _common_size(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> "ImageFiles":
        return ImageFiles([self.paths[index] for index in indices], self.image_size, self.channels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.channels, self.image_size, self.image_size

    def decode(self, index: int) -> Tensor:
        """(C, H, W) uint8."""
        image = read_image(self.paths[index], self.channels)
        if image.size != (self.image_size, self.image_size):
            image = image.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).reshape(self.image_size, self.image_size, self.channels).permute(2, 0, 1)

    def decoded(self) -> Tensor:
        """All of them, (N, C, H, W)."""
        return torch.stack([self.decode(index) for index in range(len(self))])


def read_image(path: Path, channels: int) -> Image.Image:
    """Gray or RGB, the way up that its camera says, on white where it is transparent. Raises DataError where it cannot be read."""
    with _opened(path) as file:
        return _opaque(ImageOps.exif_transpose(file)).convert("L" if channels == 1 else "RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: truncated, corrupt or not an image ({reason}); mend it or take it away") from None


def _opaque(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def list_classes(folder: Path) -> list[str]:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if len(classes) < 2:
        raise DataError(f"data.path={folder}: {len(classes)} folders inside; at least two are needed, one for each class")
    return classes


def list_images(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """(paths, labels), by class and name. A class without images is an error."""
    paths, labels = [], []
    if other := sorted({entry.name for entry in folder.iterdir() if entry.is_dir()} - set(classes)):
        raise DataError(f"{folder / other[0]}: a class that the training images lack; they have {', '.join(classes)}")
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{folder / name}: no images; each class needs some ({', '.join(sorted(SUFFIXES))})")
        paths += found
        labels += [label] * len(found)
    return paths, labels


def _common_size(paths: Sequence[Path]) -> int:
    """Pixels a side of the first image, by which the others are checked as they come; only headers are read."""
    first = None
    for path in paths:
        with _opened(path) as file:
            size = file.size
        first = first or size
        if size != first or size[0] != size[1]:
            raise DataError(f"{path}: {size[0]}x{size[1]} pixels, where all must be square and of one size; set data.image_size=PIXELS")
    assert first is not None
    return first[0]
