"""Jobs in worker processes of hydra/launcher=parallel: each has a log of its own, and saves and ends when its sweep does."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import current_process
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig

from resnet.runs.directory import RunDirectory, run_ids
from resnet.streams import lasting
from resnet.sweeps.gpus import stay_on_a_gpu

LOGS = "logs"  # folder in the sweep's
GRACE = 30.0  # seconds in which a job whose sweep is over may save
LOOK = 0.5  # seconds between looks
is_over = threading.Event()


@contextmanager
def own_output() -> Iterator[None]:
    """Does nothing outside of a worker: the screen is then the job's own."""
    if not current_process().name.startswith("Loky"):
        yield
        return
    directory = Path(HydraConfig.get().runtime.output_dir)
    log = directory.parent / LOGS / f"{directory.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    marker = _marker(log.parent, os.getppid())
    _watch_parent(marker)
    stay_on_a_gpu(log.parent)
    with log.open("a", buffering=1) as file, redirect_stdout(lasting(file)), redirect_stderr(lasting(file)):
        if gpu := os.environ.get("CUDA_VISIBLE_DEVICES"):
            print(f"CUDA_VISIBLE_DEVICES={gpu}")
        try:
            yield
        finally:
            if marker.exists():  # the sweep ends its workers once all have saved: joblib kills the others with the first that ends
                signal.signal(
                    signal.SIGTERM, signal.SIG_IGN
                )  # of the thread that looks for the marker, where the terminal's Ctrl-C was first
                time.sleep(GRACE)
            if is_over.is_set():  # joblib would hand this process the next job
                os._exit(75)


@contextmanager
def parallel_jobs(sweep: Path) -> Iterator[None]:
    """Around the launcher, in the sweep's own process: joblib kills its workers on Ctrl-C; here they save first.

    A second signal does not wait.
    """
    marker = _marker(sweep / LOGS, os.getpid())

    def stop(number: int, frame: FrameType | None) -> None:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        deadline = time.monotonic() + GRACE
        time.sleep(2 * LOOK)
        while any(RunDirectory(sweep / name).is_held_elsewhere for name in run_ids(sweep)) and time.monotonic() < deadline:
            time.sleep(LOOK)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(75)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        marker.unlink(missing_ok=True)


def _marker(logs: Path, sweep: int) -> Path:
    """A file that says that the sweep of this process is to end."""
    return logs / f".stop-{sweep}"


def _watch_parent(marker: Path) -> None:
    """joblib's workers outlive a parent that was killed."""
    if not any(thread.name == "parent" for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(os.getppid(), marker), name="parent", daemon=True).start()


def _end_with(parent: int, marker: Path) -> None:
    while os.getppid() == parent and not marker.exists():
        time.sleep(LOOK)
    is_over.set()
    os.kill(os.getpid(), signal.SIGTERM)  # the run saves
    time.sleep(GRACE)
    sys.stderr.flush()
    os._exit(75)
