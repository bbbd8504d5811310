"""Images per second end to end, against the article's program and Lightning's Trainer."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import ROOT, interleaved, matrix_peak, run, train

ARTICLE, LIGHTNING = "the article's program, batch 32", "Lightning's Trainer, batch 32"
SAME_32, SAME_128 = "ours, the article's settings, batch 32", "ours, the article's settings, batch 128"
DEFAULT, DEEP = "ours, default recipe", "ours, default recipe, layers [9,9,9]"
PEAK = "matrix product"
IMAGES = 5120  # of a timed training
Figures = Mapping[str, float]


def plain(module: str, data: Path, packages: Sequence[Path] = ()) -> Callable[[], Figures]:
    """One of the plain programs, at batches of 32: the time between its first step and its last."""

    def once() -> Figures:
        arguments = ["-m", module, "--data", data, "--steps", IMAGES // 32]
        with tempfile.TemporaryDirectory() as folder:
            ended = run(arguments, Path(folder), packages=packages)
        (_, first), (last_step, last) = ended.steps()[0], ended.steps()[-1]
        speed = (last_step - 1) * 32 / (last - first)
        return {"images_per_second": speed, "megabytes": ended.megabytes, "first_step": first - ended.started}

    return once


def ours(data: Path, *overrides: str) -> Callable[[], Figures]:
    """train.py with its record, W&B offline and screen: the time between its first record and its last."""

    def once() -> Figures:
        trained = train(data, *overrides)
        rows = [(row["step"], row["seconds"]) for row in trained.rows if row["seconds"]]
        (first, begun), (last, ended) = rows[0], rows[-1]
        speed = (last - first) * trained.batch_size / (ended - begun)  # type: ignore[operator]
        return {
            "images_per_second": speed,
            "megabytes": trained.megabytes,
            "first_step": first_step(f"data.root={data}", *overrides),
            "operations": speed * trained.summary["flops"]["training"],
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
        while process.poll() is None and not (metrics.exists() and metrics.read_text("utf-8").count("\n") > 1):
            time.sleep(0.01)
        seconds = time.time() - started
        if process.wait():
            raise RuntimeError(f"train.py: status {process.returncode}")
    return seconds


def contenders(data: Path, packages: Sequence[Path]) -> dict[str, Callable[[], Figures]]:
    def identical(batch_size: int) -> Callable[[], Figures]:
        steps = IMAGES // batch_size
        return ours(data, "experiment=article", f"batch_size={batch_size}", f"max_steps={steps}", f"log_every={steps // 10}")

    deep = ("model.layers=[9,9,9]", "epochs=3", "limit_batches=5", "eval_every=3", "log_every=5")
    return {
        ARTICLE: plain("benchmarks.article", data),
        LIGHTNING: plain("benchmarks.lightning_trainer", data, packages),
        SAME_32: identical(32),
        SAME_128: identical(128),
        DEFAULT: ours(data, f"max_steps={IMAGES // 128}", "log_every=5"),
        DEEP: ours(data, *deep),
        PEAK: lambda: {"operations": matrix_peak()},
    }


def speed(data: Path, repetitions: int, packages: Sequence[Path]) -> dict[str, dict[str, float]]:
    """`packages`: folders in which Lightning's Trainer is, where it is not installed."""
    return interleaved(contenders(data, packages), repetitions)
