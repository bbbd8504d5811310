"""Time to accuracy: experiment=mnist_fast, and how far the article's program is after the same seconds of training."""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from benchmarks.measure import run, train

SEEDS, EPOCHS = 5, 5  # of ours and of the article's program, in the full benchmark


def fast(data: Path, seed: int) -> tuple[float, float, int]:
    """Test accuracy, seconds of training and images of one run."""
    trained = train(data, "experiment=mnist_fast", f"seed={seed}")
    seconds = trained.summary["training_seconds"]
    return trained.summary["test"]["accuracy"], seconds, round(seconds * trained.summary["images_per_second"])


def article(data: Path, *limit: object) -> tuple[float, float, int]:
    with tempfile.TemporaryDirectory() as folder:
        ended = run(["-m", "benchmarks.article", "--data", data, "--test", *limit], Path(folder))
    found = re.search(r"test accuracy ([\d.]+)", ended.output)
    assert found is not None
    (_, first), (steps, last) = ended.steps()[0], ended.steps()[-1]
    return float(found[1]), last - first, 32 * steps


def accuracy(data: Path, is_full: bool) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("program", "test accuracy", "seconds of training", "images", "n")]
    runs = []
    for seed in range(SEEDS if is_full else 1):
        print(f"experiment=mnist_fast seed={seed}", file=sys.stderr, flush=True)
        runs.append(fast(data, seed))
    rows.append(_row("experiment=mnist_fast", runs))
    seconds = mean(run[1] for run in runs)
    print(f"the article's program for {seconds:.0f} s", file=sys.stderr, flush=True)
    rows.append(_row("the article's program, the same seconds", [article(data, "--seconds", seconds)]))
    if is_full:
        print(f"the article's program for {EPOCHS} epochs", file=sys.stderr, flush=True)
        rows.append(_row(f"the article's program, {EPOCHS} epochs", [article(data, "--steps", EPOCHS * 60_000 // 32)]))
    return rows


def _row(name: str, runs: Sequence[tuple[float, float, int]]) -> Sequence[str]:
    values = [100 * run[0] for run in runs]
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return name, f"{mean(values):.2f} %{spread}", f"{mean(run[1] for run in runs):.0f}", f"{runs[0][2]:,}", str(len(runs))
