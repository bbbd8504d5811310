"""Classes and probabilities for image files of any kind and size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from resnet.analysis.saved import SavedRun, answer
from resnet.config import UserError
from resnet.data import DataError, Split
from resnet.data.files import SUFFIXES, files_in, read_image

LIGHT_ON_DARK = ("digits", "mnist", "fashion_mnist")
INK = {"digits": 1.0, "mnist": 20 / 28}  # share of the image side that the longer side of a digit takes, by the data set's construction


def predict(run: SavedRun, paths: Sequence[Path], which: str | None = None) -> list[dict[str, Any]]:
    """Returns one entry per image, in the given order. A folder stands for its images, sorted by name."""
    try:
        files = _files(paths)
        images = torch.stack([as_trained(read_image(file, run.channels), run.config.data.name, run.image_size) for file in files])
    except DataError as error:
        raise UserError(str(error)) from None
    logits = answer(run, Split(images, torch.zeros(len(images), dtype=torch.int64)), which)[0].logits
    assert logits is not None
    return [
        {
            "file": str(file),
            "class": run.classes[row.index(max(row))],
            "probability": max(row),
            "probabilities": dict(zip(run.classes, row, strict=True)),
        }
        for file, row in zip(files, logits.double().softmax(1).tolist(), strict=True)
    ]


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        found = files_in(path) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: no images in it ({', '.join(sorted(SUFFIXES))})")
        files += found
    return files


def as_trained(image: Image.Image, data: str, size: int) -> Tensor:
    """Returns (C, S, S) uint8, in the form of the images of the model's data set."""
    if data in LIGHT_ON_DARK and np.median(_border(image)) > 127:
        image = ImageOps.invert(image)
    if image.size != (size, size):
        image = _resized(image, data, size)
    return torch.from_numpy(np.array(image)).reshape(size, size, len(image.getbands())).permute(2, 0, 1)


def _border(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _resized(image: Image.Image, data: str, size: int) -> Image.Image:
    if data in INK:
        return _digit(np.asarray(image, dtype=np.float64), round(INK[data] * size), size, by_mass=data == "mnist")
    if data == "folder":  # as in training
        return image.resize((size, size), Image.Resampling.BILINEAR)
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _digit(pixels: NDArray[np.float64], ink_size: int, size: int, by_mass: bool) -> Image.Image:
    """Cuts the ink out, scales it to `ink_size` pixels and centres it. `by_mass` centres it by its mass, as LeCun et al. 1998 did."""
    background = float(np.median(_border(Image.fromarray(pixels.astype(np.uint8)))))
    ink = np.clip(pixels - background, 0, None)
    ink *= 255 / max(ink.max(), 1)
    rows, columns = np.nonzero(ink > 64)
    if not len(rows):
        return Image.new("L", (size, size))
    cut = Image.fromarray(ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.uint8))
    scale = ink_size / max(cut.size)
    cut = cut.resize(
        (max(round(cut.width * scale), 1), max(round(cut.height * scale), 1)),
        Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC,
    )
    left, top = (size - cut.width) / 2, (size - cut.height) / 2
    if by_mass:
        mass = np.asarray(cut, dtype=np.float64)
        centre = size / 2 + 0.5  # as in MNIST's own images: the middle of pixel 14
        left = centre - (mass.sum(0) @ (np.arange(cut.width) + 0.5)) / mass.sum()
        top = centre - (mass.sum(1) @ (np.arange(cut.height) + 0.5)) / mass.sum()
    canvas = Image.new("L", (size, size))
    canvas.paste(cut, (round(left), round(top)))
    return canvas
