"""Photographs from JPEGs to normalised batches at 224 pixels: ours beside torchvision's data set, transforms and DataLoader.

`python -m benchmarks.photos`. Both with all cores, in the same process, by turns; ours from files to the cache and on in the first epoch.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.measure import interleaved, machine
from resnet.build import build_plan
from resnet.build_data import build_data, build_loaders, steps_per_epoch
from resnet.build_fabric import build_fabric
from resnet.config.cli import compose_config

WIDTH, HEIGHT, SIDE, BATCH = 500, 375, 224, 128
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
THEIRS, OURS = "torchvision", "ours"


def write_photos(folder: Path, number: int) -> None:
    """JPEGs of smooth noise whose strength grows with its size, as in photographs, in two classes."""
    generator = torch.Generator().manual_seed(0)
    for index in range(number):
        waves = [2.0**-octave * torch.randn(1, 3, 3 * 2**octave, 4 * 2**octave, generator=generator) for octave in range(7)]
        texture = torch.stack([F.interpolate(one, (HEIGHT, WIDTH), mode="bicubic")[0] for one in waves]).sum(0)
        pixels = (128 + 60 * texture).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        path = folder / ("test" if index < 2 else "train") / "ab"[index % 2] / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


class Theirs:
    """As in torchvision's own recipe: pictures of Pillow, which are made tensors after they were cut and scaled."""

    def __init__(self, folder: Path) -> None:
        steps = [v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        images = ImageFolder(str(folder / "train"), v2.Compose(steps))
        cores = len(os.sched_getaffinity(0))
        self.loader = DataLoader(images, BATCH, shuffle=True, num_workers=cores, persistent_workers=True)

    def epochs(self) -> Iterator[Iterable[Any]]:
        while True:
            yield self.loader


class Ours:
    """What train.py does before each step, with the keys of a user."""

    def __init__(self, folder: Path) -> None:
        given = [f"data.path={folder}", "data.image_size=256", f"data.mean={MEAN}", f"data.std={STD}", "data.val_size=0", "model=resnet18"]
        given += [f"augment.0.size={SIDE}", "augment.0.scale=[0.08,1.0]", f"batch_size={BATCH}", "fabric=cpu"]
        config = compose_config(["data=folder", *given])
        data = build_data(config)
        self.loader = build_loaders(config, data, build_fabric(config), build_plan(config, steps_per_epoch(config, data)))[0]

    def epochs(self) -> Iterator[Iterable[Any]]:
        return (self.loader.epoch(epoch) for epoch in count())


def images_per_second(kind: type[Theirs] | type[Ours], folder: Path, later: int) -> Mapping[str, float]:
    """In the first epoch, from the list of files on, and in the `later` ones."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # nothing is decoded yet, under a new name
        link = Path(cache, "photos")
        link.symlink_to(folder)
        started = time.perf_counter()
        epochs = kind(link).epochs()
        speeds = []
        for _ in range(1 + later):
            images = sum(len(images) for images, *_ in next(epochs))
            speeds.append(images / (time.perf_counter() - started))
            started = time.perf_counter()
    return {"first": speeds[0], "later": max(speeds[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--later", type=int, default=3, help="epochs after the first one, of which the fastest counts")
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, chosen.images)
        images_per_second(Ours, folder, 1)  # imports
        found = interleaved(
            {OURS: lambda: images_per_second(Ours, folder, chosen.later), THEIRS: lambda: images_per_second(Theirs, folder, chosen.later)},
            chosen.repetitions,
        )
    for epoch in ("first", "later"):
        ours, theirs = (found[name][epoch] for name in (OURS, THEIRS))
        print(f"{epoch} epoch{'s' * (epoch == 'later')}: ours {ours:,.0f} images/s, torchvision's {theirs:,.0f}: {ours / theirs:.1f} times")
    print(f"{len(os.sched_getaffinity(0))} cores; {machine()}")


if __name__ == "__main__":
    main()
