"""Two runs at once over one alone, as resnet/__init__.py lets the threads wait and as GNU's OpenMP does: `python -m benchmarks.beside`."""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import ROOT, interleaved, machine, run

WAITING = {
    "as here": {},
    "GNU's default": {"GOMP_SPINCOUNT": "300000"},
    "OMP_WAIT_POLICY=passive": {"GOMP_SPINCOUNT": "0"},  # which is what it means
}


def at_once(count: int, environment: Mapping[str, str], epochs: int) -> Callable[[], Mapping[str, float]]:
    """Seconds until the last of `count` runs that were started together has ended, with all threads that each one takes."""

    def one(_: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [ROOT / "train.py", "data=digits", f"epochs={epochs}", "wandb=disabled"]
            return run(command, Path(folder), environment=environment).seconds

    def together() -> Mapping[str, float]:
        with ThreadPoolExecutor(count) as pool:
            return {"seconds": max(pool.map(one, range(count)))}

    return together


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=__doc__)
    parser.add_argument("--epochs", type=int, default=12, help="of real digits, in each run")
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    contenders = {
        f"{name}, {count} at once": at_once(count, settings, chosen.epochs) for name, settings in WAITING.items() for count in (1, 2)
    }
    found = interleaved(contenders, chosen.repetitions)
    alone = found["as here, 1 at once"]["seconds"]
    for name in WAITING:
        one, two = (found[f"{name}, {count} at once"]["seconds"] for count in (1, 2))
        print(f"{name}: {one:.1f} s alone ({one / alone:.2f}), {two:.1f} s for two at once: {two / one:.1f} times as long")
    print(machine())


if __name__ == "__main__":
    main()
