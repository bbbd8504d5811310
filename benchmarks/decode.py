"""Ways from a JPEG to 224 pixels, each over how it was done before: `python -m benchmarks.decode`."""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.measure import interleaved, machine
from benchmarks.start import process
from resnet.data.form import Form
from resnet.data.pictures import read_picture
from resnet.training.memory import keep_freed_memory

SIDE = 224
SHOWN = 640, 427  # pixels of the photo that scikit-learn ships, width and height
PHOTOS = {(500, 375, 75): 40, (500, 375, 90): 40, (4000, 3000, 90): 4}  # width, height, JPEG's quality; how many are decoded at a time
BEFORE = "Pillow, whole, as before"


def photo(folder: Path, size: tuple[int, int], quality: int) -> Path:
    """That photo in another size; an enlarged one gets back the fine grain of a camera."""
    from sklearn.datasets import load_sample_image

    path = folder / "{}x{}, {}.jpg".format(*size, quality)
    image = ImageOps.fit(Image.fromarray(load_sample_image("china.jpg")), size, Image.Resampling.BICUBIC)
    if size > SHOWN:
        grain = np.random.default_rng(0).normal(0, 4, (size[1], size[0], 3))
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    image.save(path, quality=quality)
    return path


def pillow_whole(path: Path) -> Tensor:
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    return torch.from_numpy(np.array(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BILINEAR))).permute(2, 0, 1)


def pillow_draft(path: Path) -> Tensor:
    with Image.open(path) as file:
        file.draft("RGB", (2 * SIDE, 2 * SIDE))
        side = min(file.size)
        left, top = (file.width - side) / 2, (file.height - side) / 2
        box = (left, top, left + side, top + side)
        image = file.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def torchvision_uint8(path: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2 import functional

    image = decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)
    return functional.resize(functional.center_crop(image, [min(image.shape[1:])] * 2), [SIDE, SIDE], antialias=True)


def ours(path: Path) -> Tensor:
    return read_picture(path, Form((SIDE, SIDE), 3))


WAYS = {
    BEFORE: pillow_whole,
    "Pillow, draft and reducing_gap": pillow_draft,
    "torchvision's decoder, uint8 resizing": torchvision_uint8,  # deprecated since torchvision 0.29
    "simplejpeg, uint8 resizing, as here": ours,
}


def milliseconds(way: Callable[[Path], Tensor], path: Path, times: int) -> Callable[[], Mapping[str, float]]:
    """Processor time of this thread, because other programs may hold the machine's other half."""

    def decode() -> Mapping[str, float]:
        started = time.thread_time()
        for _ in range(times):
            way(path)
        return {"ms": 1e3 * (time.thread_time() - started) / times}

    return decode


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training
    with tempfile.TemporaryDirectory() as folder:
        paths = {chosen: photo(Path(folder), chosen[:2], chosen[2]) for chosen in PHOTOS}
        contenders = {(one, name): milliseconds(way, paths[one], PHOTOS[one]) for one in PHOTOS for name, way in WAYS.items()}
        for contender in contenders.values():
            contender()  # imports
        found = interleaved({f"{paths[one].stem}: {name}": contender for (one, name), contender in contenders.items()}, repetitions)
    for name, figures in found.items():
        before = found[f"{name.partition(':')[0]}: {BEFORE}"]["ms"]
        print(f"{name}: {figures['ms']:.2f} ms, {before / figures['ms']:.2f} times as fast as before")
    imports = {name: process("-c", f"import torch, {name}") for name in ("numpy", "simplejpeg", "torchvision.io")}
    seconds = {name: figures["seconds"] for name, figures in interleaved(imports, 3).items()}
    for name in ("simplejpeg", "torchvision.io"):
        print(f"import {name}: {seconds[name] - seconds['numpy']:.2f} s on top of torch's {seconds['numpy']:.2f} s")
    print(machine())


if __name__ == "__main__":
    main()
