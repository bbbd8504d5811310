"""How long it takes until something happens, as ratios to the imports that it cannot do without."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.measure import ROOT, interleaved, run
from benchmarks.speed import first_step


def process(*arguments: object) -> Callable[[], Mapping[str, float]]:
    def once() -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return {"seconds": run(arguments, Path(folder)).seconds}

    return once


def start(repetitions: int) -> dict[str, float]:
    """Ratios; the first process of all, which fills the disk's cache, is not counted."""
    contenders = {
        "hydra": process("-c", "import hydra"),
        "config": process(ROOT / "train.py", "--cfg", "job"),
        "torch": process("-c", "import torch, lightning_fabric"),
        "step": lambda: {"seconds": first_step("data=digits")},
    }
    interleaved(contenders, 1)
    found = {name: figures["seconds"] for name, figures in interleaved(contenders, repetitions).items()}
    return {
        "config": found["config"] / found["hydra"],
        "first_step": found["step"] / found["torch"],
        **{f"{k}_seconds": v for k, v in found.items()},
    }
