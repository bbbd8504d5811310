"""Single pictures: files and Pillow images of any kind, as gray or RGB pixels in the form of a data set."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.form import Form, Size

RAW = {".dng", ".cr2", ".nef", ".arw"}  # of cameras: each maker's own, and no picture before it is developed
HEIF = {".heic", ".heif"}  # need pillow-heif
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values for pictures that lie on their side
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # Pillow knows them, and needs other programs for what is in them


def is_picture_name(path: Path) -> bool:
    """Tells by its suffix if a file should be a picture, readable or not."""
    return path.suffix.lower() in picture_suffixes()


@cache
def picture_suffixes() -> frozenset[str]:
    Image.init()
    known = Image.registered_extensions()
    return frozenset({suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in NO_PICTURES} | HEIF | RAW)


def read_picture(path: Path, form: Form) -> Tensor:
    """Reads a picture as (C, H, W) uint8 in the form of the data set. Raises DataError if it cannot be read."""
    with opened(path) as file:
        return as_pixels(file, form)


def as_pixels(image: Image.Image, form: Form) -> Tensor:
    """Returns (C, H, W) uint8 of any picture. Each new pixel is a weighted mean of those that it covers."""
    image = as_gray_or_colour(image, form.channels)
    height, width = form.size
    if image.size != (width, height):
        image = _FITTED[form.fit](image, (width, height))
    return torch.from_numpy(np.array(image)).reshape(height, width, -1).permute(2, 0, 1)


def picture_size(path: Path) -> Size:
    """Returns (height, width) of an upright picture, from its header. Raises DataError."""
    with opened(path) as file:
        width, height = file.size
        turned = file.getexif().get(ORIENTATION) in TURNED
    return (width, height) if turned else (height, width)


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
    with opened(path) as file:
        return as_gray_or_colour(file, channels)


def as_gray_or_colour(image: Image.Image, channels: int) -> Image.Image:
    """Converts to gray or RGB. Applies the camera's orientation, and puts transparent images on white."""
    return _opaque(_in_8_bits(ImageOps.exif_transpose(image))).convert("L" if channels == 1 else "RGB")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
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
