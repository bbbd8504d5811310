"""What the loop costs around its steps, how fast it evaluates, and how fast images are augmented: measured inside one process."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch.utils.data import DataLoader

from benchmarks.article import training_images
from benchmarks.measure import ROOT
from resnet.build import Parts, build
from resnet.build_fabric import build_fabric
from resnet.config import Config, load_config
from resnet.data import Batch, Loader
from resnet.run import run

PIECE, PIECES = 20, 12  # optimizer steps timed at a time, and how often


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load_config(compose("train", [*overrides]))


class Bare:
    """The same step on the same images in a loop of five lines: no tracking, no progress, no Fabric around the model."""

    def __init__(self, parts: Parts) -> None:
        self.model, self.optimizer = parts.learner.bare_model, parts.learner.bare_optimizer
        self.scheduler, self.batches = parts.learner.scheduler, parts.train.epoch()
        self.device = parts.fabric.device

    def seconds(self, steps: int) -> float:
        started = time.perf_counter()
        for images, targets, *_ in islice(self.batches, steps):
            F.cross_entropy(self.model(images), targets, label_smoothing=0.1).backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def overhead(data: Path) -> dict[str, float]:
    """The whole run (record, W&B offline, screen, Fabric) and the bare loop by turns, in pieces of some steps; ratios of neighbours."""
    chosen = config(f"data.root={data}", f"max_steps={(PIECES + 2) * PIECE}", "name=run", "wandb.mode=offline")
    parts = build(chosen, build_fabric(chosen))
    bare, original = Bare(parts), Loader.epoch
    whole, alone, resumed = [], [], 0.0

    def by_turns(loader: Loader, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        nonlocal resumed
        for number, batch in enumerate(original(loader, epoch, start)):
            if loader.shuffle and number % PIECE == 0:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if number > PIECE:  # the first piece warms up
                    whole.append(time.perf_counter() - resumed)
                seconds = bare.seconds(PIECE)
                if number > PIECE:
                    alone.append(seconds)
                resumed = time.perf_counter()
            yield batch

    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        Loader.epoch = by_turns  # type: ignore[method-assign, assignment]
        try:
            run(chosen, Path("outputs/run"), [])
        finally:
            Loader.epoch = original  # type: ignore[method-assign, assignment]
            os.chdir(before)
    cost = median(one / other for one, other in zip(whole, alone, strict=True)) - 1
    return {"overhead": cost, "pieces": len(whole), "images_per_second_bare": PIECE * chosen.batch_size / median(alone)}


def evaluation(data: Path) -> dict[str, float]:
    """Images evaluated per second over images trained on per second, by turns."""
    chosen = config(f"data.root={data}")
    parts = build(chosen, build_fabric(chosen))
    assert parts.val is not None
    bare, ratios = Bare(parts), []
    parts.learner.model.train()
    bare.seconds(3)
    for _ in range(3):
        trained = PIECE * chosen.batch_size / bare.seconds(PIECE)
        started = time.perf_counter()
        parts.learner.scores(parts.val.epoch())
        ratios.append(parts.val.num_images / (time.perf_counter() - started) / trained)
        parts.learner.model.train()
    return {"evaluation": median(ratios)}


def augmentation(data: Path) -> dict[str, float]:
    """Images augmented per second in batches of 128, over torchvision's transforms image by image (PIL, in this process), by turns."""
    chosen = config("experiment=article", "batch_size=128", f"data.root={data}")
    parts = build(chosen, build_fabric(chosen))
    ours, theirs = parts.train, DataLoader(training_images(str(data)), batch_size=chosen.batch_size, shuffle=True)
    speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for epoch in range(3):
        for name, batches, number in (("ours", ours.epoch(epoch), 400), ("theirs", iter(theirs), 20)):
            started = time.perf_counter()
            images = sum(len(batch[0]) for batch in islice(batches, number))
            speeds[name].append(images / (time.perf_counter() - started))
    return {"augmentation": median(speeds["ours"]) / median(speeds["theirs"]), "augmented_per_second": median(speeds["ours"])}


def main() -> None:
    data = Path(sys.argv[1])
    print(json.dumps({**overhead(data), **evaluation(data), **augmentation(data)}))


if __name__ == "__main__":
    main()
