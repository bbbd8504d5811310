"""How cost grows: with depth, images, batch, runs and jobs; and one process against two. `python -m benchmarks.growth` draws growth.png."""

import argparse
import csv
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from benchmarks.measure import ROOT, machine, run, train
from benchmarks.speed import ours
from resnet.config.cli import compose_config


@dataclass(frozen=True)
class Growth:
    """`values` over `sizes`; `wanted` says what they should do: stay flat, or grow in a line."""

    title: str
    x: str
    y: str
    wanted: str
    sizes: Sequence[int]
    values: Sequence[float]

    @property
    def verdict(self) -> str:
        if self.wanted == "flat":
            middle = median(self.values)
            return f"within {max(abs(value / middle - 1) for value in self.values):.0%} of the median"
        slope, start = linear_regression(self.sizes, self.values)
        worst = max(abs(value / (start + slope * size) - 1) for size, value in zip(self.sizes, self.values, strict=True))
        return f"{start:.3g} + {slope:.3g} each, within {worst:.0%}"


def depth(data: Path) -> Growth:
    blocks = {1: 30, 3: 18, 5: 12, 9: 9, 18: 6}  # blocks a stage: optimizer steps
    operations = [
        ours(data, f"model.layers=[{n},{n},{n}]", f"max_steps={steps}", "log_every=3")()["operations"] / 1e9 for n, steps in blocks.items()
    ]
    return Growth("depth", "layers", "billion operations a second", "flat", [6 * n + 2 for n in blocks], operations)


def images(data: Path) -> Growth:
    sizes = [4000, 8000, 16000, 32000]
    seconds = [train(data, f"data.train_size={size}", "data.val_size=0", "epochs=1").summary["training_seconds"] for size in sizes]
    return Growth("an epoch", "images", "seconds of training", "line", sizes, seconds)


def batch(data: Path) -> Growth:
    sizes = [32, 64, 128, 256, 512]
    memory = [train(data, f"batch_size={size}", "max_steps=6").megabytes for size in sizes]
    return Growth("memory", "batch", "largest resident memory (MB)", "line", sizes, memory)


def comparison() -> Growth:
    sizes, seconds = [250, 500, 1000, 2000], list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            for number in range(len(list(folder.glob("runs/*"))), size):
                _made_up(folder / "runs" / f"{number:05}", number)
            seconds.append(median(run(["-m", "resnet", "compare", "runs"], folder).seconds for _ in range(3)))
    return Growth("compare", "runs", "seconds", "line", sizes, seconds)


def preflight(data: Path) -> Growth:
    """The last job has a mistake, so that all are checked and none starts."""
    sizes, seconds = [25, 50, 100, 200], []
    for size in sizes:
        rates = ",".join(f"{0.001 * number:.3f}" for number in range(1, size // 5)) + ",-1"
        with tempfile.TemporaryDirectory() as folder:
            command = [ROOT / "train.py", "-m", f"data.root={data}", "model.layers=[1],[2],[3],[4],[5]", f"lr={rates}"]
            seconds.append(run(command, Path(folder), status=2).seconds)
    return Growth("preflight", "jobs", "seconds", "line", sizes, seconds)


def processes(data: Path) -> Growth:
    settings = ("max_steps=40", "log_every=5")
    speeds = [
        ours(data, *settings, *more)()["images_per_second"] for more in ((), ("fabric=ddp", "fabric.devices=2", "fabric.accelerator=cpu"))
    ]
    return Growth("processes (gloo), the same batch", "processes", "images/s", "flat", [1, 2], speeds)


@cache
def _default_config() -> dict[str, Any]:
    return asdict(compose_config(["data=digits", "sweep.name=made-up"]))


def _made_up(directory: Path, number: int) -> None:
    """A finished run of 30 epochs, one of five seeds of its config."""
    directory.mkdir(parents=True)
    lr, seed, accuracy = 0.001 * (1 + number // 5), number % 5, 0.9 + 0.0001 * (number % 97)
    config = {**_default_config(), "seed": seed, "lr": lr}
    (directory / "config.yaml").write_text(json.dumps(config) + "\n", "utf-8")  # which is YAML too
    rows = [f"{10 * epoch},{epoch},{1 / epoch},{accuracy * (1 - 0.5**epoch)}" for epoch in range(1, 31)]
    (directory / "metrics.csv").write_text("\n".join(["step,epoch,train/loss,val/accuracy", *rows, ""]), "utf-8")
    best: dict[str, Any] = {"step": 300, "val/accuracy": accuracy, "val/loss": 0.1}
    summary: dict[str, Any] = {
        "status": "finished",
        "error": None,
        "overrides": [f"lr={lr}"],
        "best": best,
        "test": {"accuracy": accuracy, "loss": 0.1},
    }
    summary |= {"parameters": 1000, "flops": {"forward": 1000, "training": 3000}, "seconds": 10.0}
    (directory / "summary.json").write_text(json.dumps(summary), "utf-8")


def draw(grown: Sequence[Growth], file: Path, note: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, one in zip(figure.subplots(2, 3).flat, grown, strict=True):
        axes.plot(one.sizes, one.values, marker="o")
        axes.set(xlabel=one.x, ylabel=one.y, ylim=(0, 1.15 * max(one.values)), xlim=(0, 1.05 * max(one.sizes)))
        axes.set_title(f"{one.title}\n{one.verdict}", fontsize=10)
        axes.grid(alpha=0.3)
    figure.supxlabel(note, fontsize=8)
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--to", type=Path, default=Path("outputs/benchmark"), help="folder of growth.csv and growth.png")
    chosen = parser.parse_args()
    data = chosen.data.resolve()
    chosen.to.mkdir(parents=True, exist_ok=True)
    grown = []
    for measured in (depth, images, batch, lambda _: comparison(), preflight, processes):
        grown.append(measured(data))
        points = ", ".join(f"{x:,}: {y:,.4g}" for x, y in zip(grown[-1].sizes, grown[-1].values, strict=True))
        print(f"{grown[-1].title}: {points}: {grown[-1].verdict}", flush=True)
    with (chosen.to / "growth.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(one.title, one.x, x, one.y, f"{y:.5g}") for one in grown for x, y in zip(one.sizes, one.values, strict=True)]
        csv.writer(file).writerows([("what", "size", "at", "measured", "value"), *rows])
    draw(grown, chosen.to / "growth.png", machine())
    print(f"written: {chosen.to}/growth.csv, growth.png")


if __name__ == "__main__":
    main()
