"""Images per second end to end, against the article's program and Lightning's Trainer."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import ROOT, interleaved, matrix_peak, run

IMAGES = 5120  # of a timed training, after its first record
Figures = Mapping[str, float]


def plain(module: str, data: Path, packages: Sequence[Path] = (), batch_size: int = 32) -> Callable[[], Figures]:
    """One of the plain programs: the time between its first step and its last."""

    def once() -> Figures:
        steps = IMAGES // batch_size
        arguments = ["-m", module, "--data", data, "--batch-size", batch_size, "--steps", steps, "--log-every", steps]
        with tempfile.TemporaryDirectory() as folder:
            ended = run(arguments, Path(folder), packages=packages)
        (_, first), (last_step, last) = ended.steps()[0], ended.steps()[-1]
        speed = (last_step - 1) * batch_size / (last - first)
        return {"images_per_second": speed, "megabytes": ended.megabytes, "first_step": first - ended.started}

    return once


def ours(data: Path, *overrides: str) -> Callable[[], Figures]:
    """train.py as a user runs it, with its record, W&B offline and screen: the time between its first record and its last."""

    def once() -> Figures:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ended = run([ROOT / "train.py", f"data.root={data}", "name=run", *overrides], folder)
            directory = folder / "outputs" / "run"
            with (directory / "metrics.csv").open() as file:
                rows = [row for row in csv.DictReader(file) if row["seconds"]]
            summary = json.loads((directory / "summary.json").read_text())
        first, last = rows[0], rows[-1]
        steps, seconds = int(last["step"]) - int(first["step"]), float(last["seconds"]) - float(first["seconds"])
        batch_size = next(int(text.split("=")[1]) for text in overrides if text.startswith("batch_size="))
        speed = steps * batch_size / seconds
        return {
            "images_per_second": speed,
            "megabytes": ended.megabytes,
            "first_step": first_step(f"data.root={data}", *overrides),
            "operations": speed * summary["flops"]["training"],
        }

    return once


def first_step(*overrides: str) -> float:
    """Seconds from the start of train.py to the record of its first optimizer step."""
    with tempfile.TemporaryDirectory() as name:
        metrics = Path(name, "outputs", "run", "metrics.csv")
        arguments = [str(ROOT / "train.py"), *overrides, "name=run", "log_every=1", "max_steps=2", "limit_batches=2"]
        environment = {**os.environ, "WANDB_MODE": "offline"}
        started = time.time()
        process = subprocess.Popen([sys.executable, *arguments], cwd=name, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 1):
            time.sleep(0.01)
        seconds = time.time() - started
        if process.wait():
            raise RuntimeError(f"train.py: status {process.returncode}")
    return seconds


def contenders(data: Path, packages: Sequence[Path]) -> dict[str, Callable[[], Figures]]:
    def identical(batch_size: int) -> Callable[[], Figures]:
        steps, every = IMAGES // batch_size, IMAGES // batch_size // 10
        return ours(data, "experiment=article", f"batch_size={batch_size}", f"max_steps={steps}", f"log_every={every}")

    recipe = ("batch_size=128", f"max_steps={IMAGES // 128}", "log_every=5")
    return {
        "the article's program, batch 32": plain("benchmarks.article", data),
        "Lightning's Trainer, batch 32": plain("benchmarks.lightning_trainer", data, packages),
        "ours, the article's settings, batch 32": identical(32),
        "ours, the article's settings, batch 128": identical(128),
        "ours, default recipe": ours(data, *recipe),
        "ours, default recipe, layers [9,9,9]": ours(
            data, "batch_size=128", "model.layers=[9,9,9]", "epochs=3", "limit_batches=5", "eval_every=3", "log_every=5"
        ),
        "matrix product": lambda: {"operations": matrix_peak()},
    }


def speed(data: Path, repetitions: int, packages: Sequence[Path]) -> dict[str, dict[str, float]]:
    """`packages`: folders in which Lightning's Trainer is, where it is not installed."""
    return interleaved(contenders(data, packages), repetitions)
