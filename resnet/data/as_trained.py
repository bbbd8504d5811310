"""Turns any picture into an image as a network was trained on. Prediction, evaluation and exported models all use it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from resnet.data.form import Form
from resnet.data.pictures import as_gray_or_colour, as_pixels, read_image, read_picture

LARGE = 1024  # pixels of the longer side, in which a drawing is found as well as in a camera's 4000


class Drawing(NamedTuple):
    """How the makers of a data set prepared light drawings on black."""

    longer: float  # share of the image's side that the longer side of what is drawn takes
    threshold: int  # of 255, above which a pixel belongs to what is drawn
    is_stretched: bool = True  # the lightest pixel becomes white
    by_mass: bool = False  # centred by its mass, else by its borders


DRAWINGS = {
    "digits": Drawing(1.0, 64),
    "mnist": Drawing(20 / 28, 64, by_mass=True),
    "fashion_mnist": Drawing(1.0, 13, is_stretched=False),  # trimmed at 5 % (Xiao et al. 2017)
}


def as_trained(picture: Path | Image.Image, form: Form, pictures: str = "photos") -> Tensor:
    """Returns (C, H, W) uint8 from a file or any Pillow image. Raises DataError if the file cannot be read.

    Args:
        pictures: what the data set shows, as Source.pictures says: photos, or light drawings on black, which are cut out, scaled and
            centred as the makers of the set did. A picture of the right size stays as it is; dark drawings on white are inverted.
    """
    if pictures not in DRAWINGS or form.channels != 1:
        return read_picture(picture, form) if isinstance(picture, Path) else as_pixels(picture, form)
    read = read_image if isinstance(picture, Path) else as_gray_or_colour
    image = read(picture, form.channels, LARGE)  # type: ignore[arg-type]
    if np.median(_border(image)) > 127:
        image = ImageOps.invert(image)
    height, width = form.size
    if image.size != (width, height):
        image = _drawn(np.asarray(image, dtype=np.float64), DRAWINGS[pictures], height)
    return as_pixels(image, form)


def _border(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _drawn(pixels: NDArray[np.float64], drawing: Drawing, size: int) -> Image.Image:
    """Cuts out what is drawn, scales it and centres it."""
    background = float(np.median(_border(Image.fromarray(pixels.astype(np.uint8)))))
    ink = np.clip(pixels - background, 0, None)
    if drawing.is_stretched:
        ink *= 255 / max(ink.max(), 1)
    rows, columns = np.nonzero(ink > drawing.threshold)
    if not len(rows):
        return Image.new("L", (size, size))
    cut = Image.fromarray(ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.uint8))
    scale = round(drawing.longer * size) / max(cut.size)
    cut = cut.resize(
        (max(round(cut.width * scale), 1), max(round(cut.height * scale), 1)),
        Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC,
    )
    left, top = (size - cut.width) / 2, (size - cut.height) / 2
    if drawing.by_mass:  # as LeCun et al. 1998 did
        mass = np.asarray(cut, dtype=np.float64)
        centre = size / 2 + 0.5  # as in MNIST's own images: the middle of pixel 14
        left = centre - (mass.sum(0) @ (np.arange(cut.width) + 0.5)) / mass.sum()
        top = centre - (mass.sum(1) @ (np.arange(cut.height) + 0.5)) / mass.sum()
    canvas = Image.new("L", (size, size))
    canvas.paste(cut, (round(left), round(top)))
    return canvas
