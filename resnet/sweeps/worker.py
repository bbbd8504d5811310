"""A job in a worker process of hydra/launcher=parallel: its output goes to a log of its own, and it ends when its parent does."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import current_process
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from resnet.sweeps.gpus import stay_on_a_gpu

LOGS = "logs"  # folder in the sweep's
GRACE = 30.0  # seconds in which a job whose parent is gone may save
orphaned = threading.Event()


@contextmanager
def own_output() -> Iterator[None]:
    """Does nothing outside of a worker: the screen is then the job's own."""
    if not current_process().name.startswith("Loky"):
        yield
        return
    _watch_parent()
    directory = Path(HydraConfig.get().runtime.output_dir)
    log = directory.parent / LOGS / f"{directory.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    stay_on_a_gpu(log.parent)
    with log.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        if gpu := os.environ.get("CUDA_VISIBLE_DEVICES"):
            print(f"CUDA_VISIBLE_DEVICES={gpu}")
        try:
            yield
        finally:
            if orphaned.is_set():  # joblib would hand this process the next job
                os._exit(75)


def _watch_parent() -> None:
    """joblib's workers outlive a parent that was killed."""
    if not any(thread.name == "parent" for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(os.getppid(),), name="parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)  # the run saves
    time.sleep(GRACE)
    sys.stderr.flush()
    os._exit(75)
