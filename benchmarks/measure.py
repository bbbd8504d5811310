"""Processes timed from outside: how long, how much memory, and when they say that a step is done."""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from resnet.interrupt import passing_on
from resnet.record.directory import Row, RunDirectory

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"step (\d+) at ([\d.]+)")


@dataclass(frozen=True)
class Ended:
    """A process that is over: seconds it took, the most memory it held (MB), all it printed, and when it started."""

    seconds: float
    megabytes: float
    output: str
    started: float

    def steps(self) -> list[tuple[int, float]]:
        """(step, time) of the lines that the plain programs print."""
        return [(int(step), float(at)) for step, at in STEP.findall(self.output)]


def run(
    arguments: Sequence[object],
    folder: Path,
    status: int = 0,
    packages: Sequence[Path] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Ended:
    """`python ARGUMENTS` in a folder, which sees the packages in more folders too.

    Raises:
        RuntimeError: it ended with another status; with its output.
    """
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *packages])), "WANDB_MODE": "offline", **environment}
    log = folder / "output.txt"
    started = time.time()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env=settings,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        with passing_on(process):
            _, ended, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    if process.returncode != status:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: status {process.returncode}\n{log.read_text('utf-8')[-2000:]}")
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return Ended(time.time() - started, usage.ru_maxrss / scale, log.read_text("utf-8"), started)


@dataclass(frozen=True)
class Trained:
    """What train.py wrote, and the most memory it held (MB)."""

    batch_size: int
    rows: list[Row]
    summary: dict[str, Any]
    megabytes: float


def train(data: Path, *overrides: str) -> Trained:
    """train.py as a user runs it, with W&B offline, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        ended = run([ROOT / "train.py", f"data.root={data}", "name=run", *overrides], Path(name))
        directory = RunDirectory(Path(name, "outputs", "run"))
        return Trained(directory.config["batch_size"], directory.metrics, directory.summary, ended.megabytes)


def interleaved(contenders: Mapping[str, Callable[[], Mapping[str, float]]], repetitions: int) -> dict[str, dict[str, float]]:
    """Each contender once, then all again: what slows the machine for a while slows them all. Medians of their figures."""
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in contenders}
    for repetition in range(1, repetitions + 1):
        for name, contender in contenders.items():
            print(f"{repetition} of {repetitions}: {name}", file=sys.stderr, flush=True)
            found[name].append(contender())
    return {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def matrix_peak(size: int = 2048, repetitions: int = 10) -> float:
    """Operations per second of the fastest float32 product of two square matrices, on the device that training takes."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left, right = torch.randn(2, size, size, device=device)
    fastest = 0.0
    for _ in range(repetitions):
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = max(fastest, 2 * size**3 / (time.perf_counter() - started))
    return fastest


def machine() -> str:
    import torch

    from resnet.record.code import read_code

    name = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads of {name}"
    sha = read_code().commit
    at = f"{sha['sha'][:8]}{' with changed files' if sha['dirty'] else ''}" if sha else "unknown"
    return f"{device}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, commit {at}"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.exists() else []
